// What the text tests share: the fixtures and a small random source, so that a failing case comes back.
import { readFileSync } from "node:fs";
import { createTokenizer, type Message } from "../../src/index.ts";

export type Encoding = [pattern: "llama3" | "gpt2", text: string, ids: number[], plain: number[]];
export type Decoding = [ids: number[], text: string, withoutSpecial: string];
export type Chat = [
  messages: Message[],
  variables: Record<string, unknown>,
  prompt: boolean,
  text: string,
  ids: number[],
];

const read = (file: string): string => readFileSync(new URL(`fixtures/${file}`, import.meta.url), "utf8");

/** A fresh copy of the small tokenizer.json, to be spoiled at will. */
// biome-ignore lint/suspicious/noExplicitAny: tests reach into the file to break it
export const tokenizerJson = (): any => JSON.parse(read("tokenizer.json"));
// biome-ignore lint/suspicious/noExplicitAny: as above
export const tokenizerConfig = (): any => JSON.parse(read("tokenizer_config.json"));
export const tokenizer = createTokenizer(tokenizerJson(), tokenizerConfig());
export const template = read("template.jinja");
export const encodings: Encoding[] = JSON.parse(read("encodings.json"));
export const decodings: Decoding[] = JSON.parse(read("decodings.json"));
export const chats: Chat[] = JSON.parse(read("chats.json"));

/** Whole numbers below `limit`, the same ones for the same seed (mulberry32). */
export function random(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

export function pick<T>(draw: (limit: number) => number, from: readonly T[]): T {
  return from[draw(from.length)]!;
}
