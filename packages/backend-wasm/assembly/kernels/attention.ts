// attention: keeps the new keys under the dynamic mask, then scores, softmax and the weighted sum of values.
//
// A sequence's keys stand in pages of 16 slots. One layer of a page:
//
//   keys       f32 (kvHeads, headDim, 16)      turned, so that a vector holds four keys: no sum across a vector
//   values     f32 (kvHeads, headDim / 16, 16 slots, 16)
//   biases     f32 (biasHeads, 16)
//   positions  u32 (kvHeads, 16)              with a window only; NOBODY: free
//   evicted    u32 (kvHeads, 16)              the position whose token evicted the key; NOBODY: none
//   heap, ring, mark                           u32 (kvHeads, 16) each, as window.ts has them; with a window only
//
// Keys and values are panels as matmul has them (inner: headDim, and the slots), so that its tiles read them. Beside weights that
// are not f32 they are bf16, panels as in matmul-bf16.ts: two channels of a key to a word, two slots of a value. Biases are f32,
// made from values that were not rounded.
//
// Without a window, slot = position. With one, each key/value head keeps its own keys: token i sees the slots with
// position <= i < evicted. Evicted keys stay for JOURNAL more tokens, then the next key takes their slot; so a tile of at most
// JOURNAL tokens may be kept as a whole before any of them attends.
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import {
  ATTENTION_ROWS, JOURNAL, MODEL_BIAS_HEADS, MODEL_HEAD_DIM, MODEL_HEADS, MODEL_KV_HEADS, MODEL_PAGE_BIASES,
  MODEL_PAGE_EVICTED, MODEL_PAGE_LAYER, MODEL_PAGE_POSITIONS, MODEL_PAGE_VALUES, MODEL_CACHE_BF16, MODEL_SCORES, MODEL_VALUE_BYTES,
  MODEL_WINDOW, NOBODY, PANEL,
} from "../../src/descriptor";
import { exp, madd, sum } from "../simd";
import { panelBf16 } from "./matmul-bf16";
import { panelF32 } from "./matmul-f32";
import { narrowed } from "./pack";
import { evictLeast, freeSlot } from "./window";

/** Bytes of one number for each slot of a page. */
const PAGE_ROW: usize = PANEL * 4;

/** ln(1 + e^z), with torch's linear branch above 20. */
// @ts-ignore: decorator
@inline
function softplus(z: f64): f64 {
  return z > 20 ? z : Math.log1p(Math.exp(z));
}

/** delta (biasHeads), dt_proj of a token's values, becomes its biases, in place: exp(A · softplus(delta)). */
export function biases(delta: usize, A: usize, biasHeads: i32): void {
  for (let head = 0; head < biasHeads; head++) {
    const at = <usize>head << 2;
    store<f32>(delta + at, <f32>Math.exp(<f64>load<f32>(A + at) * softplus(<f64>load<f32>(delta + at))));
  }
}

/** To the nearest bf16, ties to even; a NaN stays one. */
// @ts-ignore: decorator
@inline
function bf16(value: f32): u16 {
  return isNaN<f32>(value) ? 0x7fc0 : narrowed(value);
}

/** Bytes of the keys of a head in a page. */
// @ts-ignore: decorator
@inline
function keyBytesOf(headDim: i32, half: bool): usize {
  return <usize>(half ? (headDim + 1) >> 1 : headDim) * PAGE_ROW;
}

/** Address of one layer of the page of a slot. */
// @ts-ignore: decorator
@inline
function layerOf(pages: usize, slot: i32, offset: usize): usize {
  return load<usize>(pages + ((slot / PANEL) << 2)) + offset;
}

/**
 * Keep the key of one token, for key/value heads [from, to) of one layer.
 *
 * @param reach slots that earlier tokens may stand in, also those a rewind has made later than `position`
 * @param key f32 (kvHeads, headDim), rotated
 * @param value f32 (kvHeads, headDim)
 * @param bias f32 (biasHeads)
 */
