// What commands print: hashes of outputs.
import { createHash } from "node:crypto";

/** First 16 hex digits of SHA-256 over the little-endian bytes of the output it stands for. */
export function hashOf(data: Float32Array | Int32Array): string {
  return createHash("sha256")
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest("hex")
    .slice(0, 16);
}
