// matmul: every linear map of the model, with its bias where it has one.
//
// Weights stand in panels of 16 outputs, so that a vector holds neighbouring outputs and an input is broadcast: no sum is ever
// taken across a vector. For each output the sum runs over the inputs in order, in one accumulator, with the same instruction
// in every tile below: the number of rows cannot change a bit of the result (docs/contract.md, S4).
//
//   f32   weights (panels, inner, 16)            one input: 64 bytes of a panel
//   q8    weights (panels, inner / 4, 16, 4) i8  four inputs: 64 bytes of a panel
import {
  BLOCK, MATRIX_BIAS, MATRIX_INNER, MATRIX_PANELS, MATRIX_SCALES, MATRIX_WEIGHTS, PANEL,
} from "../../src/descriptor";
import { madd } from "../simd";

const PANEL_BYTES = PANEL * 4;

/**
 * out = weight · x + bias.
 *
 * @param out f32 (rows, panels · 16), rows `outStride` bytes apart: the padding of the last panel is written too, as zeros
 * @param x f32 (rows, inner), rows `xStride` bytes apart
 * @param matrix the record of the weights
 * @param quantized scratch for the rows of x under q8
 */
export function matmul(
  out: usize, x: usize, matrix: usize, rows: i32, xStride: usize, outStride: usize, quantized: usize,
): void {
  quantizeRows(quantized, x, matrix, rows, xStride, 0, rows);
  matmulPanels(out, x, matrix, rows, xStride, outStride, quantized, 0, load<i32>(matrix, MATRIX_PANELS));
}

/** Rows [from, to) of the `rows` rows of x as matmulPanels reads them under q8; nothing under f32. */
export function quantizeRows(
  quantized: usize, x: usize, matrix: usize, rows: i32, xStride: usize, from: i32, to: i32,
): void {
  if (!load<usize>(matrix, MATRIX_SCALES)) return;
  const inner = load<i32>(matrix, MATRIX_INNER);
  const blocks = (inner + BLOCK - 1) / BLOCK;
  const rowBytes = <usize>blocks * BLOCK * 2;
  const rowScales = quantized + <usize>rows * rowBytes;
  for (let row = from; row < to; row++) {
    quantize(quantized + <usize>row * rowBytes, rowScales + <usize>row * blocks * 4, x + <usize>row * xStride, inner);
  }
}

/** The outputs of panels [from, to) only, of rows that quantizeRows has been through. */
export function matmulPanels(
  out: usize, x: usize, matrix: usize, rows: i32, xStride: usize, outStride: usize, quantized: usize, from: i32, to: i32,
): void {
  const inner = load<i32>(matrix, MATRIX_INNER);
  const scales = load<usize>(matrix, MATRIX_SCALES);
  if (scales) matmulQ8(out, matrix, rows, outStride, quantized, inner, scales, from, to);
  else matmulF32(out, x, matrix, rows, xStride, outStride, inner, from, to);
}

function matmulF32(
  out: usize, x: usize, matrix: usize, rows: i32, xStride: usize, outStride: usize, inner: i32, from: i32, to: i32,
): void {
  const size = <usize>inner * PANEL_BYTES;
  let weights = load<usize>(matrix, MATRIX_WEIGHTS) + <usize>from * size;
  let bias = load<usize>(matrix, MATRIX_BIAS);
  if (bias) bias += <usize>from * PANEL_BYTES;
  out += <usize>from * PANEL_BYTES;
  let panel = from;
  if (rows == 1) {
    // Two panels at once: eight chains of additions keep the multipliers busy where four would wait for themselves.
    for (; panel + 1 < to; panel += 2) {
      matmulF32_1x32(out, x, weights, weights + size, bias, inner);
      weights += 2 * size;
      if (bias) bias += 2 * PANEL_BYTES;
      out += 2 * PANEL_BYTES;
    }
  }
  for (; panel < to; panel++) {
    let row = 0;
    for (; row + 3 < rows; row += 4) {
      const a = x + <usize>row * xStride;
      const to = out + <usize>row * outStride;
      matmulF32_4x8(to, outStride, a, xStride, weights, bias, inner);
      matmulF32_4x8(to + 32, outStride, a, xStride, weights + 32, bias ? bias + 32 : 0, inner);
    }
    for (; row < rows; row++) {
      matmulF32_1x16(out + <usize>row * outStride, x + <usize>row * xStride, weights, bias, inner);
    }
    weights += size;
    if (bias) bias += PANEL_BYTES;
    out += PANEL_BYTES;
  }
}

