// attention: keeps the new keys under the dynamic mask, then scores, softmax and the weighted sum of values.
//
// A sequence's keys stand in pages of PAGE_SLOTS = 64 slots. One layer of a page:
//
//   for each key/value head:
//     keys     f32 (4, headDim, 16)           turned, so that a vector holds four keys: no sum across a vector
//     values   f32 (headDim / 16, 64 slots, 16)
//   biases     f32 (biasHeads, 64)
//   positions  u32 (kvHeads, 64)              with a window only; NOBODY: free
//   evicted    u32 (kvHeads, 64)              the position whose token evicted the key; NOBODY: none
//   heap, ring, mark                           u32 (kvHeads, 64) each, as window.ts has them; with a window only
//
// A page's keys and values of a head are read one behind the other: 32 KiB in a row beside bf16 heads of 128, since memory is slow
// to begin and fast to go on. Both are panels as matmul has them (inner: headDim, and the slots), so that its tiles read them. Beside weights that
// are not f32 they are bf16, panels as in matmul-bf16.ts: two channels of a key to a word, two slots of a value. Biases are f32,
// made from values that were not rounded.
//
// Without a window, slot = position. With one, each key/value head keeps its own keys: token i sees the slots with
// position <= i < evicted. Evicted keys stay for JOURNAL more tokens, then the next key takes their slot; so a tile of at most
// JOURNAL tokens may be kept as a whole before any of them attends.
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import {
  ATTENTION_ROWS, JOURNAL, MATRIX_WIDE, MODEL_BIAS_HEADS, MODEL_HEAD, MODEL_HEAD_DIM, MODEL_HEADS, MODEL_KV_HEADS, MODEL_PAGE_BIASES,
  MODEL_PAGE_EVICTED, MODEL_PAGE_HEAD, MODEL_PAGE_LAYER, MODEL_PAGE_POSITIONS, MODEL_PAGE_VALUES, MODEL_CACHE_BF16, MODEL_PARTS,
  MODEL_SCORES, MODEL_WINDOW, NOBODY, PAGE_SLOTS, PANEL,
} from "../../src/descriptor";
import { exp, madd, sum } from "../simd";
import { panelBf16 } from "./matmul-bf16";
import { panelF32 } from "./matmul-f32";
import { narrowed, narrowedFour } from "./pack";
import { evictLeast, freeSlot } from "./window";

/** Bytes of one number for each slot of a page. */
const PAGE_ROW: usize = PAGE_SLOTS * 4;
/** Bytes of 16 numbers. */
const PANEL_BYTES: usize = PANEL * 4;
/** What a row has read so far is f32 (headDim, padded), then the highest score and the sum of the weights, in 64 bytes. */
const STATE_TAIL: usize = 64;
/** Lower than any score, and a number: what a row that sees nothing has as its highest. */
const LOWEST: f32 = -3.4028235e38;

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

/** The same for eight numbers. */
// @ts-ignore: decorator
@inline
function eightBf16(x: usize): v128 {
  return i16x8.narrow_i32x4_u(fourBf16(v128.load(x)), fourBf16(v128.load(x, 16)));
}

// @ts-ignore: decorator
@inline
function fourBf16(v: v128): v128 {
  return v128.bitselect(narrowedFour(v), i32x4.splat(0x7fc0), f32x4.eq(v, v));
}

/** Bytes of 16 keys of a head. */
// @ts-ignore: decorator
@inline
function keyPanel(headDim: i32, half: bool): usize {
  return <usize>(half ? (headDim + 1) >> 1 : headDim) * PANEL_BYTES;
}

