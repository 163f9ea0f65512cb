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
  for (; inner > 0; inner -= BLOCK) {
    inputQ8(out, x, min(inner, BLOCK), excess);
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
  let found: i32 = 0;
  if (count == BLOCK) {
    let most = f32x4.abs(v128.load(x));
    for (let at: usize = 16; at < <usize>BLOCK * 4; at += 16) most = i32x4.max_s(most, f32x4.abs(v128.load(x + at)));
    most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
    most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
    found = i32x4.extract_lane(most, 0);
  } else {
    for (let index = 0; index < count; index++) {
      found = max(found, reinterpret<i32>(abs(load<f32>(x + (<usize>index << 2)))));
    }
  }
  return reinterpret<f32>(found);
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

function inputQ8(out: usize, x: usize, count: i32, excess: i32): void {
  const most: f32 = ASC_FEATURE_RELAXED_SIMD ? 63 : 32767;
  const largest = largestOf(x, count);
  // A NaN or infinite input must reach the output: its scale carries it there.
  const scale = largest / most;
  const factor: f32 = largest > 0 ? most / largest : 0;
  if (ASC_FEATURE_RELAXED_SIMD) {
    roundBytes(out, x, count, factor);
    const first = v128.load(out);
    const second = v128.load(out, 16);
    const times = i16x8.splat(<i16>-excess);
    const one = eights(first);
    const other = eights(second);
    v128.store_lane<i32>(out, i16x8.mul(one, times), 0, INPUT_HALF);
    v128.store_lane<i32>(out, i16x8.mul(other, times), 0, INPUT_HALF + 4);
    const sum = i32x4.extract_lane(i32x4.extadd_pairwise_i16x8_s(i16x8.add(one, other)), 0);
    store<i32>(out, -excess * sum, INPUT_SUM);
    store<i32>(out, max(largestSquares(first), largestSquares(second)), INPUT_SQUARES);
    store<f32>(out, scale, INPUT_SCALE);
    return;
  }
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
    const sums = i16x8.add(eights(v128.load(out)), eights(v128.load(out, 16)));
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