// @ts-ignore: decorator
@inline
function start(bias: usize, at: usize): v128 {
  return bias ? v128.load(bias + at) : f32x4.splat(0);
}

/** One row, 16 outputs. */
function matmulF32_1x16(out: usize, x: usize, w: usize, bias: usize, inner: i32): void {
  let s0 = start(bias, 0);
  let s1 = start(bias, 16);
  let s2 = start(bias, 32);
  let s3 = start(bias, 48);
  do {
    const a = v128.load32_splat(x);
    s0 = madd(a, v128.load(w), s0);
    s1 = madd(a, v128.load(w, 16), s1);
    s2 = madd(a, v128.load(w, 32), s2);
    s3 = madd(a, v128.load(w, 48), s3);
    x += 4;
    w += PANEL_BYTES;
  } while (--inner);
  v128.store(out, s0);
  v128.store(out, s1, 16);
  v128.store(out, s2, 32);
  v128.store(out, s3, 48);
}

/** One row, the 32 outputs of two panels. */
function matmulF32_1x32(out: usize, x: usize, w: usize, v: usize, bias: usize, inner: i32): void {
  let s0 = start(bias, 0);
  let s1 = start(bias, 16);
  let s2 = start(bias, 32);
  let s3 = start(bias, 48);
  let s4 = start(bias, 64);
  let s5 = start(bias, 80);
  let s6 = start(bias, 96);
  let s7 = start(bias, 112);
  do {
    const a = v128.load32_splat(x);
    s0 = madd(a, v128.load(w), s0);
    s1 = madd(a, v128.load(w, 16), s1);
    s2 = madd(a, v128.load(w, 32), s2);
    s3 = madd(a, v128.load(w, 48), s3);
    s4 = madd(a, v128.load(v), s4);
    s5 = madd(a, v128.load(v, 16), s5);
    s6 = madd(a, v128.load(v, 32), s6);
    s7 = madd(a, v128.load(v, 48), s7);
    x += 4;
    w += PANEL_BYTES;
    v += PANEL_BYTES;
  } while (--inner);
  v128.store(out, s0);
  v128.store(out, s1, 16);
  v128.store(out, s2, 32);
  v128.store(out, s3, 48);
  v128.store(out, s4, 64);
  v128.store(out, s5, 80);
  v128.store(out, s6, 96);
  v128.store(out, s7, 112);
}

/** Four rows, half a panel: 8 sums, 2 weights and 1 input fit the 15 registers. */
function matmulF32_4x8(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, bias: usize, inner: i32): void {
  let s00 = start(bias, 0);
  let s01 = start(bias, 16);
  let s10 = s00;
  let s11 = s01;
  let s20 = s00;
  let s21 = s01;
  let s30 = s00;
  let s31 = s01;
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
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
    w += PANEL_BYTES;
  } while (--inner);
  v128.store(out, s00);
  v128.store(out, s01, 16);
  out += outStride;
  v128.store(out, s10);
  v128.store(out, s11, 16);
  out += outStride;
  v128.store(out, s20);
  v128.store(out, s21, 16);
  out += outStride;
  v128.store(out, s30);
  v128.store(out, s31, 16);
}

/** Inputs are rounded to 16 bits with a scale for each block of 32, so that a block is an exact integer dot. The products of
 *  this kernel take 16 bits anyway: 8 would save nothing here, and cost a hundred times the error. */
function matmulQ8(
  out: usize, matrix: usize, rows: i32, outStride: usize, quantized: usize, inner: i32, scales: usize, from: i32, to: i32,
): void {
  const quads = (inner + 3) >> 2;
  const blocks = (inner + BLOCK - 1) / BLOCK;
  const rowBytes = <usize>blocks * BLOCK * 2;
  const rowScales = quantized + <usize>rows * rowBytes;
  const size = <usize>quads * PANEL_BYTES;
  const scaleSize = <usize>blocks * PANEL_BYTES;
  let weights = load<usize>(matrix, MATRIX_WEIGHTS) + <usize>from * size;
  scales += <usize>from * scaleSize;
  let bias = load<usize>(matrix, MATRIX_BIAS);
  if (bias) bias += <usize>from * PANEL_BYTES;
  out += <usize>from * PANEL_BYTES;
  for (let panel = from; panel < to; panel++) {
    for (let row = 0; row < rows; row++) {
      matmulQ8_1x16(
        out + <usize>row * outStride, quantized + <usize>row * rowBytes, rowScales + <usize>row * blocks * 4,
        weights, scales, bias, quads,
      );
    }
    weights += size;
    scales += scaleSize;
    if (bias) bias += PANEL_BYTES;
    out += PANEL_BYTES;
  }
}