/** Address of one layer of the page of a slot. */
// @ts-ignore: decorator
@inline
function layerOf(pages: usize, slot: i32, offset: usize): usize {
  return load<usize>(pages + ((slot / PAGE_SLOTS) << 2)) + offset;
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
  const keyBytes = keyPanel(headDim, half);
  const headBytes = load<usize>(model, MODEL_PAGE_HEAD);
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
    const place = <usize>(slot % PAGE_SLOTS);
    const keysTo = page + <usize>head * headBytes + place / PANEL * keyBytes + ((place % PANEL) << 2);
    const valuesTo = page + <usize>head * headBytes + values;
    let index: usize = 0;
    if (half) {
      for (; index + 8 <= <usize>headDim; index += 8) {
        const keyTo = keysTo + (index >> 1) * PANEL_BYTES;
        const k = eightBf16(key + (index << 2));
        v128.store_lane<i32>(keyTo, k, 0);
        v128.store_lane<i32>(keyTo, k, 1, 64);
        v128.store_lane<i32>(keyTo, k, 2, 128);
        v128.store_lane<i32>(keyTo, k, 3, 192);
        const valueTo = valuesTo + (index / PANEL * PAGE_SLOTS + place) / 2 * PANEL_BYTES + ((index % PANEL) << 2) + ((place & 1) << 1);
        const v = eightBf16(value + (index << 2));
        v128.store_lane<i16>(valueTo, v, 0);
        v128.store_lane<i16>(valueTo, v, 1, 4);
        v128.store_lane<i16>(valueTo, v, 2, 8);
        v128.store_lane<i16>(valueTo, v, 3, 12);
        v128.store_lane<i16>(valueTo, v, 4, 16);
        v128.store_lane<i16>(valueTo, v, 5, 20);
        v128.store_lane<i16>(valueTo, v, 6, 24);
        v128.store_lane<i16>(valueTo, v, 7, 28);
      }
    }
    for (; index < <usize>headDim; index++) {
      const k = load<f32>(key + (index << 2));
      const v = load<f32>(value + (index << 2));
      const panel = index / PANEL;
      const column = (index % PANEL) << 2;
      if (half) {
        store<u16>(keysTo + (index >> 1) * PANEL_BYTES + ((index & 1) << 1), bf16(k));
        store<u16>(valuesTo + (panel * PAGE_SLOTS + place) / 2 * PANEL_BYTES + column + ((place & 1) << 1), bf16(v));
      } else {
        store<f32>(keysTo + index * PANEL_BYTES, k);
        store<f32>(valuesTo + (panel * PAGE_SLOTS + place) * PANEL_BYTES + column, v);
      }
    }
    for (let each = 0; each < perHead; each++) {
      const which = <usize>(head * perHead + each);
      store<f32>(page + pageBiases + (which * PAGE_SLOTS + place) * 4, load<f32>(bias + (which << 2)));
    }
    if (window) {
      const meta = page + (<usize>head * PAGE_SLOTS + place) * 4;
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
 * The softmax is taken page by page: each page gives a highest score, a sum of weights and a sum of values, and these are added
 * up in the order of the pages. So it is the same whoever computes a page: see attendPages() and gather().
 *
 * @param out f32 (count, heads, headDim), tokens `outStride` bytes apart
 * @param query f32 (count, heads, headDim), rotated, tokens `queryStride` bytes apart
 * @param position of the first token
 */
export function attention(
  out: usize, outStride: usize, query: usize, queryStride: usize, model: usize, layer: i32, pages: usize, reach: i32,
  position: i32, count: i32, from: i32, to: i32,
): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const headBytes = <usize>headDim << 2;
  const group = load<i32>(model, MODEL_HEADS) / load<i32>(model, MODEL_KV_HEADS);
  const most = max(1, ATTENTION_ROWS / group);
  const width = padded(headDim);
  const own = load<usize>(model, MODEL_SCORES);
  for (let first = 0; first < count; first += most) {
    const tokens = min(most, count - first);
    const last = position + first + tokens - 1;
    const slots = slotsSeen(model, reach, last);
    const used = pagesOf(slots);
    const rows = tokens * group;
    const state = own + <usize>rows * width;
    const part = state + <usize>rows * (width + STATE_TAIL);
    const scores = part + <usize>rows * (width + STATE_TAIL);
    for (let head = from; head < to; head++) {
      const at = <usize>head * group * headBytes;
      const source = query + <usize>first * queryStride + at;
      for (let row = 0; row < rows; row++) {
        memory.copy(own + <usize>row * width, source + <usize>(row / group) * queryStride + <usize>(row % group) * headBytes, headBytes);
      }
      clear(state, rows, width);
      for (let page = 0; page < used; page++) {
        readPage(part, own, scores, model, layer, pages, page, slots, position + first, last, rows, head, group);
        merge(state, part, rows, width);
      }
      const target = out + <usize>first * outStride + at;
      for (let row = 0; row < rows; row++) {
        finish(target + <usize>(row / group) * outStride + <usize>(row % group) * headBytes, state + <usize>row * (width + STATE_TAIL), headDim);
      }
    }
  }
}

/** What one token reads from pages [from, to) of those it sees, for all query heads: to MODEL_PARTS, f32 (pages, heads, state).
 *  Threads share the pages of a token so; gather() then adds them up. */
export function attendPages(
  query: usize, model: usize, layer: i32, pages: usize, reach: i32, position: i32, thread: i32, threads: i32,
): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const kvHeads = load<i32>(model, MODEL_KV_HEADS);
  const heads = load<i32>(model, MODEL_HEADS);
  const group = heads / kvHeads;
  const width = padded(headDim);
  const own = load<usize>(model, MODEL_SCORES);
  const scores = own + <usize>group * (width + 2 * (width + STATE_TAIL));
  const slots = slotsSeen(model, reach, position);
  const used = pagesOf(slots);
  const to = used * (thread + 1) / threads;
  for (let page = used * thread / threads; page < to; page++) {
    for (let head = 0; head < kvHeads; head++) {
      for (let row = 0; row < group; row++) {
        memory.copy(own + <usize>row * width, query + ((<usize>(head * group + row) * headDim) << 2), <usize>headDim << 2);
      }
      const part = load<usize>(model, MODEL_PARTS) + <usize>(page * heads + head * group) * (width + STATE_TAIL);
      readPage(part, own, scores, model, layer, pages, page, slots, position, position, group, head, group);
    }
  }
}

