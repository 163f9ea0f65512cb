// attention-q8: values in bytes (cache-q8.ts) by the weights of the softmax, for the relaxed build.
//
// A weight times the scale of its value is rounded to 0 to 127, relative to the largest of its block of 32 slots. So it may be the second
// factor of relaxed_dot as every engine has it, and a value, with its sign, the first: two products stay below 2^15 and a block is an exact
// integer, whichever instructions compute it. The sum of the weights, which the sum of values is divided by, is of those that were not rounded.
import { BLOCK, PANEL } from "../../src/descriptor";
import { madd, storeFour, storeTwo } from "../simd";
import { ONES } from "./bytes";
import { PAGE_ROW, PANEL_BYTES } from "./cache";
import { MAGIC, sixteen } from "./inputs";

/** A block of weights: 32 bytes, f32 scale. */
const WEIGHT_BYTES: usize = BLOCK + 4;
/** The largest code of a weight. */
const MOST: f32 = 127;
/** The largest f32: what a block of weights near nothing is multiplied by. */
const HUGE: f32 = 3.4028235e38;

/**
 * The weights (rows, 64) of a page, in place, to blocks of codes, two for each row where more than 32 slots are seen.
 *
 * @param scales f32 (64), of the values
 * @param panels of 16 slots that are seen
 */
export function roundWeights(weights: usize, scales: usize, panels: i32, rows: i32): void {
  const zero = f32x4.splat(0);
  const magic = v128.load32_splat(MAGIC);
  const bytes = <usize>panels * PANEL_BYTES;
  for (let row = 0; row < rows; row++) {
    // An odd panel ends in the middle of a block: slots behind it weigh nothing.
    if (panels & 1) memory.fill(weights + bytes, 0, PANEL_BYTES);
    let to = weights;
    for (let from: usize = 0; from < bytes; from += BLOCK * 4) {
      let low = zero;
      let high = zero;
      for (let at = from; at < from + BLOCK * 4; at += 32) {
        const first = scaled(weights + at, scales + at, zero);
        const second = scaled(weights + at + 16, scales + at + 16, zero);
        storeTwo(weights + at, first, second);
        // As integers, so that the NaN of a value is the largest; that of a weight is in the sum of the weights.
        low = i32x4.max_s(low, first);
        high = i32x4.max_s(high, second);
      }
      low = i32x4.max_s(low, high);
      low = i32x4.max_s(low, v128.shuffle<i32>(low, low, 2, 3, 0, 1));
      low = i32x4.max_s(low, v128.shuffle<i32>(low, low, 1, 0, 3, 2));
      const largest = f32x4.extract_lane(low, 0);
      const factor = f32x4.splat(largest > 0 ? min(MOST / largest, HUGE) : 0);
      for (let at: usize = 0; at < <usize>BLOCK * 4; at += 64) {
        v128.store(to + (at >> 2), sixteen(weights + from + at, factor, magic));
      }
      store<f32>(to, largest / MOST, BLOCK);
      to += WEIGHT_BYTES;
    }
    weights += PAGE_ROW;
  }
}

/** Weights times the scales of their values; 0 where a weight is 0, whatever stands in a slot that is not seen. */
// @ts-ignore: decorator
@inline
function scaled(weights: usize, scales: usize, zero: v128): v128 {
  const weight = v128.load(weights);
  return v128.andnot(f32x4.mul(weight, v128.load(scales)), f32x4.eq(weight, zero));
}

/**
 * out (rows, 16) += weights · values, for 16 channels.
 *
 * @param x as roundWeights() leaves it
 * @param panels of 16 slots that are seen
 */
export function panelValuesQ8(
  out: usize, outStride: usize, x: usize, values: usize, panels: i32, rows: i32, wide: bool, fused: bool,
): void {
  const blocks = (panels + 1) >> 1;
  if (wide && !fused) {
    for (; rows >= 4; rows -= 4) {
      valuesTile4x16(out, outStride, x, values, blocks);
      out += 4 * outStride;
      x += 4 * PAGE_ROW;
    }
  }
  for (; rows >= 2; rows -= 2) {
    if (fused) valuesFused2x16(out, outStride, x, values, blocks);
    else valuesTile2x16(out, outStride, x, values, blocks);
    out += 2 * outStride;
    x += 2 * PAGE_ROW;
  }
  if (rows == 0) return;
  if (fused) valuesFused1x16(out, x, values, blocks);
  else valuesTile1x16(out, x, values, blocks);
}

/** sum + the dots of the values of four slots, in four channels, with their weights. T as in matmul-q8-dots.ts. */
// @ts-ignore: decorator
@inline
function dot<T>(sum: v128, values: v128, weights: v128, ones: v128): v128 {
  if (sizeof<T>() == 4) return i32x4.relaxed_dot_i8x16_i7x16_add_s(values, weights, sum);
  return i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(values, weights), ones));
}

/** out (16) += a block's dots · the scale of its weights. */
// @ts-ignore: decorator
@inline
function add(out: usize, s0: v128, s1: v128, s2: v128, s3: v128, factor: v128): void {
  const o0 = madd(f32x4.convert_i32x4_s(s0), factor, v128.load(out));
  const o1 = madd(f32x4.convert_i32x4_s(s1), factor, v128.load(out, 16));
  const o2 = madd(f32x4.convert_i32x4_s(s2), factor, v128.load(out, 32));
  const o3 = madd(f32x4.convert_i32x4_s(s3), factor, v128.load(out, 48));
  storeFour(out, o0, o1, o2, o3);
}

