// Rounds the inputs of a matmul with integer weights: blocks of 32 integers with one f32 scale each.
import {
  BLOCK, DTYPE_Q4, DTYPE_Q8, MATRIX_DTYPE, MATRIX_FUSED, MATRIX_INNER,
} from "../../src/descriptor";
import {
  eights, INPUT_HALF, INPUT_Q8_BYTES, INPUT_SCALE, INPUT_SQUARES, INPUT_SUM, largestSquares, offset,
} from "./bytes";

/** A block of inputs for q8. Relaxed: 7 bits (32 bytes), what the bytes of weights have too much (bytes.ts) times the sums of the eights
 *  of both halves (4 i16, as far as they go into 16 bits) and of all (i32), the largest sum of squares of an eight (u32), f32 scale.
 *  Plain: i16 (32), f32 scale. */
const Q8_BYTES: usize = ASC_FEATURE_RELAXED_SIMD ? INPUT_Q8_BYTES : BLOCK * 2 + 4;
/** A block of inputs for q4. Relaxed: i8 (32), -8 times the sums of inputs 0 1 4 5 ... and of 2 3 6 7 ... (2 i16), f32 scale.
 *  Plain: i16 (32), in the order 0 2 1 3 4 6 5 7 of each 8, -8 times their sum (i32), f32 scale. */
const Q4_BYTES: usize = ASC_FEATURE_RELAXED_SIMD ? BLOCK + 8 : BLOCK * 2 + 8;

/** Bytes of a row of inputs for a matrix of this dtype. */
export function inputStride(dtype: i32, inner: i32): usize {
  const blocks = <usize>((inner + BLOCK - 1) / BLOCK);
  return blocks * (dtype == DTYPE_Q8 ? Q8_BYTES : Q4_BYTES);
}

/**
 * Rows [from, to) of x as matmulPanels reads them for matrices of this dtype and width: nothing to do for f32 and bf16.
 *
 * @param out (rows, blocks) as above, close together
 * @param x f32 (rows, inner), rows `xStride` bytes apart
 */
export function quantizeRows(out: usize, x: usize, matrix: usize, xStride: usize, from: i32, to: i32): void {
  const dtype = load<i32>(matrix, MATRIX_DTYPE);
  if (dtype != DTYPE_Q8 && dtype != DTYPE_Q4) return;
  const inner = load<i32>(matrix, MATRIX_INNER);
  const stride = inputStride(dtype, inner);
  const excess = ASC_FEATURE_RELAXED_SIMD && dtype == DTYPE_Q8 ? offset(load<i32>(matrix, MATRIX_FUSED) != 0) : 0;
  for (let row = from; row < to; row++) {
    const source = x + <usize>row * xStride;
    const target = out + <usize>row * stride;
    if (dtype == DTYPE_Q8) {
      rowQ8(target, source, inner, excess);
    } else {
      rowQ4(target, source, inner);
    }
  }
}

/** x f32 (inner) as blocks for q8; `excess`: what bytes of weights have too much (offset() of bytes.ts). */
export function rowQ8(out: usize, x: usize, inner: i32, excess: i32): void {
  if (ASC_FEATURE_RELAXED_SIMD) {
    // All divisions first: a block would wait for its own.
    scaleRowQ8(out, x, inner);
    codeRowQ8(out, x, inner, excess);
    return;
  }
  for (; inner > 0; inner -= BLOCK) {
    inputQ8(out, x, min(inner, BLOCK));
    out += Q8_BYTES;
    x += BLOCK * 4;
  }
}

function rowQ4(out: usize, x: usize, inner: i32): void {
  for (; inner > 0; inner -= BLOCK) {
    inputQ4(out, x, min(inner, BLOCK));
    out += Q4_BYTES;
    x += BLOCK * 4;
  }
}

/** The largest magnitude of x f32 (count), NaN if there is one: as integers the bits of a NaN are the largest. */
export function largestOf(x: usize, count: i32): f32 {
  if (count == BLOCK) return f32x4.extract_lane(largestOfBlock(x), 0);
  let found: i32 = 0;
  for (let index = 0; index < count; index++) {
    found = max(found, reinterpret<i32>(abs(load<f32>(x + (<usize>index << 2)))));
  }
  return reinterpret<f32>(found);
}