/** The parts of attendPages() in the order of their pages, for query heads [from, to): out f32 (heads, headDim). */
export function gather(out: usize, model: usize, reach: i32, position: i32, from: i32, to: i32): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const heads = load<i32>(model, MODEL_HEADS);
  const width = padded(headDim);
  const state = load<usize>(model, MODEL_SCORES);
  const used = pagesOf(slotsSeen(model, reach, position));
  for (let head = from; head < to; head++) {
    clear(state, 1, width);
    for (let page = 0; page < used; page++) {
      merge(state, load<usize>(model, MODEL_PARTS) + <usize>(page * heads + head) * (width + STATE_TAIL), 1, width);
    }
    finish(out + ((<usize>head * headDim) << 2), state, headDim);
  }
}

/** Bytes of a head, padded to whole panels. */
// @ts-ignore: decorator
@inline
function padded(headDim: i32): usize {
  return <usize>((headDim + PANEL - 1) & ~(PANEL - 1)) << 2;
}

/** Whether slots are no longer positions for some token up to `last`. */
// @ts-ignore: decorator
@inline
function isMasked(model: usize, last: i32): bool {
  const window = load<i32>(model, MODEL_WINDOW);
  return window > 0 && last >= window;
}

/** Slots in which the token at `last`, or one before it, may see a key. */
// @ts-ignore: decorator
@inline
function slotsSeen(model: usize, reach: i32, last: i32): i32 {
  return isMasked(model, last) ? min(load<i32>(model, MODEL_WINDOW) + JOURNAL, max(reach, last + 1)) : last + 1;
}

// @ts-ignore: decorator
@inline
function pagesOf(slots: i32): i32 {
  return (slots + PAGE_SLOTS - 1) / PAGE_SLOTS;
}

