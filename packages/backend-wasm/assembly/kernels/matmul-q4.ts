// matmul of q4 weights: a panel is blocks of 32 inputs, each nibbles (4 times 8 inputs, 16 outputs, 4 bytes), then f32 scales (16).
// A byte holds inputs k (low half) and k + 4 of its 8, as code + 8.
//
// Relaxed build: inputs are rounded to 8 bits with a scale for each block. A byte product is at most 15 · 127, so the 16 of a
// block that meet in one 16-bit sum cannot overflow it; sums start at -8 times the inputs they will meet, which takes the 8 of
// the codes back (inputs.ts). Plain build: matmul-q4-plain.ts.
//
// Every tile adds to what stands in `out`, one multiply-add for each block in the order of the blocks.
import { BLOCK, PANEL } from "../../src/descriptor";
import { madd, storeFour, storeTwo } from "../simd";
import { q4Plain1x16, q4Plain4x8 } from "./matmul-q4-plain";
import { start } from "./start";

const PANEL_BYTES = PANEL * 4;
/** A block of a panel. */
export const Q4_BLOCK_BYTES: usize = (BLOCK * PANEL) / 2 + PANEL_BYTES;

const SCALES: usize = (BLOCK * PANEL) / 2;

// In memory, since V8 would rebuild a constant at each use.
const MASK = memory.data<u32>([0x0f0f0f0f]);
const ONES = memory.data<u32>([0x00010001]);

/** out (rows, 16) = bias (16), or 0, + x (rows, blocks) · w (blocks, 16). `wide`: where the engine joins neighbouring vectors to 256 bits. */
export function panelQ4(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32, rows: i32, wide: bool, bias: usize,
): void {
  for (; rows >= 4; rows -= 4) {
    start(out, outStride, 4, bias);
    if (!ASC_FEATURE_RELAXED_SIMD) {
      q4Plain4x8(out, outStride, x, xStride, w, blocks);
      q4Plain4x8(out + 32, outStride, x, xStride, w + 32, blocks);
    } else if (wide) {
      q4Tile4x16(out, outStride, x, xStride, w, blocks);
    } else {
      q4Tile4x8(out, outStride, x, xStride, w, blocks);
      q4Tile4x8(out + 32, outStride, x, xStride, w + 32, blocks);
    }
    out += 4 * outStride;
    x += 4 * xStride;
  }
  for (; rows > 0; rows--) {
    start(out, outStride, 1, bias);
    if (ASC_FEATURE_RELAXED_SIMD) q4Tile1x16(out, x, w, blocks);
    else q4Plain1x16(out, outStride, x, xStride, w, blocks);
    out += outStride;
    x += xStride;
  }
}

function q4Tile4x8(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  const mask = v128.load32_splat(MASK);
  const ones = v128.load32_splat(ONES);
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  do {
    let s00 = v128.load32_splat(x, 32);
    let s01 = s00;
    let s10 = v128.load32_splat(x1, 32);
    let s11 = s10;
    let s20 = v128.load32_splat(x2, 32);
    let s21 = s20;
    let s30 = v128.load32_splat(x3, 32);
    let s31 = s30;
    let count = 4;
    do {
      const p0 = v128.load(w);
      const p1 = v128.load(w, 16);
      let w0 = v128.and(p0, mask);
      let w1 = v128.and(p1, mask);
      let a = v128.load32_splat(x);
      s00 = i16x8.add(s00, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s01 = i16x8.add(s01, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      a = v128.load32_splat(x1);
      s10 = i16x8.add(s10, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s11 = i16x8.add(s11, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      a = v128.load32_splat(x2);
      s20 = i16x8.add(s20, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s21 = i16x8.add(s21, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      a = v128.load32_splat(x3);
      s30 = i16x8.add(s30, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s31 = i16x8.add(s31, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      w0 = v128.and(i16x8.shr_u(p0, 4), mask);
      w1 = v128.and(i16x8.shr_u(p1, 4), mask);
      a = v128.load32_splat(x, 4);
      s00 = i16x8.add(s00, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s01 = i16x8.add(s01, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      a = v128.load32_splat(x1, 4);
      s10 = i16x8.add(s10, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s11 = i16x8.add(s11, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      a = v128.load32_splat(x2, 4);
      s20 = i16x8.add(s20, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s21 = i16x8.add(s21, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      a = v128.load32_splat(x3, 4);
      s30 = i16x8.add(s30, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s31 = i16x8.add(s31, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      x += 8;
      x1 += 8;
      x2 += 8;
      x3 += 8;
      w += PANEL_BYTES;
    } while (--count);
    const scale0 = v128.load(w);
    const scale1 = v128.load(w, 16);
    let factor = v128.load32_splat(x, 4);
    const o00 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s00, ones)), f32x4.mul(factor, scale0), v128.load(out));
    const o01 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s01, ones)), f32x4.mul(factor, scale1), v128.load(out, 16));
    storeTwo(out, o00, o01);
    factor = v128.load32_splat(x1, 4);
    const o10 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s10, ones)), f32x4.mul(factor, scale0), v128.load(out1));
    const o11 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s11, ones)), f32x4.mul(factor, scale1), v128.load(out1, 16));
    storeTwo(out1, o10, o11);
    factor = v128.load32_splat(x2, 4);
    const o20 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s20, ones)), f32x4.mul(factor, scale0), v128.load(out2));
    const o21 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s21, ones)), f32x4.mul(factor, scale1), v128.load(out2, 16));
    storeTwo(out2, o20, o21);
    factor = v128.load32_splat(x3, 4);
    const o30 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s30, ones)), f32x4.mul(factor, scale0), v128.load(out3));
    const o31 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s31, ones)), f32x4.mul(factor, scale1), v128.load(out3, 16));
    storeTwo(out3, o30, o31);
    x += 8;
    x1 += 8;
    x2 += 8;
    x3 += 8;
    w += PANEL_BYTES;
  } while (--blocks);
}

