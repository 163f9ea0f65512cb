// Text to ids and back, by a tokenizer.json: the strict reading of the file and the checks of every call. The work itself is
// an engine's: JavaScript's own (tokenizer-engine.ts), or one that is handed in.
import type { Tokens } from "../backend.ts";
import { DogeError } from "../errors.ts";
import { type TextStream, textStream, utf8Decoder } from "./text-stream.ts";
import { javascriptEngine, type TokenizerEngine } from "./tokenizer-engine.ts";
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

/** Makes the tokenizer of a model: `createTokenizer`, or another with the same checks. */
export type TokenizerFactory = (tokenizerJson: unknown, tokenizerConfig?: unknown) => Tokenizer | Promise<Tokenizer>;

/**
 * A tokenizer from the parsed tokenizer.json and, where there is one, tokenizer_config.json, which names the bos and eos
 * tokens. `engine` makes what does the work, from the checked file. Throws "tokenizer-invalid" naming the entry that is wrong
 * or not supported.
 */
export function createTokenizer(
  tokenizerJson: unknown,
  tokenizerConfig?: unknown,
  engine: (parts: TokenizerParts) => TokenizerEngine = javascriptEngine,
): Tokenizer {
  const parts = readTokenizerJson(tokenizerJson);
  const special = new Map(parts.added.map((token) => [token.content, token.id]));
  const roles = readRoles(tokenizerConfig, special);
  const { encode, bytes } = engine(parts);
  const bytesOf = (skipSpecial: boolean) => (ids: ArrayLike<number>) => {
    checkIds(ids, parts.size);
    return bytes(ids, skipSpecial);
  };
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
      return encode(text, addSpecial, parseSpecial);
    },
    decode: (ids, { skipSpecial = true } = {}) => utf8Decoder().decode(bytesOf(skipSpecial)(ids)),
    stream: ({ skipSpecial = true } = {}) => textStream(bytesOf(skipSpecial)),
  };
}

/** "invalid-token" for the first id that is none of `size`. */
function checkIds(ids: ArrayLike<number>, size: number): void {
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index]!;
    if (!Number.isInteger(id) || id < 0 || id >= size) {
      throw new DogeError("invalid-token", `Id ${id} at place ${index} is not in the vocabulary of ${size}.`);
    }
  }
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
