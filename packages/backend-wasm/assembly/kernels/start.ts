// start: where the sums of a panel begin.
import { PANEL } from "../../src/descriptor";

const PANEL_BYTES = PANEL * 4;

/** A panel of each row starts at its bias, or, where `bias` is 0, at zero. Tiles of rows do this one by one, just before they add:
 *  a pass over all rows would wait for memory. */
export function start(out: usize, outStride: usize, rows: i32, bias: usize): void {
  for (; rows > 0; rows--) {
    if (bias) {
      memory.copy(out, bias, PANEL_BYTES);
    } else {
      v128.store(out, f32x4.splat(0));
      v128.store(out, f32x4.splat(0), 16);
      v128.store(out, f32x4.splat(0), 32);
      v128.store(out, f32x4.splat(0), 48);
    }
    out += outStride;
  }
}
