// swiglu: the gated unit between the two halves of the dense feed-forward.
import { exp, storeTwo } from "../simd";

/** z / (1 + e^-z) in four lanes. */
// @ts-ignore: decorator
@inline
export function silu(z: v128): v128 {
  return f32x4.div(z, f32x4.add(f32x4.splat(1), exp(f32x4.neg(z))));
}

/** out = silu(gate) ⊙ up, (rows, width) with rows `stride` bytes apart; out may be gate. */
export function swiglu(out: usize, gate: usize, up: usize, rows: i32, width: i32, stride: usize): void {
  const bytes = <usize>width << 2;
  const pairs = bytes & ~31;
  for (let row = 0; row < rows; row++) {
    let at: usize = 0;
    // Two vectors at once: they share the constants of exp, or become one of 256 bits.
    for (; at < pairs; at += 32) {
      const low = f32x4.mul(silu(v128.load(gate + at)), v128.load(up + at));
      const high = f32x4.mul(silu(v128.load(gate + at, 16)), v128.load(up + at, 16));
      storeTwo(out + at, low, high);
    }
    for (; at < bytes; at += 4) {
      const value = silu(f32x4.splat(load<f32>(gate + at)));
      store<f32>(out + at, f32x4.extract_lane(value, 0) * load<f32>(up + at));
    }
    out += stride;
    gate += stride;
    up += stride;
  }
}
