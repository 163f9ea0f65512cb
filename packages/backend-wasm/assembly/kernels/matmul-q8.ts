// matmul of q8 weights: a panel is blocks of 32 inputs, each i8 (8 times 4 inputs, 16 outputs, 4), then f32 scales (16), then -1
// times the sums of its weights, i16 (16).
//
// Relaxed build: inputs are rounded to 7 bits with a scale for each block of 32, plus 64, since relaxed_dot multiplies signed bytes by
// bytes of 0 to 127. A pair of products fits 16 bits, so a block is an exact integer dot, whichever instructions compute it; 64
// times the sums of weights are taken off again. Plain build: matmul-q8-plain.ts.
//
// Every tile adds to what stands in `out`, one multiply-add for each block in the order of the blocks.
import { BLOCK, PANEL } from "../../src/descriptor";
import { madd } from "../simd";
import { q8Plain1x16, q8Plain4x8 } from "./matmul-q8-plain";
import { start } from "./start";

const PANEL_BYTES = PANEL * 4;
/** A block of a panel. */
export const Q8_BLOCK_BYTES: usize = BLOCK * PANEL + PANEL_BYTES + PANEL * 2;

// In memory, since V8 would rebuild a constant at each use.
const ONES = memory.data<u32>([0x00010001]);

/** out (rows, 16) = bias (16), or 0, + x (rows, blocks) · w (blocks, 16). */
export function panelQ8(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32, rows: i32, fused: bool, bias: usize,
): void {
  if (ASC_FEATURE_RELAXED_SIMD) {
    for (; rows >= 2; rows -= 2) {
      start(out, outStride, 2, bias);
      if (fused) q8Fused2x16(out, outStride, x, xStride, w, blocks);
      else q8Tile2x16(out, outStride, x, xStride, w, blocks);
      out += 2 * outStride;
      x += 2 * xStride;
    }
    if (rows == 0) return;
    start(out, outStride, 1, bias);
    if (fused) q8Fused1x16(out, x, w, blocks);
    else q8Tile1x16(out, x, w, blocks);
    return;
  }
  for (; rows >= 4; rows -= 4) {
    start(out, outStride, 4, bias);
    q8Plain4x8(out, outStride, x, xStride, w, blocks, 16);
    q8Plain4x8(out + 32, outStride, x, xStride, w + 16, blocks, 32);
    out += 4 * outStride;
    x += 4 * xStride;
  }
  for (; rows > 0; rows--) {
    start(out, outStride, 1, bias);
    q8Plain1x16(out, outStride, x, xStride, w, blocks);
    out += outStride;
    x += xStride;
  }
}

/** sum + the dots of four weights with four inputs, in four lanes. `fused`: in one instruction, for a processor that has it; V8 makes
 *  five of it for another one, where three do. */
// @ts-ignore: decorator
@inline
function dot(sum: v128, w: v128, x: v128, ones: v128, fused: bool): v128 {
  if (fused) return i32x4.relaxed_dot_i8x16_i7x16_add_s(w, x, sum);
  return i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(w, x), ones));
}

