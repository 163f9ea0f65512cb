// matmul: every linear map of the model, with its bias where it has one.

/**
 * out[r, o] = Σ_i x[r, i] · weight[o, i] + bias[o]
 *
 * Each sum runs over i in order, whatever `rows` is: equal rows give equal bits in a prompt and in a single step, which the
 * dynamic mask needs (equal tokens must tie exactly, docs/model.md).
 *
 * @param out (rows, outer)
 * @param x (rows, inner)
 * @param weight (outer, inner), as checkpoints store it
 * @param bias (outer) or null
 */
export function matmul(
  out: Float32Array,
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array | null,
  rows: number,
  inner: number,
  outer: number,
): void {
  for (let column = 0; column < outer; column++) {
    const start = column * inner;
    const added = bias === null ? 0 : bias[column]!;
    // The rows turn inside: a row of the weight is read from memory once for all of them.
    for (let row = 0; row < rows; row++) {
      const base = row * inner;
      let sum = 0;
      for (let index = 0; index < inner; index++) sum += x[base + index]! * weight[start + index]!;
      out[row * outer + column] = sum + added;
    }
  }
}
