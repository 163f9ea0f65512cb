// What commands print: hashes of outputs, sizes, faults.
import { createHash } from "node:crypto";
import { isDogeError } from "@doge-lm/core";
import { flagOf, isFlagName } from "./options.ts";

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

/** What went wrong, for a person: options by the names of their flags. */
export function sentenceOf(error: unknown): string {
  if (!isDogeError(error)) return String((error as Error | undefined)?.message ?? error);
  const sentence = error.message.replace(/^\[doge:\w+\] /, "");
  if (error.code !== "invalid-argument") return sentence;
  return sentence.replace(/^[a-z]\w*(?= (?:is|has) )/, (name) => (isFlagName(name) ? flagOf(name) : name));
}

/** What commander says of the arguments, as one line; `command` ends in a space. */
export function usageFault(text: string, command: string): string {
  const sentence = text
    .trim()
    .replace(/^error: /, "")
    .replaceAll(/\s*\n+/g, ". ");
  const whole = `${sentence[0]?.toUpperCase()}${sentence.slice(1).replace(/[.)]$/, "")}`;
  return `doge: ${whole}${sentence.endsWith(")") ? ")" : "."} "doge ${command}--help" tells what there is.\n`;
}
