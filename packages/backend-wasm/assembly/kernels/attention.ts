// attention: keeps the new keys under the dynamic mask, then scores, softmax and the weighted sum of values.
//
// A sequence's keys stand in pages of 16 slots. One layer of a page:
//
//   keys       f32 (kvHeads, headDim, 16)     turned, so that a vector holds four keys: no sum across a vector
//   values     f32 (kvHeads, 16, valueStride) valueStride: headDim padded to 4 numbers
//   biases     f32 (biasHeads, 16)
//   positions  u32 (kvHeads, 16)              with a window only; NOBODY: free
//   evicted    u32 (kvHeads, 16)              the position whose token evicted the key; NOBODY: none
//
// Without a window, slot = position. With one, each key/value head keeps its own keys: token i sees the slots with
// position <= i < evicted. Evicted keys stay for JOURNAL more tokens, then the next key takes their slot; so a tile of at most
// JOURNAL tokens may be kept as a whole before any of them attends.
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import {
  JOURNAL, LAYER_A, MODEL_BIAS_HEADS, MODEL_HEAD_DIM, MODEL_HEADS, MODEL_KV_HEADS, MODEL_PAGE_BIASES,
  MODEL_PAGE_EVICTED, MODEL_PAGE_LAYER, MODEL_PAGE_POSITIONS, MODEL_PAGE_VALUES, MODEL_SCORES, MODEL_VALUE_STRIDE,
  MODEL_WINDOW, NOBODY, PANEL,
} from "../../src/descriptor";
import { exp, madd, sum } from "../simd";

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
  const valueStride = load<usize>(model, MODEL_VALUE_STRIDE);
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
    let to = page + <usize>head * headDim * (PANEL * 4) + (lane << 2);
    for (let index = 0; index < headDim; index++) {
      store<f32>(to, load<f32>(key + (index << 2)));
      to += PANEL * 4;
    }
    memory.copy(page + values + (<usize>head * PANEL + lane) * valueStride, value, <usize>headDim << 2);
    for (let each = 0; each < perHead; each++) {
      const which = <usize>(head * perHead + each);
      store<f32>(page + pageBiases + (which * PANEL + lane) * 4, load<f32>(bias + (which << 2)));
    }
    if (window) {
      const meta = page + (<usize>head * PANEL + lane) * 4;
      store<i32>(meta + load<usize>(model, MODEL_PAGE_POSITIONS), position);
      store<i32>(meta + load<usize>(model, MODEL_PAGE_EVICTED), NOBODY);
      if (position >= window) evictLeast(model, offset, pages, head, reach, position, window);
    }
    key += <usize>headDim << 2;
    value += <usize>headDim << 2;
  }
}

/** The slot for the key at `position`: its own while there are fresh ones, else a free one or one the journal has done with. */
function freeSlot(
  model: usize, offset: usize, pages: usize, head: i32, reach: i32, position: i32, window: i32,
): i32 {
  const positions = load<usize>(model, MODEL_PAGE_POSITIONS) + <usize>head * (PANEL * 4) + offset;
  const evicted = load<usize>(model, MODEL_PAGE_EVICTED) + <usize>head * (PANEL * 4) + offset;
  const slots = window + JOURNAL;
  if (position < slots) {
    const at = load<usize>(pages + ((position / PANEL) << 2)) + (<usize>(position % PANEL) << 2);
    if (load<i32>(at + positions) == NOBODY) return position;
  }
  const used = min(slots, max(reach, position));
  for (let slot = 0; slot < used; slot++) {
    const at = load<usize>(pages + ((slot / PANEL) << 2)) + (<usize>(slot % PANEL) << 2);
    if (load<i32>(at + positions) == NOBODY) return slot;
    const by = load<i32>(at + evicted);
    if (by != NOBODY && by <= position - JOURNAL) return slot;
  }
  return unreachable(); // one key is evicted for each one kept beyond the window, so a slot comes free with every token
}