export function keep(
  model: usize, layer: i32, pages: usize, reach: i32, position: i32, key: usize, value: usize, bias: usize,
  from: i32, to: i32,
): void {
  const kvHeads = load<i32>(model, MODEL_KV_HEADS);
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const biasHeads = load<i32>(model, MODEL_BIAS_HEADS);
  const half = load<i32>(model, MODEL_CACHE_BF16) != 0;
  const keyBytes = keyBytesOf(headDim, half);
  const valueBytes = load<usize>(model, MODEL_VALUE_BYTES);
  const values = load<usize>(model, MODEL_PAGE_VALUES);
  const window = load<i32>(model, MODEL_WINDOW);
  const offset = <usize>layer * load<usize>(model, MODEL_PAGE_LAYER);
  const pageBiases = load<usize>(model, MODEL_PAGE_BIASES);
  const perHead = biasHeads / kvHeads;
  key += (<usize>from * headDim) << 2;
  value += (<usize>from * headDim) << 2;
  for (let head = from; head < to; head++) {
    const slot = window ? freeSlot(model, offset, pages, head, reach, position, window) : position;
    const page = layerOf(pages, slot, offset);
    const lane = <usize>(slot % PANEL);
    const keysTo = page + <usize>head * keyBytes + (lane << 2);
    const valuesTo = page + values + <usize>head * valueBytes;
    for (let index: usize = 0; index < <usize>headDim; index++) {
      const k = load<f32>(key + (index << 2));
      const v = load<f32>(value + (index << 2));
      const panel = index / PANEL;
      const column = (index % PANEL) << 2;
      if (half) {
        store<u16>(keysTo + (index >> 1) * PAGE_ROW + ((index & 1) << 1), bf16(k));
        store<u16>(valuesTo + (panel * PANEL + lane) / 2 * PAGE_ROW + column + ((lane & 1) << 1), bf16(v));
      } else {
        store<f32>(keysTo + index * PAGE_ROW, k);
        store<f32>(valuesTo + (panel * PANEL + lane) * PAGE_ROW + column, v);
      }
    }
    for (let each = 0; each < perHead; each++) {
      const which = <usize>(head * perHead + each);
      store<f32>(page + pageBiases + (which * PANEL + lane) * 4, load<f32>(bias + (which << 2)));
    }
    if (window) {
      const meta = page + (<usize>head * PANEL + lane) * 4;
      store<i32>(meta + load<usize>(model, MODEL_PAGE_POSITIONS), position);
      store<i32>(meta + load<usize>(model, MODEL_PAGE_EVICTED), NOBODY);
      if (position >= window) evictLeast(model, offset, pages, head, position, window, slot);
    }
    key += <usize>headDim << 2;
    value += <usize>headDim << 2;
  }
}

/**
 * What `count` tokens of one sequence, one after the other, read from the keys they see, for the query heads of key/value heads
 * [from, to) of one layer. All their keys have been kept.
 *
 *   score[h, j] = query[h] · key[j, g] / sqrt(headDim) + bias[j, c]
 *   out[h]      = Σ_j softmax_j(score[h, j]) · value[j, g]
 *
 * with g the key/value head and c the bias head of query head h. The query heads that share a key/value head, of several tokens,
 * are rows of one matrix: a page of keys, and of values, is read once for all of them, by the tiles of matmul. What a row gives
 * does not depend on the rows beside it: slots that it does not see weigh exactly 0.
 *
 * @param out f32 (count, heads, headDim), tokens `outStride` bytes apart
 * @param query f32 (count, heads, headDim), rotated, tokens `queryStride` bytes apart
 * @param position of the first token
 */
export function attention(
  out: usize, outStride: usize, query: usize, queryStride: usize, model: usize, layer: i32, pages: usize, reach: i32,
  position: i32, count: i32, from: i32, to: i32,
): void {
  const group = load<i32>(model, MODEL_HEADS) / load<i32>(model, MODEL_KV_HEADS);
  const most = max(1, ATTENTION_ROWS / group);
  for (let first = 0; first < count; first += most) {
    const tokens = min(most, count - first);
    for (let head = from; head < to; head++) {
      const at = (<usize>head * group * load<i32>(model, MODEL_HEAD_DIM)) << 2;
      attendHead(
        out + <usize>first * outStride + at, outStride, query + <usize>first * queryStride + at, queryStride, model, layer, pages,
        reach, position + first, tokens, head, group,
      );
    }
  }
}