/** Four rows, a panel: 8 sums of 256 bits. */
function q4Tile4x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  const mask = v128.load32_splat(MASK);
  const ones = v128.load32_splat(ONES);
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  do {
    let s00 = v128.load32_splat(x, 32);
    let s01 = s00;
    let s02 = s00;
    let s03 = s00;
    let s10 = v128.load32_splat(x1, 32);
    let s11 = s10;
    let s12 = s10;
    let s13 = s10;
    let s20 = v128.load32_splat(x2, 32);
    let s21 = s20;
    let s22 = s20;
    let s23 = s20;
    let s30 = v128.load32_splat(x3, 32);
    let s31 = s30;
    let s32 = s30;
    let s33 = s30;
    let count = 4;
    do {
      const p0 = v128.load(w);
      const p1 = v128.load(w, 16);
      const p2 = v128.load(w, 32);
      const p3 = v128.load(w, 48);
      let w0 = v128.and(p0, mask);
      let w1 = v128.and(p1, mask);
      let w2 = v128.and(p2, mask);
      let w3 = v128.and(p3, mask);
      let a = v128.load32_splat(x);
      s00 = i16x8.add(s00, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s01 = i16x8.add(s01, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s02 = i16x8.add(s02, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s03 = i16x8.add(s03, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      a = v128.load32_splat(x1);
      s10 = i16x8.add(s10, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s11 = i16x8.add(s11, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s12 = i16x8.add(s12, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s13 = i16x8.add(s13, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      a = v128.load32_splat(x2);
      s20 = i16x8.add(s20, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s21 = i16x8.add(s21, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s22 = i16x8.add(s22, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s23 = i16x8.add(s23, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      a = v128.load32_splat(x3);
      s30 = i16x8.add(s30, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s31 = i16x8.add(s31, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s32 = i16x8.add(s32, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s33 = i16x8.add(s33, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      w0 = v128.and(i16x8.shr_u(p0, 4), mask);
      w1 = v128.and(i16x8.shr_u(p1, 4), mask);
      w2 = v128.and(i16x8.shr_u(p2, 4), mask);
      w3 = v128.and(i16x8.shr_u(p3, 4), mask);
      a = v128.load32_splat(x, 4);
      s00 = i16x8.add(s00, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s01 = i16x8.add(s01, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s02 = i16x8.add(s02, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s03 = i16x8.add(s03, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      a = v128.load32_splat(x1, 4);
      s10 = i16x8.add(s10, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s11 = i16x8.add(s11, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s12 = i16x8.add(s12, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s13 = i16x8.add(s13, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      a = v128.load32_splat(x2, 4);
      s20 = i16x8.add(s20, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s21 = i16x8.add(s21, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s22 = i16x8.add(s22, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s23 = i16x8.add(s23, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      a = v128.load32_splat(x3, 4);
      s30 = i16x8.add(s30, i16x8.relaxed_dot_i8x16_i7x16_s(a, w0));
      s31 = i16x8.add(s31, i16x8.relaxed_dot_i8x16_i7x16_s(a, w1));
      s32 = i16x8.add(s32, i16x8.relaxed_dot_i8x16_i7x16_s(a, w2));
      s33 = i16x8.add(s33, i16x8.relaxed_dot_i8x16_i7x16_s(a, w3));
      x += 8;
      x1 += 8;
      x2 += 8;
      x3 += 8;
      w += PANEL_BYTES;
    } while (--count);
    const scale0 = v128.load(w);
    const scale1 = v128.load(w, 16);
    const scale2 = v128.load(w, 32);
    const scale3 = v128.load(w, 48);
    let factor = v128.load32_splat(x, 4);
    const o00 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s00, ones)), f32x4.mul(factor, scale0), v128.load(out));
    const o01 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s01, ones)), f32x4.mul(factor, scale1), v128.load(out, 16));
    const o02 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s02, ones)), f32x4.mul(factor, scale2), v128.load(out, 32));
    const o03 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s03, ones)), f32x4.mul(factor, scale3), v128.load(out, 48));
    storeFour(out, o00, o01, o02, o03);
    factor = v128.load32_splat(x1, 4);
    const o10 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s10, ones)), f32x4.mul(factor, scale0), v128.load(out1));
    const o11 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s11, ones)), f32x4.mul(factor, scale1), v128.load(out1, 16));
    const o12 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s12, ones)), f32x4.mul(factor, scale2), v128.load(out1, 32));
    const o13 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s13, ones)), f32x4.mul(factor, scale3), v128.load(out1, 48));
    storeFour(out1, o10, o11, o12, o13);
    factor = v128.load32_splat(x2, 4);
    const o20 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s20, ones)), f32x4.mul(factor, scale0), v128.load(out2));
    const o21 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s21, ones)), f32x4.mul(factor, scale1), v128.load(out2, 16));
    const o22 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s22, ones)), f32x4.mul(factor, scale2), v128.load(out2, 32));
    const o23 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s23, ones)), f32x4.mul(factor, scale3), v128.load(out2, 48));
    storeFour(out2, o20, o21, o22, o23);
    factor = v128.load32_splat(x3, 4);
    const o30 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s30, ones)), f32x4.mul(factor, scale0), v128.load(out3));
    const o31 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s31, ones)), f32x4.mul(factor, scale1), v128.load(out3, 16));
    const o32 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s32, ones)), f32x4.mul(factor, scale2), v128.load(out3, 32));
    const o33 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s33, ones)), f32x4.mul(factor, scale3), v128.load(out3, 48));
    storeFour(out3, o30, o31, o32, o33);
    x += 8;
    x1 += 8;
    x2 += 8;
    x3 += 8;
    w += PANEL_BYTES;
  } while (--blocks);
}

