// matmul of q8 weights: a panel is blocks of 32 inputs, each bytes (8 times 4 inputs, 16 outputs, 4), then f32 scales (16); behind the
// blocks a bound for each (u32).
//
// Relaxed build: inputs are rounded to 7 bits with a scale for each block of 32, and relaxed_dot multiplies them by the bytes of weights
// (bytes.ts). A pair of products fits 16 bits, so a block is an exact integer dot, whichever instructions compute it.
// Plain build: matmul-q8-plain.ts.
//
// One row is multiplied by dots (matmul-q8-dots.ts), several by chains (matmul-q8-chains.ts) where those are quicker.
//
// Every tile adds to what stands in `out`, one multiply-add for each block in the order of the blocks.
import { INPUT_Q8_BYTES, Q8_BLOCK_BYTES } from "./bytes";
import { PIECE_ROWS } from "./matmul-f32";
import { q8Rows2x16 } from "./matmul-q8-chains";
import { q8Fused1x16, q8Fused2x16, q8Tile1x16 } from "./matmul-q8-dots";
import { q8Plain1x16, q8Plain4x8 } from "./matmul-q8-plain";
import { start } from "./start";

/** Blocks of a panel that a few rows take together, as in matmul-f32.ts. */
const PIECE = 4;

/** Bytes of a panel of `blocks`: bounds begin at a whole number of blocks, and panels 64 bytes apart. */
export function q8PanelBytes(blocks: i32): usize {
  return <usize>blocks * Q8_BLOCK_BYTES + <usize>((blocks * 4 + 63) & ~63);
}

/** out (rows, 16) = bias (16), or 0, + x (rows, blocks) · w (blocks, 16). */
export function panelQ8(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32, rows: i32, fused: bool, bias: usize,
): void {
  if (ASC_FEATURE_RELAXED_SIMD) {
    const even = rows & ~1;
    if (fused) {
      for (let row = 0; row < even; row += 2) {
        start(out + <usize>row * outStride, outStride, 2, bias);
        q8Fused2x16(out + <usize>row * outStride, outStride, x + <usize>row * xStride, xStride, w, blocks);
      }
    } else if (even) {
      const bounds = w + <usize>blocks * Q8_BLOCK_BYTES;
      const piece = rows <= PIECE_ROWS ? PIECE : blocks;
      for (let block = 0; block < blocks; block += piece) {
        const at = w + <usize>block * Q8_BLOCK_BYTES;
        const xAt = x + <usize>block * INPUT_Q8_BYTES;
        const boundsAt = bounds + <usize>block * 4;
        const count = min(piece, blocks - block);
        load<i32>(at + <usize>count * Q8_BLOCK_BYTES); // asks for the next piece; behind the last stand the bounds
        q8Rows2x16(out, outStride, xAt, xStride, at, boundsAt, count, even, bias, block == 0);
      }
    }
    out += <usize>even * outStride;
    x += <usize>even * xStride;
    rows -= even;
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
