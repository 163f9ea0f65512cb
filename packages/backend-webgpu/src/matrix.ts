// A weight matrix on the device: rows of packed columns, cut into as many buffers as bindings of this device need.
import { type DType, QUANTIZATION_BLOCK, quantizeQ4, quantizeQ8, toBf16 } from "@doge-lm/core";
import type { Gpu } from "./device.ts";
import { type Format, formats } from "./kernels/formats.ts";

export interface Part {
  readonly first: number;
  readonly rows: number;
  /** What a kernel binds: packed columns. */
  readonly weights: GPUBufferBinding;
  /** q8 and q4: f32 (rows, blocks), behind them in the same buffer. */
  readonly scales: GPUBufferBinding | null;
  /** Both. */
  readonly buffer: GPUBuffer;
}

/** Most workgroups of one dispatch in one direction. */
export const MOST_GROUPS = 65_535;
/** Where a binding may begin on every device. */
const ALIGNMENT = 256;

/** Vectors of four columns in a row, padding included. */
const quadsOf = ({ block }: Format, inner: number): number => (Math.ceil(inner / block) * block) / 4;

/** Bytes of rows of packed columns; where their scales begin; of both. */
export function matrixBytes(
  format: Format,
  rows: number,
  inner: number,
): { readonly weights: number; readonly scalesAt: number; readonly all: number } {
  const quads = quadsOf(format, inner);
  const weights = Math.ceil((rows * quads * format.quadBytes) / 4) * 4;
  if (!format.scaled) return { weights, scalesAt: weights, all: weights };
  const scalesAt = Math.ceil(weights / ALIGNMENT) * ALIGNMENT;
  return { weights, scalesAt, all: scalesAt + rows * ((quads * 4) / QUANTIZATION_BLOCK) * 4 };
}

export class Matrix {
  readonly format: Format;
  readonly rows: number;
  readonly inner: number;
  /** Vectors of four columns in a row, padding included. */
  readonly quads: number;
  readonly parts: readonly Part[];
  readonly #gpu: Gpu;

  /** `perGroup`: rows that one workgroup takes. Made inside Gpu.allocate(). */
  constructor(
    gpu: Gpu,
    own: (buffer: GPUBuffer) => GPUBuffer,
    options: { name: string; dtype: DType; rows: number; inner: number; perGroup: number },
  ) {
    const { name, dtype, rows, inner, perGroup } = options;
    this.#gpu = gpu;
    this.format = formats[dtype];
    this.rows = rows;
    this.inner = inner;
    this.quads = quadsOf(this.format, inner);
    const { maxBufferSize } = gpu.device.limits;
    const fit = Math.min(
      gpu.bindingLimit / this.rowBytes,
      (maxBufferSize - ALIGNMENT) / (this.rowBytes + this.#scaleBytes),
    );
    const perPart = Math.max(1, Math.min(Math.floor(fit), MOST_GROUPS * perGroup));
    const parts: Part[] = [];
    for (let first = 0; first < rows; first += perPart) {
      const count = Math.min(perPart, rows - first);
      const { weights, scalesAt, all } = matrixBytes(this.format, count, inner);
      const buffer = own(gpu.storage(name, all, weights));
      parts.push({
        first,
        rows: count,
        buffer,
        weights: { buffer, size: weights },
        scales: this.format.scaled ? { buffer, offset: scalesAt, size: all - scalesAt } : null,
      });
    }
    this.parts = parts;
  }

  get rowBytes(): number {
    return this.quads * this.format.quadBytes;
  }

  get #blocks(): number {
    return (this.quads * 4) / QUANTIZATION_BLOCK;
  }

  get #scaleBytes(): number {
    return this.format.scaled ? this.#blocks * 4 : 0;
  }

  /** Put whole rows from `row` on; bytes that were written. */
  write(row: number, data: Float32Array): number {
    const { queue } = this.#gpu.device;
    const count = data.length / this.inner;
    const { bytes, scales } = this.#pack(data, count);
    for (const part of this.parts) {
      const from = Math.max(row, part.first);
      const to = Math.min(row + count, part.first + part.rows);
      if (from >= to) continue;
      const slice = bytes.subarray((from - row) * this.rowBytes, (to - row) * this.rowBytes);
      queue.writeBuffer(part.buffer, (from - part.first) * this.rowBytes, slice);
      if (scales === null || part.scales === null) continue;
      queue.writeBuffer(
        part.buffer,
        part.scales.offset! + (from - part.first) * this.#scaleBytes,
        scales.subarray((from - row) * this.#blocks, (to - row) * this.#blocks),
      );
    }
    return bytes.byteLength + (scales?.byteLength ?? 0);
  }

  /** Rows as the kernels read them, padded with zeros. */
  #pack(
    data: Float32Array,
    rows: number,
  ): { bytes: Uint8Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> | null } {
    const { inner } = this;
    if (this.format.name === "f32")
      return { bytes: padded(bytesOf(data), rows, inner * 4, this.rowBytes, 0), scales: null };
    if (this.format.name === "bf16") {
      return { bytes: padded(bytesOf(toBf16(data)), rows, inner * 2, this.rowBytes, 0), scales: null };
    }
    if (this.format.name === "q8") {
      const { values, scales } = quantizeQ8(data, inner);
      return { bytes: padded(bytesOf(values), rows, inner, this.rowBytes, 0), scales };
    }
    const { values, scales } = quantizeQ4(data, inner);
    // The code of 0 is 8.
    return { bytes: padded(bytesOf(values), rows, Math.ceil(inner / 2), this.rowBytes, 0x88), scales };
  }
}

const bytesOf = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength);

function padded(
  from: Uint8Array,
  rows: number,
  width: number,
  stride: number,
  filling: number,
): Uint8Array<ArrayBuffer> {
  if (width === stride) return from as Uint8Array<ArrayBuffer>;
  const to = new Uint8Array(rows * stride).fill(filling);
  for (let row = 0; row < rows; row++) to.set(from.subarray(row * width, (row + 1) * width), row * stride);
  return to;
}
