// What a fetched file must look like where no hash vouches for it: login pages and pointers are not kept in a file's place.
import { foreignFormat } from "../foreign-format.ts";

/** Bytes that contentFault() wants to see. */
export const SNIFF = 512;

/** Why a file that begins with `start` and has `size` bytes cannot be `file`, or null. */
export function contentFault(file: string, start: Uint8Array, size: number): string | null {
  if (size === 0) return "it is empty";
  const text = new TextDecoder()
    .decode(start)
    .replace(/^\uFEFF/, "")
    .trimStart();
  if (file.endsWith(".json")) {
    if (!/^[{[]/.test(text)) return `it is not JSON but begins with ${JSON.stringify(text.slice(0, 40))}`;
  } else if (file.endsWith(".safetensors")) {
    const length = start.length < 8 ? -1n : new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
    const good = length >= 2n && length <= 100_000_000n && length + 8n <= BigInt(size) && start[8] === 0x7b;
    if (!good)
      return (
        foreignFormat(start)
          ?.error(file)
          .message.replace(/^\[doge:\w+\] /, "") ?? "it is not a safetensors file"
      );
  } else if (/^<(!doctype html|html)/i.test(text)) {
    return "it is a web page";
  }
  return null;
}
