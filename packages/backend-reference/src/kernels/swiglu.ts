// swiglu: the gated unit between the two halves of the dense feed-forward.

/** silu(z) = z · sigmoid(z) */
export const silu = (z: number): number => z / (1 + Math.exp(-z));

/**
 * out = silu(gate) ⊙ up. `out` may be `gate`.
 *
 * @param out (rows, width)
 * @param gate (rows, width)
 * @param up (rows, width)
 */
export function swiglu(out: Float32Array, gate: Float32Array, up: Float32Array, rows: number, width: number): void {
  for (let index = 0; index < rows * width; index++) out[index] = silu(gate[index]!) * up[index]!;
}