/** Of the window + 1 keys that the token at `position` would see, drop the least in (bias, position) order. */
function evictLeast(
  model: usize, offset: usize, pages: usize, head: i32, reach: i32, position: i32, window: i32,
): void {
  const positions = load<usize>(model, MODEL_PAGE_POSITIONS) + <usize>head * (PANEL * 4) + offset;
  const evicted = load<usize>(model, MODEL_PAGE_EVICTED) + <usize>head * (PANEL * 4) + offset;
  const pageBiases = load<usize>(model, MODEL_PAGE_BIASES) + <usize>head * (PANEL * 4) + offset;
  const slots = min(window + JOURNAL, max(reach, position + 1));
  let least: usize = 0;
  let leastBias: f32 = 0;
  let leastPosition = 0;
  for (let slot = 0; slot < slots; slot++) {
    const at = load<usize>(pages + ((slot / PANEL) << 2)) + (<usize>(slot % PANEL) << 2);
    const own = load<i32>(at + positions);
    if (own == NOBODY || load<i32>(at + evicted) != NOBODY) continue;
    const bias = load<f32>(at + pageBiases);
    if (!least || bias < leastBias || (bias == leastBias && own < leastPosition)) {
      least = at;
      leastBias = bias;
      leastPosition = own;
    }
  }
  store<i32>(least + evicted, position);
}

/**
 * What one token reads from the keys it sees, for the query heads of key/value heads [from, to) of one layer.
 *
 *   score[h, j] = query[h] · key[j, g] / sqrt(headDim) + bias[j, c]
 *   out[h]      = Σ_j softmax_j(score[h, j]) · value[j, g]
 *
 * with g the key/value head and c the bias head of query head h.
 *
 * @param out f32 (heads, headDim)
 * @param query f32 (heads, headDim), rotated
 */
export function attention(
  out: usize, query: usize, model: usize, layer: i32, pages: usize, reach: i32, position: i32, from: i32, to: i32,
): void {
  const heads = load<i32>(model, MODEL_HEADS);
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const group = heads / load<i32>(model, MODEL_KV_HEADS);
  const shared = heads / load<i32>(model, MODEL_BIAS_HEADS); // query heads that share a bias head
  const window = load<i32>(model, MODEL_WINDOW);
  const offset = <usize>layer * load<usize>(model, MODEL_PAGE_LAYER);
  const scores = load<usize>(model, MODEL_SCORES);
  const masked = window > 0 && position >= window;
  const slots = masked ? min(window + JOURNAL, max(reach, position + 1)) : position + 1;
  query += (<usize>from * group * headDim) << 2;
  out += (<usize>from * group * headDim) << 2;
  for (let head = from * group; head < to * group; head++) {
    score(scores, query, model, offset, pages, head / group, head / shared, headDim, slots, position, masked);
    const total = softmax(scores, (slots + PANEL - 1) / PANEL);
    weigh(out, scores, model, offset, pages, head / group, headDim, slots, total);
    query += <usize>headDim << 2;
    out += <usize>headDim << 2;
  }
}

/** scores: f32 (slots, padded to 16); -Infinity where the token at `position` does not see the slot. */
function score(
  scores: usize, query: usize, model: usize, offset: usize, pages: usize,
  head: i32, biasHead: i32, headDim: i32, slots: i32, position: i32, masked: bool,
): void {
  const scale = f32x4.splat(<f32>1 / sqrt<f32>(<f32>headDim));
  const nothing = f32x4.splat(-Infinity);
  const keys = offset + <usize>head * headDim * (PANEL * 4);
  const pageBiases = offset + load<usize>(model, MODEL_PAGE_BIASES) + <usize>biasHead * (PANEL * 4);
  const positions = offset + load<usize>(model, MODEL_PAGE_POSITIONS) + <usize>head * (PANEL * 4);
  const evicted = offset + load<usize>(model, MODEL_PAGE_EVICTED) + <usize>head * (PANEL * 4);
  const self = i32x4.splat(position);
  for (let slot = 0; slot < slots; slot += PANEL) {
    const page = load<usize>(pages);
    pages += 4;
    dot16(scores, query, page + keys, headDim);
    for (let at: usize = 0; at < <usize>PANEL * 4; at += 16) {
      let value = madd(v128.load(scores + at), scale, v128.load(page + pageBiases + at));
      const own = masked
        ? v128.load(page + positions + at)
        : i32x4.add(i32x4.splat(slot + (<i32>at >> 2)), i32x4(0, 1, 2, 3));
      let seen = i32x4.le_u(own, self);
      if (masked) seen = v128.and(seen, i32x4.gt_u(v128.load(page + evicted + at), self));
      value = v128.bitselect(value, nothing, seen);
      v128.store(scores + at, value);
    }
    scores += PANEL * 4;
  }
}

