// Packing at load: rows of f32 become panels of a matrix, or rows of a table, in the dtype they are held in. q8 and q4 are
// core's numbers (packages/core/src/quantize.ts) to the bit: scales in f32, quotients in f64, rounded half away from zero.
import {
  BLOCK, DTYPE_BF16, DTYPE_F32, DTYPE_Q8, MATRIX_DTYPE, MATRIX_FUSED, MATRIX_INNER, MATRIX_WEIGHTS, PANEL,
} from "../../src/descriptor";
import { largestSquares, offset, Q8_BLOCK_BYTES, Q8_LIMIT } from "./bytes";
import { panelBytes } from "./matmul";
import { Q4_BLOCK_BYTES } from "./matmul-q4";
import { rowBytes, TABLE_Q4_BYTES, TABLE_Q8_BYTES } from "./table";

const PANEL_BYTES = PANEL * 4;

/**
 * Rows [first, first + count) of a matrix, whose panels hold zeros.
 *
 * @param data f32 (count, inner), finite
 * @param spare 128 bytes of scratch
 */
export function pack(matrix: usize, first: i32, count: i32, data: usize, spare: usize): void {
  const inner = load<i32>(matrix, MATRIX_INNER);
  const dtype = load<i32>(matrix, MATRIX_DTYPE);
  const weights = load<usize>(matrix, MATRIX_WEIGHTS);
  const size = panelBytes(dtype, inner);
  const row = <usize>inner << 2;
  const excess = ASC_FEATURE_RELAXED_SIMD && dtype == DTYPE_Q8 ? offset(load<i32>(matrix, MATRIX_FUSED) != 0) : 0;
  for (const end = first + count; first < end;) {
    const lane = first % PANEL;
    const to = weights + <usize>(first / PANEL) * size;
    let rows = 1;
    if (dtype == DTYPE_F32 || dtype == DTYPE_BF16) {
      if (!(lane & 3) && first + 4 <= end) {
        packFour(to + (<usize>lane << 2), data, inner, dtype == DTYPE_BF16);
        rows = 4;
      } else {
        packOne(to + (<usize>lane << 2), data, inner, dtype == DTYPE_BF16);
      }
    } else if (dtype == DTYPE_Q8) {
      packQ8(to, lane, data, inner, spare, excess);
    } else {
      packQ4(to, lane, data, inner, spare);
    }
    first += rows;
    data += <usize>rows * row;
  }
}

/** Four lanes at once: squares of four rows and four inputs are turned. */
function packFour(to: usize, data: usize, inner: i32, half: bool): void {
  const row = <usize>inner << 2;
  let k = 0;
  for (; k + 4 <= inner; k += 4) {
    const a = v128.load(data);
    const b = v128.load(data + row);
    const c = v128.load(data + 2 * row);
    const d = v128.load(data + 3 * row);
    const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
    const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
    const ef = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    const gh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
    const k0 = v128.shuffle<i64>(ab, cd, 0, 2);
    const k1 = v128.shuffle<i64>(ab, cd, 1, 3);
    const k2 = v128.shuffle<i64>(ef, gh, 0, 2);
    const k3 = v128.shuffle<i64>(ef, gh, 1, 3);
    if (half) {
      v128.store(to, v128.or(narrowedFour(k0), i32x4.shl(narrowedFour(k1), 16)));
      v128.store(to, v128.or(narrowedFour(k2), i32x4.shl(narrowedFour(k3), 16)), 64);
      to += 2 * PANEL_BYTES;
    } else {
      v128.store(to, k0);
      v128.store(to, k1, 64);
      v128.store(to, k2, 128);
      v128.store(to, k3, 192);
      to += 4 * PANEL_BYTES;
    }
    data += 16;
  }
  if (k == inner) return;
  for (let lane = 0; lane < 4; lane++) {
    packOne(to, data, inner - k, half);
    data += row;
    to += 4;
  }
}

function packOne(to: usize, data: usize, inner: i32, half: bool): void {
  for (let k = 0; k < inner; k++) {
    const value = load<f32>(data + (<usize>k << 2));
    if (half) {
      store<u16>(to + <usize>(k >> 1) * PANEL_BYTES + (<usize>(k & 1) << 1), narrowed(value));
    } else {
      store<f32>(to + <usize>k * PANEL_BYTES, value);
    }
  }
}