/** One key/value head for so few tokens that their query heads are at most ATTENTION_ROWS, or of one token. */
function attendHead(
  out: usize, outStride: usize, query: usize, queryStride: usize, model: usize, layer: i32, pages: usize, reach: i32,
  position: i32, count: i32, head: i32, group: i32,
): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const headBytes = <usize>headDim << 2;
  const window = load<i32>(model, MODEL_WINDOW);
  const offset = <usize>layer * load<usize>(model, MODEL_PAGE_LAYER);
  const last = position + count - 1;
  const masked = window > 0 && last >= window;
  const slots = masked ? min(window + JOURNAL, max(reach, last + 1)) : last + 1;
  const used = (slots + PANEL - 1) / PANEL;
  const rows = count * group;
  // Scratch: the query heads close together, what they read, and their scores.
  const width = <usize>((headDim + PANEL - 1) & ~(PANEL - 1)) << 2;
  const queries = load<usize>(model, MODEL_SCORES);
  const mixed = queries + <usize>rows * width;
  const scores = mixed + <usize>rows * width;
  const stride = <usize>used * PAGE_ROW;
  for (let row = 0; row < rows; row++) {
    const source = query + <usize>(row / group) * queryStride + <usize>(row % group) * headBytes;
    memory.copy(queries + <usize>row * width, source, headBytes);
  }
  memory.fill(mixed, 0, <usize>rows * (width + stride)); // the scores stand behind
  const half = load<i32>(model, MODEL_CACHE_BF16) != 0;
  const keys = offset + <usize>head * keyBytesOf(headDim, half);
  for (let page = 0; page < used; page++) {
    const at = load<usize>(pages + (<usize>page << 2));
    const to = scores + <usize>page * PAGE_ROW;
    if (half) panelBf16(to, stride, queries, width, at + keys, PAGE_ROW, headDim, rows);
    else panelF32(to, stride, queries, width, at + keys, PAGE_ROW, headDim, rows);
    finish(scores + <usize>page * PAGE_ROW, stride, model, at + offset, page * PANEL, head, group, position, rows, masked);
  }
  for (let row = 0; row < rows; row++) softmax(scores + <usize>row * stride, used);

  const valueBytes = load<usize>(model, MODEL_VALUE_BYTES);
  const values = offset + load<usize>(model, MODEL_PAGE_VALUES) + <usize>head * valueBytes;
  const panelBytes: usize = half ? (PAGE_ROW * PANEL) / 2 : PAGE_ROW * PANEL;
  for (let page = 0; page < used; page++) {
    let at = load<usize>(pages + (<usize>page << 2)) + values;
    const weights = scores + <usize>page * PAGE_ROW;
    for (let column: usize = 0; column < width; column += PAGE_ROW) {
      if (half) panelBf16(mixed + column, width, weights, stride, at, PAGE_ROW, PANEL, rows);
      else panelF32(mixed + column, width, weights, stride, at, PAGE_ROW, PANEL, rows);
      at += panelBytes;
    }
  }
  for (let row = 0; row < rows; row++) {
    const target = out + <usize>(row / group) * outStride + <usize>(row % group) * headBytes;
    memory.copy(target, mixed + <usize>row * width, headBytes);
  }
}

/** The scores (rows, 16) of one page, from products to what softmax takes: -Infinity where a token does not see a slot. */
function finish(
  scores: usize, stride: usize, model: usize, page: usize, slot: i32, head: i32, group: i32, position: i32, rows: i32,
  masked: bool,
): void {
  const scale = f32x4.splat(<f32>1 / sqrt<f32>(<f32>load<i32>(model, MODEL_HEAD_DIM)));
  const nothing = f32x4.splat(-Infinity);
  const shared = load<i32>(model, MODEL_HEADS) / load<i32>(model, MODEL_BIAS_HEADS); // query heads that share a bias head
  const biases = page + load<usize>(model, MODEL_PAGE_BIASES);
  const positions = page + load<usize>(model, MODEL_PAGE_POSITIONS) + <usize>head * PAGE_ROW;
  const evicted = page + load<usize>(model, MODEL_PAGE_EVICTED) + <usize>head * PAGE_ROW;
  for (let row = 0; row < rows; row++) {
    const bias = biases + <usize>((head * group + row % group) / shared) * PAGE_ROW;
    const self = i32x4.splat(position + row / group);
    for (let at: usize = 0; at < PAGE_ROW; at += 16) {
      const value = madd(v128.load(scores + at), scale, v128.load(bias + at));
      const own = masked
        ? v128.load(positions + at)
        : i32x4.add(i32x4.splat(slot + (<i32>at >> 2)), i32x4(0, 1, 2, 3));
      let seen = i32x4.le_u(own, self);
      if (masked) seen = v128.and(seen, i32x4.gt_u(v128.load(evicted + at), self));
      v128.store(scores + at, v128.bitselect(value, nothing, seen));
    }
    scores += stride;
  }
}

/** scores (pages, 16) become their softmax. */
function softmax(scores: usize, pages: i32): void {
  const end = scores + <usize>pages * PAGE_ROW;
  let highest = f32x4.splat(-Infinity);
  for (let at = scores; at < end; at += 16) highest = f32x4.pmax(highest, v128.load(at));
  highest = f32x4.pmax(highest, v128.shuffle<i32>(highest, highest, 2, 3, 0, 1));
  highest = f32x4.pmax(highest, v128.shuffle<i32>(highest, highest, 1, 0, 3, 2));
  let total = f32x4.splat(0);
  for (let at = scores; at < end; at += 16) {
    const weight = exp(f32x4.sub(v128.load(at), highest));
    v128.store(at, weight);
    total = f32x4.add(total, weight);
  }
  const inverse = f32x4.splat(<f32>1 / sum(total));
  for (let at = scores; at < end; at += 16) v128.store(at, f32x4.mul(v128.load(at), inverse));
}