/** out (16) = keys (headDim, 16) · query (headDim). */
function dot16(out: usize, query: usize, keys: usize, headDim: i32): void {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  do {
    const q = v128.load32_splat(query);
    s0 = madd(q, v128.load(keys), s0);
    s1 = madd(q, v128.load(keys, 16), s1);
    s2 = madd(q, v128.load(keys, 32), s2);
    s3 = madd(q, v128.load(keys, 48), s3);
    query += 4;
    keys += PANEL * 4;
  } while (--headDim);
  v128.store(out, s0);
  v128.store(out, s1, 16);
  v128.store(out, s2, 32);
  v128.store(out, s3, 48);
}

/** scores (pages, 16) become e^(score - largest); returns their sum. */
function softmax(scores: usize, pages: i32): f32 {
  const end = scores + <usize>pages * (PANEL * 4);
  let highest = f32x4.splat(-Infinity);
  for (let at = scores; at < end; at += 16) highest = f32x4.max(highest, v128.load(at));
  highest = f32x4.max(highest, v128.shuffle<i32>(highest, highest, 2, 3, 0, 1));
  highest = f32x4.max(highest, v128.shuffle<i32>(highest, highest, 1, 0, 3, 2));
  let total = f32x4.splat(0);
  for (let at = scores; at < end; at += 16) {
    const weight = exp(f32x4.sub(v128.load(at), highest));
    v128.store(at, weight);
    total = f32x4.add(total, weight);
  }
  return sum(total);
}

/** out (headDim) = Σ weight · value / total, 16 numbers at a time over all slots, then 4. */
function weigh(
  out: usize, weights: usize, model: usize, offset: usize, pages: usize,
  head: i32, headDim: i32, slots: i32, total: f32,
): void {
  const stride = load<usize>(model, MODEL_VALUE_STRIDE);
  const values = offset + load<usize>(model, MODEL_PAGE_VALUES) + <usize>head * PANEL * stride;
  const inverse = f32x4.splat(<f32>1 / total);
  let at: usize = 0;
  for (; at + 64 <= stride; at += 64) weigh16(out + at, weights, values + at, pages, stride, slots, inverse);
  for (; at < stride; at += 16) {
    const sums = weigh4(weights, values + at, pages, stride, slots, inverse);
    // Nothing past the head's end is touched: the next head may be another thread's.
    if (at + 16 <= (<usize>headDim << 2)) v128.store(out + at, sums);
    else put(out + at, sums, headDim & 3);
  }
}

function weigh16(
  out: usize, weights: usize, values: usize, pages: usize, stride: usize, slots: i32, inverse: v128,
): void {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  do {
    let v = load<usize>(pages) + values;
    pages += 4;
    let count = min(slots, PANEL);
    slots -= count;
    do {
      const w = v128.load32_splat(weights);
      s0 = madd(w, v128.load(v), s0);
      s1 = madd(w, v128.load(v, 16), s1);
      s2 = madd(w, v128.load(v, 32), s2);
      s3 = madd(w, v128.load(v, 48), s3);
      weights += 4;
      v += stride;
    } while (--count);
  } while (slots > 0);
  v128.store(out, f32x4.mul(s0, inverse));
  v128.store(out, f32x4.mul(s1, inverse), 16);
  v128.store(out, f32x4.mul(s2, inverse), 32);
  v128.store(out, f32x4.mul(s3, inverse), 48);
}

/** The first `count` lanes, of 1, 2 or 3. */
function put(out: usize, lanes: v128, count: i32): void {
  v128.store32_lane(out, lanes, 0);
  if (count > 1) v128.store32_lane(out, lanes, 1, 4);
  if (count > 2) v128.store32_lane(out, lanes, 2, 8);
}

function weigh4(weights: usize, values: usize, pages: usize, stride: usize, slots: i32, inverse: v128): v128 {
  let s0 = f32x4.splat(0);
  do {
    let v = load<usize>(pages) + values;
    pages += 4;
    let count = min(slots, PANEL);
    slots -= count;
    do {
      s0 = madd(v128.load32_splat(weights), v128.load(v), s0);
      weights += 4;
      v += stride;
    } while (--count);
  } while (slots > 0);
  return f32x4.mul(s0, inverse);
}
