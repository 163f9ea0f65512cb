// matmul of bf16 weights: panels of (inner / 2, 16) words, the even input in the low half, so that widening is one shift for the
// even and one mask for the odd. Inputs and sums are f32: the products are those of the widened weights. Attention's pages hold
// bf16 keys and values in the same way.
//
// As in matmul-f32.ts, every tile adds to `out`, one multiply-add for each input in the order of the inputs.
import { madd, storeFour, storeTwo } from "../simd";

/** Selects the odd halves; in memory, since V8 would rebuild a constant at each use. */
const HIGH = memory.data<u32>([0xffff0000]);

/**
 * out (rows, 16) += x (rows, inner) · w (inner, 16).
 *
 * @param w rows of 16 words, `step` bytes apart; after an odd `inner` the last high halves are not read
 * @param wide where the engine joins neighbouring vectors to 256 bits
 */
export function panelBf16(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32, rows: i32, wide: bool,
): void {
  for (; rows >= 4; rows -= 4) {
    if (wide) {
      bf16Tile4x16(out, outStride, x, xStride, w, step, inner);
    } else {
      bf16Tile4x8(out, outStride, x, xStride, w, step, inner);
      bf16Tile4x8(out + 32, outStride, x, xStride, w + 32, step, inner);
    }
    out += 4 * outStride;
    x += 4 * xStride;
  }
  for (; rows >= 2; rows -= 2) {
    bf16Tile2x16(out, outStride, x, xStride, w, step, inner);
    out += 2 * outStride;
    x += 2 * xStride;
  }
  if (rows > 0) bf16Tile1x16(out, outStride, x, xStride, w, step, inner);
}

function bf16Tile4x8(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
  const high = v128.load32_splat(HIGH);
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  let s00 = v128.load(out);
  let s01 = v128.load(out, 16);
  let s10 = v128.load(out1);
  let s11 = v128.load(out1, 16);
  let s20 = v128.load(out2);
  let s21 = v128.load(out2, 16);
  let s30 = v128.load(out3);
  let s31 = v128.load(out3, 16);
  const odd = inner & 1;
  let pairs = inner >> 1;
  if (pairs) do {
    const p0 = v128.load(w);
    const p1 = v128.load(w, 16);
    let w0 = i32x4.shl(p0, 16);
    let w1 = i32x4.shl(p1, 16);
    let a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    a = v128.load32_splat(x1);
    s10 = madd(a, w0, s10);
    s11 = madd(a, w1, s11);
    a = v128.load32_splat(x2);
    s20 = madd(a, w0, s20);
    s21 = madd(a, w1, s21);
    a = v128.load32_splat(x3);
    s30 = madd(a, w0, s30);
    s31 = madd(a, w1, s31);
    w0 = v128.and(p0, high);
    w1 = v128.and(p1, high);
    a = v128.load32_splat(x, 4);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    a = v128.load32_splat(x1, 4);
    s10 = madd(a, w0, s10);
    s11 = madd(a, w1, s11);
    a = v128.load32_splat(x2, 4);
    s20 = madd(a, w0, s20);
    s21 = madd(a, w1, s21);
    a = v128.load32_splat(x3, 4);
    s30 = madd(a, w0, s30);
    s31 = madd(a, w1, s31);
    x += 8;
    x1 += 8;
    x2 += 8;
    x3 += 8;
    w += step;
  } while (--pairs);
  if (odd) {
    const w0 = i32x4.shl(v128.load(w), 16);
    const w1 = i32x4.shl(v128.load(w, 16), 16);
    let a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    a = v128.load32_splat(x1);
    s10 = madd(a, w0, s10);
    s11 = madd(a, w1, s11);
    a = v128.load32_splat(x2);
    s20 = madd(a, w0, s20);
    s21 = madd(a, w1, s21);
    a = v128.load32_splat(x3);
    s30 = madd(a, w0, s30);
    s31 = madd(a, w1, s31);
  }
  storeTwo(out, s00, s01);
  storeTwo(out1, s10, s11);
  storeTwo(out2, s20, s21);
  storeTwo(out3, s30, s31);
}