function valuesTile1x16(out: usize, x: usize, values: usize, blocks: i32): void {
  tile1x16<i16>(out, x, values, blocks);
}

function valuesFused1x16(out: usize, x: usize, values: usize, blocks: i32): void {
  tile1x16<i32>(out, x, values, blocks);
}

function valuesTile2x16(out: usize, outStride: usize, x: usize, values: usize, blocks: i32): void {
  tile2x16<i16>(out, outStride, x, values, blocks);
}

function valuesFused2x16(out: usize, outStride: usize, x: usize, values: usize, blocks: i32): void {
  tile2x16<i32>(out, outStride, x, values, blocks);
}

// @ts-ignore: decorator
@inline
function tile1x16<T>(out: usize, x: usize, values: usize, blocks: i32): void {
  const ones = v128.load32_splat(ONES);
  do {
    let s0 = i32x4.splat(0);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    let count = 8;
    do {
      const a = v128.load32_splat(x);
      s0 = dot<T>(s0, v128.load(values), a, ones);
      s1 = dot<T>(s1, v128.load(values, 16), a, ones);
      s2 = dot<T>(s2, v128.load(values, 32), a, ones);
      s3 = dot<T>(s3, v128.load(values, 48), a, ones);
      x += 4;
      values += PANEL_BYTES;
    } while (--count);
    add(out, s0, s1, s2, s3, v128.load32_splat(x));
    x += WEIGHT_BYTES - BLOCK;
  } while (--blocks);
}

// @ts-ignore: decorator
@inline
function tile2x16<T>(out: usize, outStride: usize, x: usize, values: usize, blocks: i32): void {
  const ones = v128.load32_splat(ONES);
  const out1 = out + outStride;
  do {
    let s0 = i32x4.splat(0);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    let t0 = s0;
    let t1 = s0;
    let t2 = s0;
    let t3 = s0;
    let count = 8;
    do {
      const w0 = v128.load(values);
      const w1 = v128.load(values, 16);
      const w2 = v128.load(values, 32);
      const w3 = v128.load(values, 48);
      let a = v128.load32_splat(x);
      s0 = dot<T>(s0, w0, a, ones);
      s1 = dot<T>(s1, w1, a, ones);
      s2 = dot<T>(s2, w2, a, ones);
      s3 = dot<T>(s3, w3, a, ones);
      a = v128.load32_splat(x, PAGE_ROW);
      t0 = dot<T>(t0, w0, a, ones);
      t1 = dot<T>(t1, w1, a, ones);
      t2 = dot<T>(t2, w2, a, ones);
      t3 = dot<T>(t3, w3, a, ones);
      x += 4;
      values += PANEL_BYTES;
    } while (--count);
    add(out, s0, s1, s2, s3, v128.load32_splat(x));
    add(out1, t0, t1, t2, t3, v128.load32_splat(x, PAGE_ROW));
    x += WEIGHT_BYTES - BLOCK;
  } while (--blocks);
}

/** Four rows, for an engine that joins neighbouring vectors. */
function valuesTile4x16(out: usize, outStride: usize, x: usize, values: usize, blocks: i32): void {
  const ones = v128.load32_splat(ONES);
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  do {
    let s0 = i32x4.splat(0);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    let t0 = s0;
    let t1 = s0;
    let t2 = s0;
    let t3 = s0;
    let u0 = s0;
    let u1 = s0;
    let u2 = s0;
    let u3 = s0;
    let v0 = s0;
    let v1 = s0;
    let v2 = s0;
    let v3 = s0;
    let count = 8;
    do {
      const w0 = v128.load(values);
      const w1 = v128.load(values, 16);
      const w2 = v128.load(values, 32);
      const w3 = v128.load(values, 48);
      let a = v128.load32_splat(x);
      s0 = dot<i16>(s0, w0, a, ones);
      s1 = dot<i16>(s1, w1, a, ones);
      s2 = dot<i16>(s2, w2, a, ones);
      s3 = dot<i16>(s3, w3, a, ones);
      a = v128.load32_splat(x, PAGE_ROW);
      t0 = dot<i16>(t0, w0, a, ones);
      t1 = dot<i16>(t1, w1, a, ones);
      t2 = dot<i16>(t2, w2, a, ones);
      t3 = dot<i16>(t3, w3, a, ones);
      a = v128.load32_splat(x, 2 * PAGE_ROW);
      u0 = dot<i16>(u0, w0, a, ones);
      u1 = dot<i16>(u1, w1, a, ones);
      u2 = dot<i16>(u2, w2, a, ones);
      u3 = dot<i16>(u3, w3, a, ones);
      a = v128.load32_splat(x, 3 * PAGE_ROW);
      v0 = dot<i16>(v0, w0, a, ones);
      v1 = dot<i16>(v1, w1, a, ones);
      v2 = dot<i16>(v2, w2, a, ones);
      v3 = dot<i16>(v3, w3, a, ones);
      x += 4;
      values += PANEL_BYTES;
    } while (--count);
    add(out, s0, s1, s2, s3, v128.load32_splat(x));
    add(out1, t0, t1, t2, t3, v128.load32_splat(x, PAGE_ROW));
    add(out2, u0, u1, u2, u3, v128.load32_splat(x, 2 * PAGE_ROW));
    add(out3, v0, v1, v2, v3, v128.load32_splat(x, 3 * PAGE_ROW));
    x += WEIGHT_BYTES - BLOCK;
  } while (--blocks);
}
