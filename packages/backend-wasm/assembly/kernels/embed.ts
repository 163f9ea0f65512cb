// embed: a token's row of the embedding table starts the residual stream. No scaling.
//
// The table is held once, in the panels of the head: a row is a lane of its panel.
import {
  BLOCK, DTYPE_BF16, DTYPE_F32, DTYPE_Q8, MATRIX_DTYPE, MATRIX_FUSED, MATRIX_INNER, MATRIX_WEIGHTS, PANEL,
} from "../../src/descriptor";
import { offset, Q8_BLOCK_BYTES } from "./bytes";
import { panelBytes } from "./matmul";
import { Q4_BLOCK_BYTES } from "./matmul-q4";

/** Inputs that stand side by side in a panel of q8, as a power of two. */
const AT_ONCE = ASC_FEATURE_RELAXED_SIMD ? 2 : 1;

/** out: f32 (hidden). table: matrix (vocabulary, hidden). */
export function embed(out: usize, table: usize, id: i32): void {
  const inner = load<i32>(table, MATRIX_INNER);
  const dtype = load<i32>(table, MATRIX_DTYPE);
  const lane = <usize>(id % PANEL);
  let panel = load<usize>(table, MATRIX_WEIGHTS) + <usize>(id / PANEL) * panelBytes(dtype, inner);
  if (dtype == DTYPE_F32) {
    for (let k = 0; k < inner; k++) {
      store<f32>(out + (<usize>k << 2), load<f32>(panel + (<usize>k * PANEL + lane) * 4));
    }
    return;
  }
  if (dtype == DTYPE_BF16) {
    for (let k = 0; k < inner; k++) {
      const half = load<u16>(panel + (<usize>(k >> 1) * PANEL + lane) * 4 + (<usize>(k & 1) << 1));
      store<u32>(out + (<usize>k << 2), <u32>half << 16);
    }
    return;
  }
  const excess = ASC_FEATURE_RELAXED_SIMD && dtype == DTYPE_Q8 ? offset(load<i32>(table, MATRIX_FUSED) != 0) : 0;
  for (let first = 0; first < inner; first += BLOCK) {
    const count = min(BLOCK, inner - first);
    if (dtype == DTYPE_Q8) {
      const scale = load<f32>(panel + BLOCK * PANEL + (lane << 2));
      for (let k = 0; k < count; k++) {
        const byte = load<u8>(panel + ((<usize>(k >> AT_ONCE) * PANEL + lane) << AT_ONCE) + (k & ((1 << AT_ONCE) - 1)));
        const code = <i8>(byte - excess);
        store<f32>(out + (<usize>(first + k) << 2), <f32>code * scale);
      }
      panel += Q8_BLOCK_BYTES;
    } else {
      const scale = load<f32>(panel + (BLOCK * PANEL) / 2 + (lane << 2));
      for (let k = 0; k < count; k++) {
        const byte = load<u8>(panel + (<usize>(k >> 3) * PANEL + lane) * 4 + (k & 3));
        const code = <i32>(k & 4 ? byte >> 4 : byte & 15) - 8;
        store<f32>(out + (<usize>(first + k) << 2), <f32>code * scale);
      }
      panel += Q4_BLOCK_BYTES;
    }
  }
}