/** Two rows, a panel: one weight vector at a time, so that 8 sums and 4 inputs stay in registers. */
/** Four rows, a panel, for an engine that joins neighbouring vectors: 8 sums of 256 bits, so that none waits for itself. */
function bf16Tile4x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
  const high = v128.load32_splat(HIGH);
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  let s00 = v128.load(out);
  let s01 = v128.load(out, 16);
  let s02 = v128.load(out, 32);
  let s03 = v128.load(out, 48);
  let s10 = v128.load(out1);
  let s11 = v128.load(out1, 16);
  let s12 = v128.load(out1, 32);
  let s13 = v128.load(out1, 48);
  let s20 = v128.load(out2);
  let s21 = v128.load(out2, 16);
  let s22 = v128.load(out2, 32);
  let s23 = v128.load(out2, 48);
  let s30 = v128.load(out3);
  let s31 = v128.load(out3, 16);
  let s32 = v128.load(out3, 32);
  let s33 = v128.load(out3, 48);
  const odd = inner & 1;
  let pairs = inner >> 1;
  if (pairs) do {
    const p0 = v128.load(w);
    const p1 = v128.load(w, 16);
    const p2 = v128.load(w, 32);
    const p3 = v128.load(w, 48);
    let w0 = i32x4.shl(p0, 16);
    let w1 = i32x4.shl(p1, 16);
    let w2 = i32x4.shl(p2, 16);
    let w3 = i32x4.shl(p3, 16);
    let a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
    a = v128.load32_splat(x1);
    s10 = madd(a, w0, s10);
    s11 = madd(a, w1, s11);
    s12 = madd(a, w2, s12);
    s13 = madd(a, w3, s13);
    a = v128.load32_splat(x2);
    s20 = madd(a, w0, s20);
    s21 = madd(a, w1, s21);
    s22 = madd(a, w2, s22);
    s23 = madd(a, w3, s23);
    a = v128.load32_splat(x3);
    s30 = madd(a, w0, s30);
    s31 = madd(a, w1, s31);
    s32 = madd(a, w2, s32);
    s33 = madd(a, w3, s33);
    w0 = v128.and(p0, high);
    w1 = v128.and(p1, high);
    w2 = v128.and(p2, high);
    w3 = v128.and(p3, high);
    a = v128.load32_splat(x, 4);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
    a = v128.load32_splat(x1, 4);
    s10 = madd(a, w0, s10);
    s11 = madd(a, w1, s11);
    s12 = madd(a, w2, s12);
    s13 = madd(a, w3, s13);
    a = v128.load32_splat(x2, 4);
    s20 = madd(a, w0, s20);
    s21 = madd(a, w1, s21);
    s22 = madd(a, w2, s22);
    s23 = madd(a, w3, s23);
    a = v128.load32_splat(x3, 4);
    s30 = madd(a, w0, s30);
    s31 = madd(a, w1, s31);
    s32 = madd(a, w2, s32);
    s33 = madd(a, w3, s33);
    x += 8;
    x1 += 8;
    x2 += 8;
    x3 += 8;
    w += step;
  } while (--pairs);
  if (odd) {
    const w0 = i32x4.shl(v128.load(w), 16);
    const w1 = i32x4.shl(v128.load(w, 16), 16);
    const w2 = i32x4.shl(v128.load(w, 32), 16);
    const w3 = i32x4.shl(v128.load(w, 48), 16);
    let a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
    a = v128.load32_splat(x1);
    s10 = madd(a, w0, s10);
    s11 = madd(a, w1, s11);
    s12 = madd(a, w2, s12);
    s13 = madd(a, w3, s13);
    a = v128.load32_splat(x2);
    s20 = madd(a, w0, s20);
    s21 = madd(a, w1, s21);
    s22 = madd(a, w2, s22);
    s23 = madd(a, w3, s23);
    a = v128.load32_splat(x3);
    s30 = madd(a, w0, s30);
    s31 = madd(a, w1, s31);
    s32 = madd(a, w2, s32);
    s33 = madd(a, w3, s33);
  }
  storeFour(out, s00, s01, s02, s03);
  storeFour(out1, s10, s11, s12, s13);
  storeFour(out2, s20, s21, s22, s23);
  storeFour(out3, s30, s31, s32, s33);
}