/** sum + the products of eight inputs, four in a and four in b, with eight weights, added up in 16 bits. */
// @ts-ignore: decorator
@inline
function nibbles(sum: v128, a: v128, b: v128, w: v128, mask: v128): v128 {
  const low = i16x8.add(sum, i16x8.relaxed_dot_i8x16_i7x16_s(a, v128.and(w, mask)));
  return i16x8.add(low, i16x8.relaxed_dot_i8x16_i7x16_s(b, v128.and(i16x8.shr_u(w, 4), mask)));
}

/** One row. A block is one piece of code, as in matmul-q8-chains.ts. */
function q4Tile1x16(out: usize, x: usize, w: usize, blocks: i32): void {
  const mask = v128.load32_splat(MASK);
  const ones = v128.load32_splat(ONES);
  let f0 = v128.load(out);
  let f1 = v128.load(out, 16);
  let f2 = v128.load(out, 32);
  let f3 = v128.load(out, 48);
  do {
    let s0 = v128.load32_splat(x, BLOCK);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    let a = v128.load32_splat(x);
    let b = v128.load32_splat(x, 4);
    s0 = nibbles(s0, a, b, v128.load(w), mask);
    s1 = nibbles(s1, a, b, v128.load(w, 16), mask);
    s2 = nibbles(s2, a, b, v128.load(w, 32), mask);
    s3 = nibbles(s3, a, b, v128.load(w, 48), mask);
    a = v128.load32_splat(x, 8);
    b = v128.load32_splat(x, 12);
    s0 = nibbles(s0, a, b, v128.load(w, 64), mask);
    s1 = nibbles(s1, a, b, v128.load(w, 80), mask);
    s2 = nibbles(s2, a, b, v128.load(w, 96), mask);
    s3 = nibbles(s3, a, b, v128.load(w, 112), mask);
    a = v128.load32_splat(x, 16);
    b = v128.load32_splat(x, 20);
    s0 = nibbles(s0, a, b, v128.load(w, 128), mask);
    s1 = nibbles(s1, a, b, v128.load(w, 144), mask);
    s2 = nibbles(s2, a, b, v128.load(w, 160), mask);
    s3 = nibbles(s3, a, b, v128.load(w, 176), mask);
    a = v128.load32_splat(x, 24);
    b = v128.load32_splat(x, 28);
    s0 = nibbles(s0, a, b, v128.load(w, 192), mask);
    s1 = nibbles(s1, a, b, v128.load(w, 208), mask);
    s2 = nibbles(s2, a, b, v128.load(w, 224), mask);
    s3 = nibbles(s3, a, b, v128.load(w, 240), mask);
    const factor = v128.load32_splat(x, BLOCK + 4);
    f0 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s0, ones)), f32x4.mul(factor, v128.load(w, SCALES)), f0);
    f1 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s1, ones)), f32x4.mul(factor, v128.load(w, SCALES + 16)), f1);
    f2 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s2, ones)), f32x4.mul(factor, v128.load(w, SCALES + 32)), f2);
    f3 = madd(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(s3, ones)), f32x4.mul(factor, v128.load(w, SCALES + 48)), f3);
    x += BLOCK + 8;
    w += Q4_BLOCK_BYTES;
  } while (--blocks);
  storeFour(out, f0, f1, f2, f3);
}
