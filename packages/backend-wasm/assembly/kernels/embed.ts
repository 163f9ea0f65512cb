// embed: a token's row of the embedding table starts the residual stream. No scaling.
//
// The table is held once, in the panels of the head: a row is a lane of its panel.
import { BLOCK, MATRIX_INNER, MATRIX_SCALES, MATRIX_WEIGHTS, PANEL } from "../../src/descriptor";

/** out: f32 (hidden). table: matrix (vocabulary, hidden). */
export function embed(out: usize, table: usize, id: i32): void {
  const inner = load<i32>(table, MATRIX_INNER);
  const scales = load<usize>(table, MATRIX_SCALES);
  const panel = id / PANEL;
  const lane = id % PANEL;
  if (!scales) {
    let from = load<usize>(table, MATRIX_WEIGHTS) + (<usize>panel * inner * PANEL + lane) * 4;
    for (let k = 0; k < inner; k++) {
      store<f32>(out + (k << 2), load<f32>(from));
      from += PANEL * 4;
    }
    return;
  }
  const quads = (inner + 3) >> 2;
  const blocks = (inner + BLOCK - 1) / BLOCK;
  const from = load<usize>(table, MATRIX_WEIGHTS) + (<usize>panel * quads * PANEL + lane) * 4;
  const scale = scales + (<usize>panel * blocks * PANEL + lane) * 4;
  for (let k = 0; k < inner; k++) {
    const value = load<i8>(from + <usize>(k >> 2) * PANEL * 4 + (k & 3));
    store<f32>(out + (k << 2), <f32>value * load<f32>(scale + <usize>(k / BLOCK) * PANEL * 4));
  }
}
