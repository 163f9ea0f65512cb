// What does a tokenizer's work, and the one of JavaScript: the merging is @huggingface/tokenizers'; around it stand word
// patterns that do not depend on the engine and special strings that can be switched off.
// @ts-expect-error The package's type files import each other without extensions, which NodeNext does not resolve.
import { BPE } from "@huggingface/tokenizers";
import type { Tokens } from "../backend.ts";
import { toByteSymbols } from "./byte-level.ts";
import { splitSpecial } from "./special-strings.ts";
import type { TokenizerParts } from "./tokenizer-json.ts";

/** Text to ids and ids to bytes; `createTokenizer` checks the arguments. */
export interface TokenizerEngine {
  /** A lone surrogate counts as U+FFFD. */
  encode(text: string, addSpecial: boolean, parseSpecial: boolean): Tokens;
  /** UTF-8 of the ids, which are in range; to be read before the next call. */
  bytes(ids: ArrayLike<number>, skipSpecial: boolean): Uint8Array;
}

export function javascriptEngine(parts: TokenizerParts): TokenizerEngine {
  const special = new Map(parts.added.map((token) => [token.content, token.id]));
  const skipped = new Uint8Array(parts.size);
  for (const token of parts.added) if (token.special) skipped[token.id] = 1;
  const encodePlain = plainEncoder(parts);
  return {
    encode(text, addSpecial, parseSpecial) {
      const ids: number[] = addSpecial ? [...parts.prefix] : [];
      const pieces = parseSpecial ? splitSpecial(text.toWellFormed(), special) : [text.toWellFormed()];
      pieces.forEach((piece, index) => {
        if (index % 2 === 1) ids.push(special.get(piece)!);
        else encodePlain(piece, ids);
      });
      if (addSpecial) ids.push(...parts.suffix);
      return Int32Array.from(ids);
    },
    bytes: (ids, skipSpecial) => idsToBytes(parts, ids, skipSpecial ? skipped : null),
  };
}

/** Appends the ids of a text without special strings. */
function plainEncoder(parts: TokenizerParts): (text: string, ids: number[]) => void {
  const bpe: { encode(words: string[]): string[]; tokens_to_ids: Map<string, number> } = new BPE({
    type: "BPE",
    vocab: parts.vocabulary,
    merges: parts.merges,
    ignore_merges: parts.ignoreMerges,
  });
  // With `ignore_merges` a word that stands in the vocabulary is taken whole: an added token must not be such a word.
  for (const token of parts.added) bpe.tokens_to_ids.delete(token.content);
  return (text, ids) => {
    let words = text === "" ? [] : [text];
    for (const pattern of parts.patterns) words = words.flatMap((word) => word.match(pattern.expression) ?? []);
    for (const token of bpe.encode(words.map(toByteSymbols))) ids.push(bpe.tokens_to_ids.get(token)!);
  };
}

function idsToBytes(parts: TokenizerParts, ids: ArrayLike<number>, skipped: Uint8Array | null): Uint8Array {
  const { bytes, offsets } = parts;
  let length = 0;
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index]!;
    if (skipped?.[id] !== 1) length += offsets[id + 1]! - offsets[id]!;
  }
  const text = new Uint8Array(length);
  let end = 0;
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index]!;
    if (skipped?.[id] === 1) continue;
    for (let at = offsets[id]!; at < offsets[id + 1]!; at++) text[end++] = bytes[at]!;
  }
  return text;
}
