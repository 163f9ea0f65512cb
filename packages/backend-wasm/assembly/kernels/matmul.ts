// matmul: every linear map of the model, with its bias where it has one.
//
// Weights stand in panels of 16 outputs, so that a vector holds neighbouring outputs and an input is broadcast: no sum is ever
// taken across a vector. For each output the sum runs over the inputs (f32, bf16) or their blocks (q8, q4) in order, in one
// accumulator, with the same instruction in every tile: neither the number of rows nor the range of panels can change a bit of
// the result (docs/contract.md, S4). One file for each dtype draws its panel.
import {
  BLOCK, DTYPE_BF16, DTYPE_F32, DTYPE_Q8, MATRIX_BIAS, MATRIX_DTYPE, MATRIX_FUSED, MATRIX_INNER, MATRIX_PANELS, MATRIX_WEIGHTS,
  MATRIX_WIDE, PANEL,
} from "../../src/descriptor";
import { inputStride, quantizeRows } from "./inputs";
import { panelBf16 } from "./matmul-bf16";
import { panelF32 } from "./matmul-f32";
import { panelQ4, Q4_BLOCK_BYTES } from "./matmul-q4";
import { panelQ8, q8PanelBytes } from "./matmul-q8";
import { start } from "./start";

const PANEL_BYTES = PANEL * 4;

/**
 * out = weight · x + bias.
 *
 * @param out f32 (rows, panels · 16), rows `outStride` bytes apart: the padding of the last panel is written too, as zeros
 * @param x f32 (rows, inner), rows `xStride` bytes apart
 * @param matrix the record of the weights
 * @param quantized scratch for the rounded rows of x under q8 and q4
 */
export function matmul(
  out: usize, x: usize, matrix: usize, rows: i32, xStride: usize, outStride: usize, quantized: usize,
): void {
  quantizeRows(quantized, x, matrix, xStride, 0, rows);
  matmulPanels(out, x, matrix, rows, xStride, outStride, quantized, 0, load<i32>(matrix, MATRIX_PANELS));
}

/** The outputs of panels [from, to) only. Under q8 and q4 x is not read, but `quantized`, which quantizeRows() has filled. */
export function matmulPanels(
  out: usize, x: usize, matrix: usize, rows: i32, xStride: usize, outStride: usize, quantized: usize, from: i32, to: i32,
): void {
  const inner = load<i32>(matrix, MATRIX_INNER);
  const dtype = load<i32>(matrix, MATRIX_DTYPE);
  const wide = load<i32>(matrix, MATRIX_WIDE) != 0;
  const fused = load<i32>(matrix, MATRIX_FUSED) != 0;
  const bias = load<usize>(matrix, MATRIX_BIAS);
  const blocks = (inner + BLOCK - 1) / BLOCK;
  const size = panelBytes(dtype, inner);
  let weights = load<usize>(matrix, MATRIX_WEIGHTS) + <usize>from * size;
  out += <usize>from * PANEL_BYTES;
  for (let panel = from; panel < to; panel++) {
    const origin = bias ? bias + <usize>panel * PANEL_BYTES : 0;
    if (dtype == DTYPE_F32) {
      start(out, outStride, rows, origin);
      panelF32(out, outStride, x, xStride, weights, PANEL_BYTES, inner, rows, wide);
    } else if (dtype == DTYPE_BF16) {
      start(out, outStride, rows, origin);
      panelBf16(out, outStride, x, xStride, weights, PANEL_BYTES, inner, rows, wide);
    } else if (dtype == DTYPE_Q8) {
      panelQ8(out, outStride, quantized, inputStride(dtype, inner), weights, blocks, rows, fused, origin);
    } else {
      panelQ4(out, outStride, quantized, inputStride(dtype, inner), weights, blocks, rows, wide, origin);
    }
    weights += size;
    out += PANEL_BYTES;
  }
}

/** Bytes of a panel of this dtype and width. */
export function panelBytes(dtype: i32, inner: i32): usize {
  if (dtype == DTYPE_F32) return <usize>inner * PANEL_BYTES;
  if (dtype == DTYPE_BF16) return <usize>((inner + 1) >> 1) * PANEL_BYTES;
  const blocks = (inner + BLOCK - 1) / BLOCK;
  return dtype == DTYPE_Q8 ? q8PanelBytes(blocks) : <usize>blocks * Q4_BLOCK_BYTES;
}
