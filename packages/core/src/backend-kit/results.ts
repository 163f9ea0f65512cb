// What the results of any device need on the host.
import type { Floats } from "../backend.ts";
import { DogeError } from "../errors.ts";

/** The error of a row from whose logits no token follows, or no ln p. */
export function numerical(scope: string, row: number): DogeError {
  return new DogeError(
    "numerical",
    `row ${row}: its logits have a NaN or nothing finite, or +Infinity where log-probabilities are asked for: nothing follows from them.`,
    { scope },
  );
}

/** (columns, rows) from (rows, columns). */
export function transposed(data: Floats, columns: number): Floats {
  const rows = data.length / columns;
  const turned = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) turned[column * rows + row] = data[row * columns + column]!;
  }
  return turned;
}
