// keep: a token's biases, and its keys and values into the cache (cache.ts).
import {
  DTYPE_BF16, DTYPE_Q8, MATRIX_FUSED, MODEL_BIAS_HEADS, MODEL_CACHE, MODEL_HEAD, MODEL_HEAD_DIM, MODEL_KV_HEADS, MODEL_PAGE_BIASES,
  MODEL_PAGE_EVICTED, MODEL_PAGE_HEAD, MODEL_PAGE_LAYER, MODEL_PAGE_POSITIONS, MODEL_PAGE_VALUES, MODEL_SCORES, MODEL_WINDOW, NOBODY,
  PAGE_SLOTS, PANEL,
} from "../../src/descriptor";
import { layerOf, PANEL_BYTES } from "./cache";
import { offset } from "./bytes";
import { keepKeyQ8, keepValueQ8 } from "./cache-q8";
import { panelBytes } from "./matmul";
import { narrowed, narrowedFour } from "./pack";
import { evictLeast, freeSlot } from "./window";

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
  const dtype = load<i32>(model, MODEL_CACHE);
  const fused = load<i32>(model, MODEL_HEAD + MATRIX_FUSED) != 0;
  const keyBytes = panelBytes(dtype, headDim);
  const headBytes = load<usize>(model, MODEL_PAGE_HEAD);
  const values = load<usize>(model, MODEL_PAGE_VALUES);
  const window = load<i32>(model, MODEL_WINDOW);
  const layerAt = <usize>layer * load<usize>(model, MODEL_PAGE_LAYER);
  const pageBiases = load<usize>(model, MODEL_PAGE_BIASES);
  const perHead = biasHeads / kvHeads;
  key += (<usize>from * headDim) << 2;
  value += (<usize>from * headDim) << 2;
  for (let head = from; head < to; head++) {
    const slot = window ? freeSlot(model, layerAt, pages, head, reach, position, window) : position;
    const page = layerOf(pages, slot, layerAt);
    const place = <usize>(slot % PAGE_SLOTS);
    const keysTo = page + <usize>head * headBytes + place / PANEL * keyBytes;
    const valuesTo = page + <usize>head * headBytes + values;
    if (ASC_FEATURE_RELAXED_SIMD && dtype == DTYPE_Q8) {
      keepKeyQ8(keysTo, place % PANEL, key, headDim, offset(fused), load<usize>(model, MODEL_SCORES));
      keepValueQ8(valuesTo, place, value, headDim, load<usize>(model, MODEL_SCORES));
    } else {
      keepWide(keysTo + ((place % PANEL) << 2), valuesTo, place, key, value, headDim, dtype == DTYPE_BF16);
    }
    for (let each = 0; each < perHead; each++) {
      const which = <usize>(head * perHead + each);
      store<f32>(page + pageBiases + (which * PAGE_SLOTS + place) * 4, load<f32>(bias + (which << 2)));
    }
    if (window) {
      const meta = page + (<usize>head * PAGE_SLOTS + place) * 4;
      store<i32>(meta + load<usize>(model, MODEL_PAGE_POSITIONS), position);
      store<i32>(meta + load<usize>(model, MODEL_PAGE_EVICTED), NOBODY);
      if (position >= window) evictLeast(model, layerAt, pages, head, position, window, slot);
    }
    key += <usize>headDim << 2;
    value += <usize>headDim << 2;
  }
}

/** A key into its column of a panel, and a value into the row of its slot, as f32 or bf16. */
function keepWide(keysTo: usize, valuesTo: usize, place: usize, key: usize, value: usize, headDim: i32, half: bool): void {
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
