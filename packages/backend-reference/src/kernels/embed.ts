// embed: each token's row of the embedding table starts the residual stream. No scaling.

/**
 * out[t] = table[ids[t]]
 *
 * @param out (rows, hidden)
 * @param table (vocabulary, hidden)
 * @param ids (rows)
 */
export function embed(out: Float32Array, table: Float32Array, ids: Int32Array, rows: number, hidden: number): void {
  for (let row = 0; row < rows; row++) {
    const from = ids[row]! * hidden;
    out.set(table.subarray(from, from + hidden), row * hidden);
  }
}
