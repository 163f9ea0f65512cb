// matmul of q8 weights in the plain build: a panel is blocks of 32 inputs, each i8 (16 pairs of inputs, 16 outputs, 2), then f32
// scales (16); behind the blocks is room for what the relaxed build has there. Inputs are rounded to 16 bits with a scale for each block
// of 32, so that a block is an exact integer dot: a product takes 16 bits here anyway.
//
// Every tile adds to what stands in `out`, one multiply-add for each block in the order of the blocks.
import { PANEL } from "../../src/descriptor";
import { madd } from "../simd";

const PANEL_BYTES = PANEL * 4;

/** Four rows, half a panel. `half`: 16 for the first, 32 for the second, whose scales stand 16 bytes farther on. */
export function q8Plain4x8(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32, half: usize): void {
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  do {
    let s00 = i32x4.splat(0);
    let s01 = s00;
    let s10 = s00;
    let s11 = s00;
    let s20 = s00;
    let s21 = s00;
    let s30 = s00;
    let s31 = s00;
    let count = 8;
    do {
      let w0 = v128.load_ext<i8>(w);
      let w1 = v128.load_ext<i8>(w, 8);
      let a = v128.load32_splat(x);
      s00 = i32x4.add(s00, i32x4.dot_i16x8_s(a, w0));
      s01 = i32x4.add(s01, i32x4.dot_i16x8_s(a, w1));
      a = v128.load32_splat(x1);
      s10 = i32x4.add(s10, i32x4.dot_i16x8_s(a, w0));
      s11 = i32x4.add(s11, i32x4.dot_i16x8_s(a, w1));
      a = v128.load32_splat(x2);
      s20 = i32x4.add(s20, i32x4.dot_i16x8_s(a, w0));
      s21 = i32x4.add(s21, i32x4.dot_i16x8_s(a, w1));
      a = v128.load32_splat(x3);
      s30 = i32x4.add(s30, i32x4.dot_i16x8_s(a, w0));
      s31 = i32x4.add(s31, i32x4.dot_i16x8_s(a, w1));
      w0 = v128.load_ext<i8>(w, 32);
      w1 = v128.load_ext<i8>(w, 40);
      a = v128.load32_splat(x, 4);
      s00 = i32x4.add(s00, i32x4.dot_i16x8_s(a, w0));
      s01 = i32x4.add(s01, i32x4.dot_i16x8_s(a, w1));
      a = v128.load32_splat(x1, 4);
      s10 = i32x4.add(s10, i32x4.dot_i16x8_s(a, w0));
      s11 = i32x4.add(s11, i32x4.dot_i16x8_s(a, w1));
      a = v128.load32_splat(x2, 4);
      s20 = i32x4.add(s20, i32x4.dot_i16x8_s(a, w0));
      s21 = i32x4.add(s21, i32x4.dot_i16x8_s(a, w1));
      a = v128.load32_splat(x3, 4);
      s30 = i32x4.add(s30, i32x4.dot_i16x8_s(a, w0));
      s31 = i32x4.add(s31, i32x4.dot_i16x8_s(a, w1));
      x += 8;
      x1 += 8;
      x2 += 8;
      x3 += 8;
      w += 64;
    } while (--count);
    w += half - 16;
    const scale0 = v128.load(w);
    const scale1 = v128.load(w, 16);
    let factor = v128.load32_splat(x);
    const o00 = madd(f32x4.convert_i32x4_s(s00), f32x4.mul(factor, scale0), v128.load(out));
    const o01 = madd(f32x4.convert_i32x4_s(s01), f32x4.mul(factor, scale1), v128.load(out, 16));
    v128.store(out, o00);
    v128.store(out, o01, 16);
    factor = v128.load32_splat(x1);
    const o10 = madd(f32x4.convert_i32x4_s(s10), f32x4.mul(factor, scale0), v128.load(out1));
    const o11 = madd(f32x4.convert_i32x4_s(s11), f32x4.mul(factor, scale1), v128.load(out1, 16));
    v128.store(out1, o10);
    v128.store(out1, o11, 16);
    factor = v128.load32_splat(x2);
    const o20 = madd(f32x4.convert_i32x4_s(s20), f32x4.mul(factor, scale0), v128.load(out2));
    const o21 = madd(f32x4.convert_i32x4_s(s21), f32x4.mul(factor, scale1), v128.load(out2, 16));
    v128.store(out2, o20);
    v128.store(out2, o21, 16);
    factor = v128.load32_splat(x3);
    const o30 = madd(f32x4.convert_i32x4_s(s30), f32x4.mul(factor, scale0), v128.load(out3));
    const o31 = madd(f32x4.convert_i32x4_s(s31), f32x4.mul(factor, scale1), v128.load(out3, 16));
    v128.store(out3, o30);
    v128.store(out3, o31, 16);
    x += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
    w += <usize>PANEL_BYTES - (half - 16);
  } while (--blocks);
}

export function q8Plain1x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  let f0 = v128.load(out);
  let f1 = v128.load(out, 16);
  let f2 = v128.load(out, 32);
  let f3 = v128.load(out, 48);
  do {
    let s00 = i32x4.splat(0);
    let s01 = s00;
    let s02 = s00;
    let s03 = s00;
    let count = 8;
    do {
      let w0 = v128.load_ext<i8>(w);
      let w1 = v128.load_ext<i8>(w, 8);
      let w2 = v128.load_ext<i8>(w, 16);
      let w3 = v128.load_ext<i8>(w, 24);
      let a = v128.load32_splat(x);
      s00 = i32x4.add(s00, i32x4.dot_i16x8_s(a, w0));
      s01 = i32x4.add(s01, i32x4.dot_i16x8_s(a, w1));
      s02 = i32x4.add(s02, i32x4.dot_i16x8_s(a, w2));
      s03 = i32x4.add(s03, i32x4.dot_i16x8_s(a, w3));
      w0 = v128.load_ext<i8>(w, 32);
      w1 = v128.load_ext<i8>(w, 40);
      w2 = v128.load_ext<i8>(w, 48);
      w3 = v128.load_ext<i8>(w, 56);
      a = v128.load32_splat(x, 4);
      s00 = i32x4.add(s00, i32x4.dot_i16x8_s(a, w0));
      s01 = i32x4.add(s01, i32x4.dot_i16x8_s(a, w1));
      s02 = i32x4.add(s02, i32x4.dot_i16x8_s(a, w2));
      s03 = i32x4.add(s03, i32x4.dot_i16x8_s(a, w3));
      x += 8;
      w += 64;
    } while (--count);
    const scale0 = v128.load(w);
    const scale1 = v128.load(w, 16);
    const scale2 = v128.load(w, 32);
    const scale3 = v128.load(w, 48);
    const factor = v128.load32_splat(x);
    f0 = madd(f32x4.convert_i32x4_s(s00), f32x4.mul(factor, scale0), f0);
    f1 = madd(f32x4.convert_i32x4_s(s01), f32x4.mul(factor, scale1), f1);
    f2 = madd(f32x4.convert_i32x4_s(s02), f32x4.mul(factor, scale2), f2);
    f3 = madd(f32x4.convert_i32x4_s(s03), f32x4.mul(factor, scale3), f3);
    x += 4;
    w += PANEL_BYTES;
  } while (--blocks);
  v128.store(out, f0);
  v128.store(out, f1, 16);
  v128.store(out, f2, 32);
  v128.store(out, f3, 48);
}
