// What commands print: hashes of outputs, and sizes.
import { createHash } from "node:crypto";

/** First 16 hex digits of SHA-256 over the little-endian bytes of the output it stands for. */
export function hashOf(data: Float32Array | Int32Array): string {
  return createHash("sha256")
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest("hex")
    .slice(0, 16);
}

export function sizeText(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