/** f32 to the bits of bf16 in the low halves: to nearest, ties to even. */
// @ts-ignore: decorator
@inline
export function narrowedFour(v: v128): v128 {
  const even = v128.and(i32x4.shr_u(v, 16), i32x4.splat(1));
  return i32x4.shr_u(i32x4.add(v, i32x4.add(even, i32x4.splat(0x7fff))), 16);
}

/** The same for one number. */
// @ts-ignore: decorator
@inline
export function narrowed(value: f32): u16 {
  const bits = reinterpret<u32>(value);
  return <u16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/** A row of q8 into a lane of its panel. `excess`: what is added to its codes (bytes.ts). */
function packQ8(to: usize, lane: i32, data: usize, inner: i32, spare: usize, excess: i32): void {
  let bound = to + <usize>((inner + BLOCK - 1) / BLOCK) * Q8_BLOCK_BYTES;
  const more = i8x16.splat(<i8>excess);
  for (let left = inner; left > 0; left -= BLOCK) {
    const x = block(data, left, spare);
    const scale = scaleQ8(x);
    store<f32>(to + BLOCK * PANEL + (<usize>lane << 2), scale);
    if (scale != 0) {
      let squares = 0;
      let group = to + (<usize>lane << (ASC_FEATURE_RELAXED_SIMD ? 2 : 1));
      for (let at: usize = 0; at < <usize>BLOCK * 4; at += 64) {
        const codes = sixteen(x + at, scale, -127, 127);
        if (ASC_FEATURE_RELAXED_SIMD) {
          squares = max(squares, largestSquares(codes, codes));
          const bytes = i8x16.add(codes, more);
          v128.store_lane<i32>(group, bytes, 0);
          v128.store_lane<i32>(group, bytes, 1, 64);
          v128.store_lane<i32>(group, bytes, 2, 128);
          v128.store_lane<i32>(group, bytes, 3, 192);
        } else {
          v128.store_lane<i16>(group, codes, 0);
          v128.store_lane<i16>(group, codes, 1, 32);
          v128.store_lane<i16>(group, codes, 2, 64);
          v128.store_lane<i16>(group, codes, 3, 96);
          v128.store_lane<i16>(group, codes, 4, 128);
          v128.store_lane<i16>(group, codes, 5, 160);
          v128.store_lane<i16>(group, codes, 6, 192);
          v128.store_lane<i16>(group, codes, 7, 224);
        }
        group += 256;
      }
      if (ASC_FEATURE_RELAXED_SIMD) {
        // The least of what the rows of the panel can bear; panels begin as zeros. A scale comes with a code of at least 127 / 2.
        const own = Q8_LIMIT / <u32>squares;
        const others = load<u32>(bound);
        store<u32>(bound, others ? min(others, own) : own);
      }
    }
    bound += 4;
    data += BLOCK * 4;
    to += Q8_BLOCK_BYTES;
  }
}

/** A row of q4 into a lane of its panel. */
function packQ4(to: usize, lane: i32, data: usize, inner: i32, spare: usize): void {
  to += <usize>lane << 2;
  for (let left = inner; left > 0; left -= BLOCK) {
    const x = block(data, left, spare);
    const scale = scaleQ4(x);
    store<f32>(to + (BLOCK * PANEL) / 2, scale);
    let eight = to;
    for (let at: usize = 0; at < <usize>BLOCK * 4; at += 64) {
      const codes = stored(x + at, scale);
      // In each half of the vector four codes, and the next four moved to the high nibbles.
      const bytes = v128.or(codes, i32x4.shl(i64x2.shr_u(codes, 32), 4));
      v128.store_lane<i32>(eight, bytes, 0);
      v128.store_lane<i32>(eight, bytes, 2, 64);
      eight += 2 * PANEL_BYTES;
    }
    data += BLOCK * 4;
    to += Q4_BLOCK_BYTES;
  }
}

/**
 * Rows [first, first + count) of a table (table.ts).
 *
 * @param data f32 (count, columns), finite
 * @param spare 128 bytes of scratch
 */
export function packTable(
  table: usize, dtype: i32, columns: i32, first: i32, count: i32, data: usize, spare: usize,
): void {
  const size = rowBytes(dtype, columns);
  let row = table + <usize>first * size;
  for (; count > 0; count--) {
    let to = row;
    if (dtype == DTYPE_F32) {
      memory.copy(to, data, <usize>columns << 2);
    } else if (dtype == DTYPE_BF16) {
      for (let k = 0; k < columns; k++) store<u16>(to + (<usize>k << 1), narrowed(load<f32>(data + (<usize>k << 2))));
    } else {
      for (let done = 0; done < columns; done += BLOCK) {
        const x = block(data + (<usize>done << 2), columns - done, spare);
        if (dtype == DTYPE_Q8) {
          const scale = scaleQ8(x);
          store<f32>(to, scale, BLOCK);
          v128.store(to, scale != 0 ? sixteen(x, scale, -127, 127) : i8x16.splat(0));
          v128.store(to, scale != 0 ? sixteen(x + 64, scale, -127, 127) : i8x16.splat(0), 16);
          to += TABLE_Q8_BYTES;
        } else {
          const scale = scaleQ4(x);
          store<f32>(to, scale, BLOCK / 2);
          v128.store(to, v128.or(stored(x, scale), i16x8.shl(stored(x + 64, scale), 4)));
          to += TABLE_Q4_BYTES;
        }
      }
    }
    row += size;
    data += <usize>columns << 2;
  }
}

/** A block at x, or, of fewer numbers, its copy filled with zeros: they change neither scale nor codes. */
function block(x: usize, left: i32, spare: usize): usize {
  if (left >= BLOCK) return x;
  memory.fill(spare, 0, BLOCK * 4);
  memory.copy(spare, x, <usize>left << 2);
  return spare;
}

/** The largest magnitude in every lane. */
// @ts-ignore: decorator
@inline
function largest(x: usize): v128 {
  let most = f32x4.abs(v128.load(x));
  for (let at: usize = 16; at < <usize>BLOCK * 4; at += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + at)));
  most = f32x4.pmax(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  return f32x4.pmax(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
}

function scaleQ8(x: usize): f32 {
  return f32x4.extract_lane(largest(x), 0) / 127;
}

/** The first number of the largest magnitude, with its sign, over -8; never -0. */
function scaleQ4(x: usize): f32 {
  const most = largest(x);
  while (!v128.any_true(f32x4.eq(f32x4.abs(v128.load(x)), most))) x += 16;
  const magnitude = f32x4.extract_lane(most, 0);
  while (abs(load<f32>(x)) != magnitude) x += 4;
  const scale = load<f32>(x) / -8;
  return scale == 0 ? 0 : scale;
}

/** 16 q4 codes as they are stored, plus 8. */
// @ts-ignore: decorator
@inline
function stored(x: usize, scale: f32): v128 {
  if (scale == 0) return i8x16.splat(8);
  return i8x16.add(sixteen(x, scale, -8, 7), i8x16.splat(8));
}

/** 16 codes of x f32 (16), i8. */
function sixteen(x: usize, scale: f32, low: i32, high: i32): v128 {
  const s = f64x2.splat(<f64>scale);
  const l = i32x4.splat(low);
  const h = i32x4.splat(high);
  return i8x16.narrow_i16x8_s(
    i16x8.narrow_i32x4_s(four(x, s, l, h), four(x + 16, s, l, h)),
    i16x8.narrow_i32x4_s(four(x + 32, s, l, h), four(x + 48, s, l, h)),
  );
}

// @ts-ignore: decorator
@inline
function four(x: usize, scale: v128, low: v128, high: v128): v128 {
  const v = v128.load(x);
  const first = nearestAway(f64x2.div(f64x2.promote_low_f32x4(v), scale));
  const second = nearestAway(f64x2.div(f64x2.promote_low_f32x4(v128.shuffle<i64>(v, v, 1, 1)), scale));
  // Quotients are finite and below 2^31: a scale that did not underflow is at least 1 / 128 of every number, less rounding.
  const codes = v128.shuffle<i32>(first, second, 0, 2, 4, 6);
  return i32x4.min_s(i32x4.max_s(codes, low), high);
}

/** Half away from zero, as an integer in the low half of each lane: the sum with 1.5 · 2^52 has no room for a fraction. */
// @ts-ignore: decorator
@inline
function nearestAway(quotient: v128): v128 {
  const away = f64x2.floor(f64x2.add(f64x2.abs(quotient), f64x2.splat(0.5)));
  const sign = v128.and(quotient, i64x2.splat(i64.MIN_VALUE));
  return f64x2.add(v128.or(away, sign), f64x2.splat(6755399441055744));
}
