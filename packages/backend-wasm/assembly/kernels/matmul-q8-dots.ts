// matmul of q8 weights by dots in 32 bits: a row, and two rows where a dot of four bytes is one instruction.
import { BLOCK, PANEL } from "../../src/descriptor";
import { madd, storeFour } from "../simd";
import { finish, INPUT_Q8_BYTES, INPUT_SCALE, INPUT_SUM, ONES } from "./bytes";

const PANEL_BYTES = PANEL * 4;

/** sum + the dots of four inputs with four weights, in four lanes. T is the width of the first sums of products: i32 in one instruction,
 *  for a processor that has it; V8 makes five of it for another one, where three do by way of i16. A type and no flag, so that one of
 *  the two is never compiled. */
// @ts-ignore: decorator
@inline
function dot<T>(sum: v128, x: v128, w: v128, ones: v128): v128 {
  if (sizeof<T>() == 4) return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, sum);
  return i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(x, w), ones));
}

/** Two rows, a panel: 8 sums, 4 of 256 bits where the engine joins neighbouring vectors. */
export function q8Fused2x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  const ones = v128.load32_splat(ONES);
  let x1 = x + xStride;
  const out1 = out + outStride;
  do {
    let s0 = v128.load32_splat(x, INPUT_SUM);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    let t0 = v128.load32_splat(x1, INPUT_SUM);
    let t1 = t0;
    let t2 = t0;
    let t3 = t0;
    let count = 8;
    do {
      const w0 = v128.load(w);
      const w1 = v128.load(w, 16);
      const w2 = v128.load(w, 32);
      const w3 = v128.load(w, 48);
      let a = v128.load32_splat(x);
      s0 = dot<i32>(s0, a, w0, ones);
      s1 = dot<i32>(s1, a, w1, ones);
      s2 = dot<i32>(s2, a, w2, ones);
      s3 = dot<i32>(s3, a, w3, ones);
      a = v128.load32_splat(x1);
      t0 = dot<i32>(t0, a, w0, ones);
      t1 = dot<i32>(t1, a, w1, ones);
      t2 = dot<i32>(t2, a, w2, ones);
      t3 = dot<i32>(t3, a, w3, ones);
      x += 4;
      x1 += 4;
      w += PANEL_BYTES;
    } while (--count);
    const scale0 = v128.load(w);
    const scale1 = v128.load(w, 16);
    const scale2 = v128.load(w, 32);
    const scale3 = v128.load(w, 48);
    finish(out, s0, s1, s2, s3, v128.load32_splat(x, INPUT_SCALE - BLOCK), scale0, scale1, scale2, scale3);
    finish(out1, t0, t1, t2, t3, v128.load32_splat(x1, INPUT_SCALE - BLOCK), scale0, scale1, scale2, scale3);
    x += INPUT_Q8_BYTES - BLOCK;
    x1 += INPUT_Q8_BYTES - BLOCK;
    w += PANEL_BYTES;
  } while (--blocks);
}

export function q8Tile1x16(out: usize, x: usize, w: usize, blocks: i32): void {
  tile1x16<i16>(out, x, w, blocks);
}

export function q8Fused1x16(out: usize, x: usize, w: usize, blocks: i32): void {
  tile1x16<i32>(out, x, w, blocks);
}

/** One row, which waits for its weights: it has no use for fewer multiplications. */
// @ts-ignore: decorator
@inline
function tile1x16<T>(out: usize, x: usize, w: usize, blocks: i32): void {
  const ones = v128.load32_splat(ONES);
  let f0 = v128.load(out);
  let f1 = v128.load(out, 16);
  let f2 = v128.load(out, 32);
  let f3 = v128.load(out, 48);
  do {
    let s0 = v128.load32_splat(x, INPUT_SUM);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    let count = 4;
    do {
      let a = v128.load32_splat(x);
      s0 = dot<T>(s0, a, v128.load(w), ones);
      s1 = dot<T>(s1, a, v128.load(w, 16), ones);
      s2 = dot<T>(s2, a, v128.load(w, 32), ones);
      s3 = dot<T>(s3, a, v128.load(w, 48), ones);
      a = v128.load32_splat(x, 4);
      s0 = dot<T>(s0, a, v128.load(w, 64), ones);
      s1 = dot<T>(s1, a, v128.load(w, 80), ones);
      s2 = dot<T>(s2, a, v128.load(w, 96), ones);
      s3 = dot<T>(s3, a, v128.load(w, 112), ones);
      x += 8;
      w += 2 * PANEL_BYTES;
    } while (--count);
    const factor = v128.load32_splat(x, INPUT_SCALE - BLOCK);
    f0 = madd(f32x4.convert_i32x4_s(s0), f32x4.mul(factor, v128.load(w)), f0);
    f1 = madd(f32x4.convert_i32x4_s(s1), f32x4.mul(factor, v128.load(w, 16)), f1);
    f2 = madd(f32x4.convert_i32x4_s(s2), f32x4.mul(factor, v128.load(w, 32)), f2);
    f3 = madd(f32x4.convert_i32x4_s(s3), f32x4.mul(factor, v128.load(w, 48)), f3);
    x += INPUT_Q8_BYTES - BLOCK;
    w += PANEL_BYTES;
  } while (--blocks);
  storeFour(out, f0, f1, f2, f3);
}