/** Nothing read yet. */
function clear(state: usize, rows: i32, width: usize): void {
  memory.fill(state, 0, <usize>rows * (width + STATE_TAIL));
  for (let row = 0; row < rows; row++) {
    state += width;
    store<f32>(state, LOWEST);
    state += STATE_TAIL;
  }
}

/** What rows (query heads of one key/value head, `group` to a token) read from one page: `part`, a state for each.
 *
 * @param slots that any of them sees
 * @param position of the first token; `last`: of the last
 */
function readPage(
  part: usize, queries: usize, scores: usize, model: usize, layer: i32, pages: usize, page: i32, slots: i32, position: i32,
  last: i32, rows: i32, head: i32, group: i32,
): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const width = padded(headDim);
  const half = load<i32>(model, MODEL_CACHE_BF16) != 0;
  const wide = load<i32>(model, MODEL_HEAD + MATRIX_WIDE) != 0;
  const keyBytes = keyPanel(headDim, half);
  const at = load<usize>(pages + (<usize>page << 2)) + <usize>layer * load<usize>(model, MODEL_PAGE_LAYER);
  const first = page * PAGE_SLOTS;
  const panels = (min(PAGE_SLOTS, slots - first) + PANEL - 1) / PANEL;
  clear(part, rows, width);
  memory.fill(scores, 0, <usize>rows * PAGE_ROW);
  let keys = at + <usize>head * load<usize>(model, MODEL_PAGE_HEAD);
  const values = keys + load<usize>(model, MODEL_PAGE_VALUES);
  for (let panel = 0; panel < panels; panel++) {
    const to = scores + <usize>panel * PANEL_BYTES;
    if (half) panelBf16(to, PAGE_ROW, queries, width, keys, PANEL_BYTES, headDim, rows, wide);
    else panelF32(to, PAGE_ROW, queries, width, keys, PANEL_BYTES, headDim, rows, wide);
    keys += keyBytes;
  }
  weigh(part + width, width + STATE_TAIL, scores, panels, model, at, first, head, group, position, rows, isMasked(model, last));
  const panelBytes: usize = half ? (PAGE_ROW * PANEL) / 2 : PAGE_ROW * PANEL;
  let from = values;
  for (let column: usize = 0; column < width; column += PANEL_BYTES) {
    if (half) panelBf16(part + column, width + STATE_TAIL, scores, PAGE_ROW, from, PANEL_BYTES, panels * PANEL, rows, wide);
    else panelF32(part + column, width + STATE_TAIL, scores, PAGE_ROW, from, PANEL_BYTES, panels * PANEL, rows, wide);
    from += panelBytes;
  }
}

/** The scores (rows, 64) of a page from products to weights, e^(score - highest), 0 where a token does not see a slot; the highest
 *  of a row, and the sum of its weights, to its tail. */
