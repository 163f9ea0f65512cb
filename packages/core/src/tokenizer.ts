// Text to ids and back, by a tokenizer.json. The merging is @huggingface/tokenizers'; around it stand the strict reading
// of the file, word patterns that do not depend on the engine, special strings that can be switched off, and decoding.
// @ts-expect-error The package's type files import each other without extensions, which NodeNext does not resolve.
import { BPE } from "@huggingface/tokenizers";
import type { Tokens } from "./backend.ts";
import { toByteSymbols } from "./byte-level.ts";
import { DogeError } from "./errors.ts";
import { splitSpecial } from "./special-strings.ts";
import { type TextStream, textStream, utf8Decoder } from "./text-stream.ts";
import { readTokenizerJson, type TokenizerParts } from "./tokenizer-json.ts";

export interface EncodeOptions {
  /** Put the post-processor's tokens around the text (Doge: the begin-of-text id in front). Default true. */
  readonly addSpecial?: boolean | undefined;
  /**
   * Special strings in the text become their ids, as in transformers' encode. Default true: for text of your own. With
   * false no text whatever gives a special id: for text of strangers.
   */
  readonly parseSpecial?: boolean | undefined;
}

export interface DecodeOptions {
  /** Leave out special tokens. Default true. */
  readonly skipSpecial?: boolean | undefined;
}

/** Text <-> ids. A lone surrogate counts as U+FFFD. */
export interface Tokenizer {
  /** Number of ids. A model's vocabulary may be larger, never smaller. */
  readonly size: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  /** Every string that becomes one id when special strings are parsed. */
  readonly special: ReadonlyMap<string, number>;
  /** Special strings by their role, as chat templates know them: bos_token, eos_token, pad_token and the like. */
  readonly roles: ReadonlyMap<string, string>;
  encode(text: string, options?: EncodeOptions): Tokens;
  /** The text, byte for byte, with no clean-up of spaces; invalid UTF-8 gives U+FFFD. "invalid-token" for an id out of range. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  stream(options?: DecodeOptions): TextStream;
}

/**
 * A tokenizer from the parsed tokenizer.json and, where there is one, tokenizer_config.json, which names the bos and eos
 * tokens. Throws "tokenizer-invalid" naming the entry that is wrong or not supported.
 */
export function createTokenizer(tokenizerJson: unknown, tokenizerConfig?: unknown): Tokenizer {
  const parts = readTokenizerJson(tokenizerJson);
  const special = new Map(parts.added.map((token) => [token.content, token.id]));
  const roles = readRoles(tokenizerConfig, special);
  const skipped = new Uint8Array(parts.size);
  for (const token of parts.added) if (token.special) skipped[token.id] = 1;
  const encodePlain = plainEncoder(parts);
  const bytesOf = (skipSpecial: boolean) => (ids: ArrayLike<number>) =>
    idsToBytes(parts, ids, skipSpecial ? skipped : null);
  const idOf = (role: string): number | null => special.get(roles.get(role) ?? "") ?? null;

  return {
    size: parts.size,
    bosId: idOf("bos_token"),
    eosId: idOf("eos_token"),
    special,
    roles,
    encode(text, { addSpecial = true, parseSpecial = true } = {}) {
      if (typeof text !== "string") {
        throw new DogeError("invalid-argument", `The text to encode is ${typeof text}, not a string.`);
      }
      const ids: number[] = addSpecial ? [...parts.prefix] : [];
      const pieces = parseSpecial ? splitSpecial(text.toWellFormed(), special) : [text.toWellFormed()];
      pieces.forEach((piece, index) => {
        if (index % 2 === 1) ids.push(special.get(piece)!);
        else encodePlain(piece, ids);
      });
      if (addSpecial) ids.push(...parts.suffix);
      return Int32Array.from(ids);
    },
    decode: (ids, { skipSpecial = true } = {}) => utf8Decoder().decode(bytesOf(skipSpecial)(ids)),
    stream: ({ skipSpecial = true } = {}) => textStream(bytesOf(skipSpecial)),
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
    for (const pattern of parts.patterns) words = words.flatMap((word) => word.match(pattern) ?? []);
    for (const token of bpe.encode(words.map(toByteSymbols))) ids.push(bpe.tokens_to_ids.get(token)!);
  };
}

function idsToBytes(parts: TokenizerParts, ids: ArrayLike<number>, skipped: Uint8Array | null): Uint8Array {
  const { bytes, offsets, size } = parts;
  let length = 0;
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index]!;
    if (!Number.isInteger(id) || id < 0 || id >= size) {
      throw new DogeError("invalid-token", `Id ${id} at place ${index} is not in the vocabulary of ${size}.`);
    }
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

/** bos_token and its like from tokenizer_config.json; older files write them as objects with a `content`. */
function readRoles(config: unknown, special: ReadonlyMap<string, number>): Map<string, string> {
  const roles = new Map<string, string>();
  if (config === undefined || config === null) return roles;
  if (typeof config !== "object" || Array.isArray(config)) {
    throw new DogeError("tokenizer-invalid", "tokenizer_config.json: the file is not an object.");
  }
  for (const role of ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"]) {
    const entry = (config as Record<string, unknown>)[role] as { content?: unknown } | string | null | undefined;
    if (entry === null || entry === undefined) continue;
    const content = typeof entry === "object" ? entry.content : entry;
    if (typeof content !== "string" || !special.has(content)) {
      const shown = JSON.stringify(entry);
      throw new DogeError(
        "tokenizer-invalid",
        `tokenizer_config.json: ${role} is ${shown}, which is not among the added tokens of tokenizer.json.`,
      );
    }
    roles.set(role, content);
  }
  return roles;
}
