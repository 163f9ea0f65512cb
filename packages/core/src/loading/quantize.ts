// q8 and q4: the numbers every backend must hold under these dtypes (contract S4). A backend may repack them, not round again.
//
// Both cut each row (one output of a linear layer, one token, one expert) into blocks of 32 columns; the last block of a row
// may be shorter. Every block has one f32 scale, and a value is code * scale. Rows never share a block.
//
//   q8:  scale = f32(max|w| / 127);  code = round(w / scale) in -127 ... 127.
//   q4:  scale = f32(m / -8), m the value of the largest magnitude with its sign;  code = round(w / scale) in -8 ... 7.
//        So m itself is met exactly by the code -8, which has no positive twin (ggml's Q4_0 does the same).
//        Two codes to a byte: column c of a row lies in byte floor(c / 2) of the row, in the low half when c is even,
//        stored as code + 8. A row takes ceil(columns / 2) bytes.
//
// Quotients are taken in double precision and rounded half away from zero: symmetric, so that no sign is favoured.
// A block of zeros, or one so small that its scale underflows, has the scale 0 and codes 0.

import type { Floats } from "../backend.ts";
import { DogeError } from "../errors.ts";

export { fromBf16, fromF16, toBf16 } from "./number-formats.ts";

/** Columns that share a scale. */
export const QUANTIZATION_BLOCK = 32;

export interface Q8 {
  /** rows x columns codes. */
  readonly values: Int8Array<ArrayBuffer>;
  /** rows x ceil(columns / 32). */
  readonly scales: Floats;
}
export interface Q4 {
  /** rows x ceil(columns / 2) bytes of two codes. */
  readonly values: Uint8Array<ArrayBuffer>;
  /** rows x ceil(columns / 32). */
  readonly scales: Floats;
}

/** Half away from zero; Math.round alone takes -2.5 to -2. Free of -0. */
const round = (value: number): number => (value < 0 ? 0 - Math.floor(0.5 - value) : Math.floor(value + 0.5));

function rowsOf(length: number, columns: number): number {
  if (!Number.isSafeInteger(columns) || columns < 1 || length % columns !== 0) {
    throw new DogeError("invalid-argument", `${length} values do not make whole rows of ${columns} columns.`);
  }
  return length / columns;
}

/** The value of the largest magnitude in [from, to), with its sign; the first one on a tie. */
function extreme(source: Float32Array, from: number, to: number): number {
  let result = 0;
  for (let index = from; index < to; index++) if (Math.abs(source[index]!) > Math.abs(result)) result = source[index]!;
  return result;
}

/** Calls `block(scale index, first value, end)` for every block of every row. */
function eachBlock(rows: number, columns: number, block: (index: number, from: number, to: number) => void): void {
  let index = 0;
  for (let row = 0; row < rows; row++) {
    const end = (row + 1) * columns;
    for (let from = row * columns; from < end; from += QUANTIZATION_BLOCK) {
      block(index++, from, Math.min(from + QUANTIZATION_BLOCK, end));
    }
  }
}

const blocksPerRow = (columns: number): number => Math.ceil(columns / QUANTIZATION_BLOCK);

/** Quantise whole rows of finite values; each value moves by at most half a scale.
 *  @throws DogeError "invalid-argument" when `source` is not whole rows. */
export function quantizeQ8(source: Float32Array, columns: number): Q8 {
  const rows = rowsOf(source.length, columns);
  const values = new Int8Array(source.length);
  const scales = new Float32Array(rows * blocksPerRow(columns));
  eachBlock(rows, columns, (index, from, to) => {
    const scale = (scales[index] = Math.fround(Math.abs(extreme(source, from, to)) / 127));
    if (scale === 0) return;
    for (let at = from; at < to; at++) values[at] = Math.max(-127, Math.min(127, round(source[at]! / scale)));
  });
  return { values, scales };
}

/** code * scale, in f32. */
export function dequantizeQ8({ values, scales }: Q8, columns: number): Floats {
  const rows = rowsOf(values.length, columns);
  const result = new Float32Array(values.length);
  eachBlock(rows, columns, (index, from, to) => {
    const scale = scales[index]!;
    for (let at = from; at < to; at++) result[at] = values[at]! * scale;
  });
  return result;
}

/** Quantise whole rows of finite values; each value moves by at most half a scale, or by at most a whole one where it is
 *  cut off at the code 7. @throws DogeError "invalid-argument" when `source` is not whole rows. */
export function quantizeQ4(source: Float32Array, columns: number): Q4 {
  const rows = rowsOf(source.length, columns);
  const rowBytes = Math.ceil(columns / 2);
  // Code 0 is stored as 8, in both halves, and also behind the last column of an odd row.
  const values = new Uint8Array(rows * rowBytes).fill(0x88);
  const scales = new Float32Array(rows * blocksPerRow(columns));
  eachBlock(rows, columns, (index, from, to) => {
    const scale = Math.fround(extreme(source, from, to) / -8) || 0; // never -0
    scales[index] = scale;
    if (scale === 0) return;
    for (let at = from; at < to; at++) {
      const code = Math.max(-8, Math.min(7, round(source[at]! / scale))) + 8;
      const column = at % columns;
      const byte = Math.floor(at / columns) * rowBytes + (column >> 1);
      values[byte] = column & 1 ? (values[byte]! & 0x0f) | (code << 4) : (values[byte]! & 0xf0) | code;
    }
  });
  return { values, scales };
}

/** (stored - 8) * scale, in f32. */
export function dequantizeQ4({ values, scales }: Q4, columns: number): Floats {
  const rowBytes = Math.ceil(columns / 2);
  const rows = rowsOf(values.length, rowBytes);
  const result = new Float32Array(rows * columns);
  eachBlock(rows, columns, (index, from, to) => {
    const scale = scales[index]!;
    for (let at = from; at < to; at++) {
      const column = at % columns;
      const byte = values[Math.floor(at / columns) * rowBytes + (column >> 1)]!;
      result[at] = ((column & 1 ? byte >> 4 : byte & 0x0f) - 8) * scale;
    }
  });
  return result;
}
