// What a fetched file must look like where no hash vouches for it: login pages and pointers are not kept in a file's place.
import { foreignFormat } from "../loading/foreign-format.ts";
import { sentenceOf } from "../sentence.ts";

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
    if (!good) {
      const foreign = foreignFormat(start);
      return foreign === null ? "it is not a safetensors file" : sentenceOf(foreign.error(file));
    }
  } else if (/^<(!doctype html|html)/i.test(text)) {
    return "it is a web page";
  }
  return null;
}

/** Why `file`, of which nothing said how long it is, must have been cut short on its way, or null. `read`: its bytes [from, to). */
export async function cutFault(
  file: string,
  size: number,
  read: (from: number, to: number) => Promise<Uint8Array>,
): Promise<string | null> {
  const parsed = (bytes: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(bytes));
  try {
    if (file.endsWith(".json")) parsed(await read(0, size));
    if (!file.endsWith(".safetensors")) return null;
    const length = Number(new DataView((await read(0, 8)).slice().buffer).getBigUint64(0, true));
    const header = parsed(await read(8, 8 + length)) as { [name: string]: { data_offsets?: readonly unknown[] } };
    const ends = Object.values(header).map((entry) => Number(entry?.data_offsets?.[1] ?? 0));
    const expected = ends.reduce((most, end) => Math.max(most, 8 + length + end), 8 + length);
    return size < expected ? `its header tells of ${expected} bytes, got ${size}` : null;
  } catch {
    return `it ends after ${size} bytes, in the middle`;
  }
}
