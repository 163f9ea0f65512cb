// matmul of f32 weights: panels of (inner, 16). These tiles also serve attention, whose pages hold keys as panels and values as
// rows of any width.
//
// Every tile adds to what stands in `out`, one multiply-add for each input in the order of the inputs: the shape of the tile
// cannot change a bit of the result.
import { PANEL } from "../../src/descriptor";
import { madd, storeFour, storeTwo } from "../simd";

const PANEL_BYTES = PANEL * 4;

/** Inputs that a few rows take together: 2 KiB of a panel. */
const PIECE = 32;
/** Rows that are a few: with more of them, reading a panel from memory takes little of their time. */
export const PIECE_ROWS = 12;
/** Panels of so few inputs, as attention has, lose by it. */
const SHORT = 128;

/**
 * out (rows, 16) += x (rows, inner) · w (inner, 16).
 *
 * A few rows go through a panel in pieces, tile after tile: so memory is read while they multiply. A load from each piece, before the one
 * before it is multiplied, begins that; loads from more of its lines are slower than none.
 *
 * @param w rows of 16 outputs, `step` bytes apart
 * @param wide where the engine joins neighbouring vectors to 256 bits
 */
export function panelF32(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32, rows: i32, wide: bool,
): void {
  if (rows > 1 && rows <= PIECE_ROWS && inner > SHORT) {
    for (; inner > PIECE; inner -= PIECE) {
      const next = w + PIECE * step;
      load<i32>(next);
      tiles(out, outStride, x, xStride, w, step, PIECE, rows, wide);
      x += PIECE * 4;
      w = next;
    }
  }
  tiles(out, outStride, x, xStride, w, step, inner, rows, wide);
}

/** All rows, tile after tile. */
function tiles(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32, rows: i32, wide: bool,
): void {
  if (wide) for (; rows >= 4; rows -= 4) {
    f32Tile4x16(out, outStride, x, xStride, w, step, inner);
    out += 4 * outStride;
    x += 4 * xStride;
  }
  for (; rows >= 6; rows -= 6) {
    f32Tile6x8(out, outStride, x, xStride, w, step, inner);
    f32Tile6x8(out + 32, outStride, x, xStride, w + 32, step, inner);
    out += 6 * outStride;
    x += 6 * xStride;
  }
  for (; rows >= 4; rows -= 4) {
    f32Tile4x8(out, outStride, x, xStride, w, step, inner);
    f32Tile4x8(out + 32, outStride, x, xStride, w + 32, step, inner);
    out += 4 * outStride;
    x += 4 * xStride;
  }
  for (; rows >= 2; rows -= 2) {
    f32Tile2x16(out, outStride, x, xStride, w, step, inner);
    out += 2 * outStride;
    x += 2 * xStride;
  }
  if (rows > 0) f32Tile1x16(out, outStride, x, xStride, w, step, inner);
}

/** Six rows, half a panel: 12 sums, 2 weights and 1 input are the 15 registers of x64. */
function f32Tile6x8(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  let x4 = x3 + xStride;
  let x5 = x4 + xStride;
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  const out4 = out3 + outStride;
  const out5 = out4 + outStride;
  let s00 = v128.load(out);
  let s01 = v128.load(out, 16);
  let s10 = v128.load(out1);
  let s11 = v128.load(out1, 16);
  let s20 = v128.load(out2);
  let s21 = v128.load(out2, 16);
  let s30 = v128.load(out3);
  let s31 = v128.load(out3, 16);
  let s40 = v128.load(out4);
  let s41 = v128.load(out4, 16);
  let s50 = v128.load(out5);
  let s51 = v128.load(out5, 16);
  do {
    const w0 = v128.load(w);
    const w1 = v128.load(w, 16);
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
    a = v128.load32_splat(x4);
    s40 = madd(a, w0, s40);
    s41 = madd(a, w1, s41);
    a = v128.load32_splat(x5);
    s50 = madd(a, w0, s50);
    s51 = madd(a, w1, s51);
    x += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
    x4 += 4;
    x5 += 4;
    w += step;
  } while (--inner);
  storeTwo(out, s00, s01);
  storeTwo(out1, s10, s11);
  storeTwo(out2, s20, s21);
  storeTwo(out3, s30, s31);
  storeTwo(out4, s40, s41);
  storeTwo(out5, s50, s51);
}

/** Four rows, a panel, for an engine that joins neighbouring vectors: 8 sums of 256 bits, so that none waits for itself. */
function f32Tile4x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
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
  do {
    const w0 = v128.load(w);
    const w1 = v128.load(w, 16);
    const w2 = v128.load(w, 32);
    const w3 = v128.load(w, 48);
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
    x += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
    w += step;
  } while (--inner);
  storeFour(out, s00, s01, s02, s03);
  storeFour(out1, s10, s11, s12, s13);
  storeFour(out2, s20, s21, s22, s23);
  storeFour(out3, s30, s31, s32, s33);
}

function f32Tile4x8(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
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
  do {
    const w0 = v128.load(w);
    const w1 = v128.load(w, 16);
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
    x += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
    w += step;
  } while (--inner);
  storeTwo(out, s00, s01);
  storeTwo(out1, s10, s11);
  storeTwo(out2, s20, s21);
  storeTwo(out3, s30, s31);
}

function f32Tile2x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
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
  do {
    const w0 = v128.load(w);
    const w1 = v128.load(w, 16);
    const w2 = v128.load(w, 32);
    const w3 = v128.load(w, 48);
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
    x += 4;
    x1 += 4;
    w += step;
  } while (--inner);
  storeFour(out, s00, s01, s02, s03);
  storeFour(out1, s10, s11, s12, s13);
}

function f32Tile1x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, step: usize, inner: i32): void {
  let s00 = v128.load(out);
  let s01 = v128.load(out, 16);
  let s02 = v128.load(out, 32);
  let s03 = v128.load(out, 48);
  do {
    const w0 = v128.load(w);
    const w1 = v128.load(w, 16);
    const w2 = v128.load(w, 32);
    const w3 = v128.load(w, 48);
    const a = v128.load32_splat(x);
    s00 = madd(a, w0, s00);
    s01 = madd(a, w1, s01);
    s02 = madd(a, w2, s02);
    s03 = madd(a, w3, s03);
    x += 4;
    w += step;
  } while (--inner);
  storeFour(out, s00, s01, s02, s03);
}