function weigh(
  tail: usize, tailStride: usize, scores: usize, panels: i32, model: usize, page: usize, slot: i32, head: i32, group: i32,
  position: i32, rows: i32, masked: bool,
): void {
  const scale = f32x4.splat(<f32>1 / sqrt<f32>(<f32>load<i32>(model, MODEL_HEAD_DIM)));
  const nothing = f32x4.splat(-Infinity);
  const shared = load<i32>(model, MODEL_HEADS) / load<i32>(model, MODEL_BIAS_HEADS); // query heads that share a bias head
  const biases = page + load<usize>(model, MODEL_PAGE_BIASES);
  const positions = page + load<usize>(model, MODEL_PAGE_POSITIONS) + <usize>head * PAGE_ROW;
  const evicted = page + load<usize>(model, MODEL_PAGE_EVICTED) + <usize>head * PAGE_ROW;
  const bytes = <usize>panels * PANEL_BYTES;
  for (let row = 0; row < rows; row++) {
    const bias = biases + <usize>((head * group + row % group) / shared) * PAGE_ROW;
    const own = position + row / group;
    const self = i32x4.splat(own);
    let highest = f32x4.splat(LOWEST);
    if (!masked && slot + panels * PANEL <= own + 1) {
      let other = highest;
      for (let at: usize = 0; at < bytes; at += 32) {
        const low = madd(v128.load(scores + at), scale, v128.load(bias + at));
        const high = madd(v128.load(scores + at, 16), scale, v128.load(bias + at, 16));
        v128.store(scores + at, low);
        v128.store(scores + at, high, 16);
        highest = f32x4.pmax(highest, low);
        other = f32x4.pmax(other, high);
      }
      highest = f32x4.pmax(highest, other);
    } else {
      for (let at: usize = 0; at < bytes; at += 16) {
        const value = madd(v128.load(scores + at), scale, v128.load(bias + at));
        const who = masked
          ? v128.load(positions + at)
          : i32x4.add(i32x4.splat(slot + (<i32>at >> 2)), i32x4(0, 1, 2, 3));
        let seen = i32x4.le_u(who, self);
        if (masked) seen = v128.and(seen, i32x4.gt_u(v128.load(evicted + at), self));
        const score = v128.bitselect(value, nothing, seen);
        highest = f32x4.pmax(highest, score);
        v128.store(scores + at, score);
      }
    }
    highest = f32x4.pmax(highest, v128.shuffle<i32>(highest, highest, 2, 3, 0, 1));
    highest = f32x4.pmax(highest, v128.shuffle<i32>(highest, highest, 1, 0, 3, 2));
    let even = f32x4.splat(0);
    let odd = f32x4.splat(0);
    // Two vectors at once: they share the constants of exp, or become one of 256 bits.
    for (let at: usize = 0; at < bytes; at += 32) {
      const low = exp(f32x4.sub(v128.load(scores + at), highest));
      const high = exp(f32x4.sub(v128.load(scores + at, 16), highest));
      v128.store(scores + at, low);
      v128.store(scores + at, high, 16);
      even = f32x4.add(even, low);
      odd = f32x4.add(odd, high);
    }
    store<f32>(tail, f32x4.extract_lane(highest, 0));
    store<f32>(tail, sum(f32x4.add(even, odd)), 4);
    scores += PAGE_ROW;
    tail += tailStride;
  }
}

/** state += part, both brought to the higher of their highest scores. A part that saw nothing changes no bit: it comes in as
 *  1 · state + 0 · part. */
function merge(state: usize, part: usize, rows: i32, width: usize): void {
  for (let row = 0; row < rows; row++) {
    const highest = f32x4.pmax(v128.load32_splat(state + width), v128.load32_splat(part + width));
    const a = exp(f32x4.sub(v128.load32_splat(state + width), highest));
    const b = exp(f32x4.sub(v128.load32_splat(part + width), highest));
    for (let at: usize = 0; at < width; at += 32) {
      const low = madd(a, v128.load(state + at), f32x4.mul(b, v128.load(part + at)));
      const high = madd(a, v128.load(state + at, 16), f32x4.mul(b, v128.load(part + at, 16)));
      v128.store(state + at, low);
      v128.store(state + at, high, 16);
    }
    const total = madd(a, v128.load32_splat(state + width, 4), f32x4.mul(b, v128.load32_splat(part + width, 4)));
    store<f32>(state + width, f32x4.extract_lane(highest, 0));
    store<f32>(state + width, f32x4.extract_lane(total, 0), 4);
    state += width + STATE_TAIL;
    part += width + STATE_TAIL;
  }
}

/** out (headDim) = the sum of values ÷ the sum of weights. */
function finish(out: usize, state: usize, headDim: i32): void {
  const inverse = <f32>1 / load<f32>(state + padded(headDim), 4);
  const end = out + (<usize>headDim << 2);
  for (; out + 16 <= end; out += 16) {
    v128.store(out, f32x4.mul(v128.load(state), f32x4.splat(inverse)));
    state += 16;
  }
  for (; out < end; out += 4) {
    store<f32>(out, load<f32>(state) * inverse);
    state += 4;
  }
}
