// rmsnorm: the gated residual, then the normalisation that always follows it; also the norm of each query and key head.

/**
 * x ← gate ⊙ x + update (left out when both are null), then out = weight ⊙ x / sqrt(mean(x²) + epsilon)
 *
 * The gate multiplies the carried stream, not the update, so both belong to the sublayer before this norm. `out` may be `x`.
 *
 * @param out (rows, width)
 * @param x (rows, width), the residual stream, changed in place
 * @param gate (width) or null
 * @param update (rows, width) or null, what the sublayer before adds
 * @param weight (width)
 */
export function rmsnorm(
  out: Float32Array,
  x: Float32Array,
  gate: Float32Array | null,
  update: Float32Array | null,
  weight: Float32Array,
  rows: number,
  width: number,
  epsilon: number,
): void {
  for (let row = 0; row < rows; row++) {
    const base = row * width;
    let squares = 0;
    for (let index = 0; index < width; index++) {
      if (gate !== null && update !== null) {
        x[base + index] = gate[index]! * x[base + index]! + update[base + index]!;
      }
      squares += x[base + index]! * x[base + index]!;
    }
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let index = 0; index < width; index++) {
      out[base + index] = weight[index]! * (x[base + index]! * scale);
    }
  }
}