/** Two rows, a panel: 8 sums, 4 of 256 bits where the engine joins neighbouring vectors. */
// @ts-ignore: decorator
@inline
function tile2x16(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32, fused: bool,
): void {
  const ones = v128.load32_splat(ONES);
  let y = x + xStride;
  const next = out + outStride;
  do {
    let s0 = i32x4.shl(v128.load_ext<i16>(w, 576), 6);
    let s1 = i32x4.shl(v128.load_ext<i16>(w, 584), 6);
    let s2 = i32x4.shl(v128.load_ext<i16>(w, 592), 6);
    let s3 = i32x4.shl(v128.load_ext<i16>(w, 600), 6);
    let t0 = s0;
    let t1 = s1;
    let t2 = s2;
    let t3 = s3;
    let count = 8;
    do {
      const w0 = v128.load(w);
      const w1 = v128.load(w, 16);
      const w2 = v128.load(w, 32);
      const w3 = v128.load(w, 48);
      let a = v128.load32_splat(x);
      s0 = dot(s0, w0, a, ones, fused);
      s1 = dot(s1, w1, a, ones, fused);
      s2 = dot(s2, w2, a, ones, fused);
      s3 = dot(s3, w3, a, ones, fused);
      a = v128.load32_splat(y);
      t0 = dot(t0, w0, a, ones, fused);
      t1 = dot(t1, w1, a, ones, fused);
      t2 = dot(t2, w2, a, ones, fused);
      t3 = dot(t3, w3, a, ones, fused);
      x += 4;
      y += 4;
      w += PANEL_BYTES;
    } while (--count);
    const scale0 = v128.load(w);
    const scale1 = v128.load(w, 16);
    const scale2 = v128.load(w, 32);
    const scale3 = v128.load(w, 48);
    let factor = v128.load32_splat(x);
    const o0 = madd(f32x4.convert_i32x4_s(s0), f32x4.mul(factor, scale0), v128.load(out));
    const o1 = madd(f32x4.convert_i32x4_s(s1), f32x4.mul(factor, scale1), v128.load(out, 16));
    const o2 = madd(f32x4.convert_i32x4_s(s2), f32x4.mul(factor, scale2), v128.load(out, 32));
    const o3 = madd(f32x4.convert_i32x4_s(s3), f32x4.mul(factor, scale3), v128.load(out, 48));
    v128.store(out, o0);
    v128.store(out, o1, 16);
    v128.store(out, o2, 32);
    v128.store(out, o3, 48);
    factor = v128.load32_splat(y);
    const p0 = madd(f32x4.convert_i32x4_s(t0), f32x4.mul(factor, scale0), v128.load(next));
    const p1 = madd(f32x4.convert_i32x4_s(t1), f32x4.mul(factor, scale1), v128.load(next, 16));
    const p2 = madd(f32x4.convert_i32x4_s(t2), f32x4.mul(factor, scale2), v128.load(next, 32));
    const p3 = madd(f32x4.convert_i32x4_s(t3), f32x4.mul(factor, scale3), v128.load(next, 48));
    v128.store(next, p0);
    v128.store(next, p1, 16);
    v128.store(next, p2, 32);
    v128.store(next, p3, 48);
    x += 4;
    y += 4;
    w += PANEL_BYTES + PANEL * 2;
  } while (--blocks);
}

function q8Tile2x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  tile2x16(out, outStride, x, xStride, w, blocks, false);
}

function q8Fused2x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  tile2x16(out, outStride, x, xStride, w, blocks, true);
}

function q8Tile1x16(out: usize, x: usize, w: usize, blocks: i32): void {
  tile1x16(out, x, w, blocks, false);
}

function q8Fused1x16(out: usize, x: usize, w: usize, blocks: i32): void {
  tile1x16(out, x, w, blocks, true);
}

// @ts-ignore: decorator
@inline
function tile1x16(out: usize, x: usize, w: usize, blocks: i32, fused: bool): void {
  const ones = v128.load32_splat(ONES);
  let f0 = v128.load(out);
  let f1 = v128.load(out, 16);
  let f2 = v128.load(out, 32);
  let f3 = v128.load(out, 48);
  do {
    let s0 = i32x4.shl(v128.load_ext<i16>(w, 576), 6);
    let s1 = i32x4.shl(v128.load_ext<i16>(w, 584), 6);
    let s2 = i32x4.shl(v128.load_ext<i16>(w, 592), 6);
    let s3 = i32x4.shl(v128.load_ext<i16>(w, 600), 6);
    let count = 4;
    do {
      let a = v128.load32_splat(x);
      s0 = dot(s0, v128.load(w), a, ones, fused);
      s1 = dot(s1, v128.load(w, 16), a, ones, fused);
      s2 = dot(s2, v128.load(w, 32), a, ones, fused);
      s3 = dot(s3, v128.load(w, 48), a, ones, fused);
      a = v128.load32_splat(x, 4);
      s0 = dot(s0, v128.load(w, 64), a, ones, fused);
      s1 = dot(s1, v128.load(w, 80), a, ones, fused);
      s2 = dot(s2, v128.load(w, 96), a, ones, fused);
      s3 = dot(s3, v128.load(w, 112), a, ones, fused);
      x += 8;
      w += 2 * PANEL_BYTES;
    } while (--count);
    const factor = v128.load32_splat(x);
    f0 = madd(f32x4.convert_i32x4_s(s0), f32x4.mul(factor, v128.load(w)), f0);
    f1 = madd(f32x4.convert_i32x4_s(s1), f32x4.mul(factor, v128.load(w, 16)), f1);
    f2 = madd(f32x4.convert_i32x4_s(s2), f32x4.mul(factor, v128.load(w, 32)), f2);
    f3 = madd(f32x4.convert_i32x4_s(s3), f32x4.mul(factor, v128.load(w, 48)), f3);
    x += 4;
    w += PANEL_BYTES + PANEL * 2;
  } while (--blocks);
  v128.store(out, f0);
  v128.store(out, f1, 16);
  v128.store(out, f2, 32);
  v128.store(out, f3, 48);
}