function bf16Tile2x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
  const high = v128.load32_splat(HIGH);
  let x1 = x + xStride;
  const out1 = out + outStride;
  let s00 = v128.load(out);
  let s01 = v128.load(out, 16);
  let s02 = v128.load(out, 32);
  let s03 = v128.load(out, 48);
  let s10 = v128.load(out1);
  let s11 = v128.load(out1, 16);
  let s12 = v128.load(out1, 32);
  let s13 = v128.load(out1, 48);
  const odd = inner & 1;
  let pairs = inner >> 1;
  if (pairs) do {
    const a0 = v128.load32_splat(x);
    const a1 = v128.load32_splat(x1);
    const b0 = v128.load32_splat(x, 4);
    const b1 = v128.load32_splat(x1, 4);
    let p = v128.load(w);
    let wide = i32x4.shl(p, 16);
    s00 = madd(a0, wide, s00);
    s10 = madd(a1, wide, s10);
    wide = v128.and(p, high);
    s00 = madd(b0, wide, s00);
    s10 = madd(b1, wide, s10);
    p = v128.load(w, 16);
    wide = i32x4.shl(p, 16);
    s01 = madd(a0, wide, s01);
    s11 = madd(a1, wide, s11);
    wide = v128.and(p, high);
    s01 = madd(b0, wide, s01);
    s11 = madd(b1, wide, s11);
    p = v128.load(w, 32);
    wide = i32x4.shl(p, 16);
    s02 = madd(a0, wide, s02);
    s12 = madd(a1, wide, s12);
    wide = v128.and(p, high);
    s02 = madd(b0, wide, s02);
    s12 = madd(b1, wide, s12);
    p = v128.load(w, 48);
    wide = i32x4.shl(p, 16);
    s03 = madd(a0, wide, s03);
    s13 = madd(a1, wide, s13);
    wide = v128.and(p, high);
    s03 = madd(b0, wide, s03);
    s13 = madd(b1, wide, s13);
    x += 8;
    x1 += 8;
    w += step;
  } while (--pairs);
  if (odd) {
    const w0 = i32x4.shl(v128.load(w), 16);
    const w1 = i32x4.shl(v128.load(w, 16), 16);
    const w2 = i32x4.shl(v128.load(w, 32), 16);
    const w3 = i32x4.shl(v128.load(w, 48), 16);
    let a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
    a = v128.load32_splat(x1);
    s10 = madd(a, w0, s10);
    s11 = madd(a, w1, s11);
    s12 = madd(a, w2, s12);
    s13 = madd(a, w3, s13);
  }
  storeFour(out, s00, s01, s02, s03);
  storeFour(out1, s10, s11, s12, s13);
}

function bf16Tile1x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
  const high = v128.load32_splat(HIGH);
  let s00 = v128.load(out);
  let s01 = v128.load(out, 16);
  let s02 = v128.load(out, 32);
  let s03 = v128.load(out, 48);
  const odd = inner & 1;
  let pairs = inner >> 1;
  if (pairs) do {
    const p0 = v128.load(w);
    const p1 = v128.load(w, 16);
    const p2 = v128.load(w, 32);
    const p3 = v128.load(w, 48);
    let w0 = i32x4.shl(p0, 16);
    let w1 = i32x4.shl(p1, 16);
    let w2 = i32x4.shl(p2, 16);
    let w3 = i32x4.shl(p3, 16);
    let a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
    w0 = v128.and(p0, high);
    w1 = v128.and(p1, high);
    w2 = v128.and(p2, high);
    w3 = v128.and(p3, high);
    a = v128.load32_splat(x, 4);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
    x += 8;
    w += step;
  } while (--pairs);
  if (odd) {
    const w0 = i32x4.shl(v128.load(w), 16);
    const w1 = i32x4.shl(v128.load(w, 16), 16);
    const w2 = i32x4.shl(v128.load(w, 32), 16);
    const w3 = i32x4.shl(v128.load(w, 48), 16);
    const a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
  }
  storeFour(out, s00, s01, s02, s03);
}