/** out: i16 (blocks, 32), the last block filled with zeros; scales: f32 (blocks). 32 products of 15 and 7 bits fit 32. */
function quantize(out: usize, scales: usize, x: usize, inner: i32): void {
  while (inner > 0) {
    const count = min(inner, BLOCK);
    let largest: f32 = 0;
    for (let index = 0; index < count; index++) largest = max(largest, abs(load<f32>(x + (index << 2))));
    // A NaN or infinite input must reach the output: its scale carries it there.
    store<f32>(scales, largest / 32767);
    const inverse: f32 = largest > 0 ? <f32>32767 / largest : 0;
    for (let index = 0; index < count; index++) {
      store<i16>(out + (index << 1), <i16>nearest(load<f32>(x + (index << 2)) * inverse));
    }
    for (let index = count; index < BLOCK; index++) store<i16>(out + (index << 1), 0);
    x += BLOCK * 4;
    out += BLOCK * 2;
    scales += 4;
    inner -= BLOCK;
  }
}

/** Lanes (a0 a1 b0 b1), (c0 c1 d0 d1) to the sums (a b c d). */
// @ts-ignore: decorator
@inline
function pairs(low: v128, high: v128): v128 {
  return i32x4.add(
    v128.shuffle<i32>(low, high, 0, 2, 4, 6),
    v128.shuffle<i32>(low, high, 1, 3, 5, 7),
  );
}

/** One row, 16 outputs. x: i16 (blocks, 32), factors: f32 (blocks); w: i8 (quads, 16, 4), scales: f32 (blocks, 16). */
function matmulQ8_1x16(
  out: usize, x: usize, factors: usize, w: usize, scales: usize, bias: usize, quads: i32,
): void {
  let s0 = start(bias, 0);
  let s1 = start(bias, 16);
  let s2 = start(bias, 32);
  let s3 = start(bias, 48);
  do {
    let d0 = i32x4.splat(0);
    let d1 = d0;
    let d2 = d0;
    let d3 = d0;
    let d4 = d0;
    let d5 = d0;
    let d6 = d0;
    let d7 = d0;
    let count = min(quads, BLOCK / 4);
    quads -= count;
    let quad = x;
    do {
      const a = v128.load64_splat(quad);
      d0 = i32x4.add(d0, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w)));
      d1 = i32x4.add(d1, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w, 8)));
      d2 = i32x4.add(d2, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w, 16)));
      d3 = i32x4.add(d3, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w, 24)));
      d4 = i32x4.add(d4, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w, 32)));
      d5 = i32x4.add(d5, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w, 40)));
      d6 = i32x4.add(d6, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w, 48)));
      d7 = i32x4.add(d7, i32x4.dot_i16x8_s(a, v128.load_ext<i8>(w, 56)));
      quad += 8;
      w += PANEL_BYTES;
    } while (--count);
    const factor = v128.load32_splat(factors);
    s0 = madd(f32x4.convert_i32x4_s(pairs(d0, d1)), f32x4.mul(factor, v128.load(scales)), s0);
    s1 = madd(f32x4.convert_i32x4_s(pairs(d2, d3)), f32x4.mul(factor, v128.load(scales, 16)), s1);
    s2 = madd(f32x4.convert_i32x4_s(pairs(d4, d5)), f32x4.mul(factor, v128.load(scales, 32)), s2);
    s3 = madd(f32x4.convert_i32x4_s(pairs(d6, d7)), f32x4.mul(factor, v128.load(scales, 48)), s3);
    x += BLOCK * 2;
    factors += 4;
    scales += PANEL_BYTES;
  } while (quads > 0);
  v128.store(out, s0);
  v128.store(out, s1, 16);
  v128.store(out, s2, 32);
  v128.store(out, s3, 48);
}