/** The same for a whole block, in all lanes. */
// @ts-ignore: decorator
@inline
function largestOfBlock(x: usize): v128 {
  const a = i32x4.max_s(f32x4.abs(v128.load(x)), f32x4.abs(v128.load(x, 16)));
  const b = i32x4.max_s(f32x4.abs(v128.load(x, 32)), f32x4.abs(v128.load(x, 48)));
  const c = i32x4.max_s(f32x4.abs(v128.load(x, 64)), f32x4.abs(v128.load(x, 80)));
  const d = i32x4.max_s(f32x4.abs(v128.load(x, 96)), f32x4.abs(v128.load(x, 112)));
  let most = i32x4.max_s(i32x4.max_s(a, b), i32x4.max_s(c, d));
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  return i32x4.max_s(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
}

/** 1.5 · 2^23, in memory, since V8 would rebuild a constant at each use. */
export const MAGIC = memory.data<f32>([12582912]);

/** x f32 (4) · factor, below 2^22, rounded to integers, ties to even: the sum with 1.5 · 2^23 has no room for a fraction. */
// @ts-ignore: decorator
@inline
function rounded(x: usize, factor: v128, magic: v128): v128 {
  return i32x4.sub(f32x4.add(f32x4.mul(v128.load(x), factor), magic), magic);
}

// @ts-ignore: decorator
@inline
function code(x: usize, index: i32, count: i32, factor: f32): i32 {
  return index < count ? <i32>nearest(load<f32>(x + (<usize>index << 2)) * factor) : 0;
}

/** x f32 (count) · factor, rounded to 32 bytes, those behind `count` zeros. */
export function roundBytes(out: usize, x: usize, count: i32, factor: f32): void {
  if (count < BLOCK) {
    for (let index = 0; index < BLOCK; index++) store<i8>(out + index, <i8>code(x, index, count, factor));
    return;
  }
  const factors = f32x4.splat(factor);
  const magic = v128.load32_splat(MAGIC);
  v128.store(out, sixteen(x, factors, magic));
  v128.store(out, sixteen(x + 64, factors, magic), 16);
}

function inputQ8(out: usize, x: usize, count: i32): void {
  const most: f32 = 32767;
  const largest = largestOf(x, count);
  // A NaN or infinite input must reach the output: its scale carries it there.
  const scale = largest / most;
  const factor: f32 = largest > 0 ? most / largest : 0;
  store<f32>(out, scale, Q8_BYTES - 4);
  if (count < BLOCK) {
    for (let index = 0; index < BLOCK; index++) store<i16>(out + (<usize>index << 1), <i16>code(x, index, count, factor));
    return;
  }
  const factors = f32x4.splat(factor);
  const magic = v128.load32_splat(MAGIC);
  for (const end = x + BLOCK * 4; x < end; x += 32) {
    v128.store(out, i16x8.narrow_i32x4_s(rounded(x, factors, magic), rounded(x + 16, factors, magic)));
    out += 16;
  }
}

/** The largest code of an input under q8. */
const MOST_Q8 = memory.data<f32>([63]);

/** The scale of each block, and, where its sum will stand, the factor that its inputs are to be multiplied by. */
function scaleRowQ8(out: usize, x: usize, inner: i32): void {
  const most = v128.load32_splat(MOST_Q8);
  for (; inner > 0; inner -= BLOCK) {
    // A NaN or infinite input must reach the output: its scale carries it there.
    const largest = inner < BLOCK ? f32x4.splat(largestOf(x, inner)) : largestOfBlock(x);
    v128.store_lane<i32>(out, f32x4.div(largest, most), 0, INPUT_SCALE);
    v128.store_lane<i32>(out, v128.and(f32x4.div(most, largest), f32x4.gt(largest, f32x4.splat(0))), 0, INPUT_SUM);
    out += INPUT_Q8_BYTES;
    x += BLOCK * 4;
  }
}

function codeRowQ8(out: usize, x: usize, inner: i32, excess: i32): void {
  const magic = v128.load32_splat(MAGIC);
  const times = i16x8.splat(<i16>-excess);
  for (; inner > 0; inner -= BLOCK) {
    let first: v128;
    let second: v128;
    if (inner < BLOCK) {
      roundBytes(out, x, inner, load<f32>(out, INPUT_SUM));
      first = v128.load(out);
      second = v128.load(out, 16);
    } else {
      const factor = v128.load32_splat(out, INPUT_SUM);
      first = sixteen(x, factor, magic);
      second = sixteen(x + 64, factor, magic);
      v128.store(out, first);
      v128.store(out, second, 16);
    }
    const sums = eights(first, second);
    const excesses = i16x8.mul(sums, times);
    v128.store_lane<i64>(out, v128.shuffle<i32>(excesses, excesses, 0, 2, 0, 2), 0, INPUT_HALF);
    const all = i32x4.extadd_pairwise_i16x8_s(sums);
    store<i32>(out, -excess * (i32x4.extract_lane(all, 0) + i32x4.extract_lane(all, 2)), INPUT_SUM);
    store<i32>(out, largestSquares(first, second), INPUT_SQUARES);
    out += INPUT_Q8_BYTES;
    x += BLOCK * 4;
  }
}

/** x f32 (16) · factor, rounded to bytes. */
// @ts-ignore: decorator
@inline
export function sixteen(x: usize, factor: v128, magic: v128): v128 {
  return i8x16.narrow_i16x8_s(
    i16x8.narrow_i32x4_s(rounded(x, factor, magic), rounded(x + 16, factor, magic)),
    i16x8.narrow_i32x4_s(rounded(x + 32, factor, magic), rounded(x + 48, factor, magic)),
  );
}

function inputQ4(out: usize, x: usize, count: i32): void {
  const most: f32 = ASC_FEATURE_RELAXED_SIMD ? 127 : 32767;
  const largest = largestOf(x, count);
  const factor: f32 = largest > 0 ? most / largest : 0;
  if (ASC_FEATURE_RELAXED_SIMD) {
    store<f32>(out, largest / most, BLOCK + 4);
    roundBytes(out, x, count, factor);
    const halves = eights(v128.load(out), v128.load(out, 16));
    const sums = i16x8.add(halves, v128.shuffle<i32>(halves, halves, 2, 3, 0, 1));
    store<i32>(out, i32x4.extract_lane(i16x8.shl(i16x8.neg(sums), 3), 0), BLOCK);
  } else {
    store<f32>(out, largest / most, BLOCK * 2 + 4);
    let sum = 0;
    for (let index = 0; index < BLOCK; index++) {
      const value = code(x, index, count, factor);
      sum += value;
      const place = (index & ~3) | ((index & 1) << 1) | ((index >> 1) & 1);
      store<i16>(out + (<usize>place << 1), <i16>value);
    }
    store<i32>(out, -8 * sum, BLOCK * 2);
  }
}
