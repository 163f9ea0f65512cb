// bf16 and f16 <-> f32. Hosts are taken to be little-endian, as every engine that runs JavaScript today is.

import type { Floats } from "../backend.ts";

type Half = Uint16Array<ArrayBuffer>;

/** f32 -> bf16 bits, rounded to the nearest, ties to even; a NaN stays a (quiet) NaN. */
export function toBf16(source: Float32Array): Half {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  const result = new Uint16Array(source.length);
  for (let index = 0; index < bits.length; index++) {
    const word = bits[index]!;
    // Adding just under half a step would carry a NaN's mantissa into its exponent.
    const nan = (word & 0x7fffffff) > 0x7f800000;
    result[index] = nan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return result;
}

/** bf16 bits -> f32, exactly. */
export function fromBf16(source: Uint16Array): Floats {
  const bits = new Uint32Array(source.length);
  for (let index = 0; index < source.length; index++) bits[index] = source[index]! << 16;
  return new Float32Array(bits.buffer);
}

/** All 65,536 f16 values, made on first use: 256 KiB. */
let halves: Floats | undefined;

/** f16 bits -> f32, exactly, subnormals, infinities and NaN included (IEEE 754 binary16). */
export function fromF16(source: Uint16Array): Floats {
  halves ??= Float32Array.from({ length: 65_536 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
  const result = new Float32Array(source.length);
  for (let index = 0; index < source.length; index++) result[index] = halves[source[index]!]!;
  return result;
}

/** A fresh copy: bytes from a file begin anywhere, arrays of numbers must not. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  const copy = new ArrayBuffer(bytes.length);
  new Uint8Array(copy).set(bytes);
  return copy;
}

/** Bytes of a file's F32, BF16 or F16 tensor -> values. */
export const decodeF32 = (bytes: Uint8Array): Floats => new Float32Array(aligned(bytes));
export const decodeBf16 = (bytes: Uint8Array): Floats => fromBf16(new Uint16Array(aligned(bytes)));
export const decodeF16 = (bytes: Uint8Array): Floats => fromF16(new Uint16Array(aligned(bytes)));
