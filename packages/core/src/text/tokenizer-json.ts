// Reads a tokenizer.json strictly. The library takes nearly anything and goes on with wrong ids; here every part is
// either one that is known to give the ids of the Rust library, or an error that names it.

import { DogeError } from "../errors.ts";
import { byteOfSymbol, byteSymbols } from "./byte-level.ts";
import { gpt2Pattern, type SplitPattern, splitPattern } from "./split-patterns.ts";

/** A string that becomes one id wherever it stands in a text whose special strings are parsed. */
export interface AddedToken {
  readonly content: string;
  readonly id: number;
  /** Left out by a decode that skips special tokens. */
  readonly special: boolean;
}

/** A checked tokenizer.json. */
export interface TokenizerParts {
  /** Number of ids: 0 .. size - 1, without holes. */
  readonly size: number;
  readonly added: readonly AddedToken[];
  readonly vocabulary: { readonly [token: string]: number };
  readonly merges: readonly (readonly [string, string])[];
  readonly ignoreMerges: boolean;
  /** Applied one after the other, each to the pieces of the one before. */
  readonly patterns: readonly SplitPattern[];
  /** Ids that the post-processor puts around a single text. */
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
  /** UTF-8 of every token, one behind the other: token `id` is bytes[offsets[id] .. offsets[id + 1]]. */
  readonly bytes: Uint8Array;
  readonly offsets: Uint32Array;
}

type Json = { readonly [key: string]: unknown };

/** Checks the parsed file. Throws "tokenizer-invalid" naming the entry. */
export function readTokenizerJson(file: unknown): TokenizerParts {
  const root = record(file, "the file");
  only(root, "the file", [
    "version",
    "truncation", // an encode of ours never truncates or pads, nor does transformers' unless asked to
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
  ]);
  const model = readModel(root.model);
  const added = readAdded(root.added_tokens ?? [], model.vocabulary);
  const tokens = tokensById(model.vocabulary, added);
  readMerges(model.merges, model.vocabulary, new Set(added.map((token) => token.content)));
  absent(root.normalizer, "normalizer");
  const decoder = record(root.decoder, "decoder");
  if (decoder.type !== "ByteLevel") refuse("decoder.type", decoder.type, '"ByteLevel"');
  return {
    size: tokens.length,
    added,
    vocabulary: model.vocabulary,
    merges: model.merges,
    ignoreMerges: model.ignoreMerges,
    patterns: readPreTokenizer(root.pre_tokenizer),
    ...readPostProcessor(root.post_processor, tokens.length),
    ...tokenBytes(tokens, added),
  };
}

function readModel(value: unknown): {
  vocabulary: Record<string, number>;
  merges: [string, string][];
  ignoreMerges: boolean;
} {
  const model = record(value, "model");
  if (model.type !== "BPE") refuse("model.type", model.type, '"BPE"');
  only(model, "model", [
    "type",
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
    "vocab",
    "merges",
  ]);
  for (const key of ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"]) {
    absent(model[key], `model.${key}`);
  }
  const ignoreMerges = model.ignore_merges ?? false;
  if (typeof ignoreMerges !== "boolean") refuse("model.ignore_merges", ignoreMerges, "true or false");
  const vocabulary = record(model.vocab, "model.vocab");
  for (const symbol of byteSymbols) {
    if (!Object.hasOwn(vocabulary, symbol)) {
      invalid(`model.vocab has no ${show(symbol)}: all 256 characters of the byte alphabet are needed.`);
    }
  }
  if (!Array.isArray(model.merges)) refuse("model.merges", model.merges, "a list");
  const merges = model.merges.map((merge: unknown, index): [string, string] => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== "string" || typeof pair[1] !== "string") {
      invalid(`model.merges[${index}] is ${show(merge)}: a merge is two tokens, ["a", "b"] or "a b".`);
    }
    return [pair[0], pair[1]];
  });
  return { vocabulary: vocabulary as Record<string, number>, merges, ignoreMerges };
}

function readAdded(value: unknown, vocabulary: { readonly [token: string]: number }): AddedToken[] {
  if (!Array.isArray(value)) refuse("added_tokens", value, "a list");
  const seen = new Set<string>();
  let normalized: unknown;
  return value.map((entry: unknown, index) => {
    const at = `added_tokens[${index}]`;
    const token = record(entry, at);
    only(token, at, ["id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"]);
    const { id, content, special } = token;
    if (typeof content !== "string" || content === "") refuse(`${at}.content`, content, "a string that is not empty");
    // In UTF-8 it would be another string: U+FFFD in place of the half character.
    if (!content.isWellFormed()) refuse(`${at}.content`, content, "a string without lone surrogates");
    // White space at an edge could not be told from the text around it, nor kept from being trimmed by a chat template.
    if (content.trim() !== content) refuse(`${at}.content`, content, "a string without white space at its ends");
    if (typeof id !== "number") refuse(`${at}.id`, id, "a whole number");
    for (const flag of ["single_word", "lstrip", "rstrip"]) absent(token[flag], `${at}.${flag}`);
    normalized ??= token.normalized ?? false;
    if ((token.normalized ?? false) !== normalized) {
      invalid(`${at}.normalized differs from the entries before it: mixed lists are not supported.`);
    }
    if (seen.has(content)) invalid(`${at} is ${show(content)} a second time.`);
    seen.add(content);
    if (Object.hasOwn(vocabulary, content) && vocabulary[content] !== id) {
      invalid(`${at} gives ${show(content)} the id ${show(id)}, model.vocab ${show(vocabulary[content])}.`);
    }
    if (content.length === 1 && byteOfSymbol(content.charCodeAt(0)) >= 0) {
      invalid(`${at} is ${show(content)}, a character of the byte alphabet: ordinary text would contain it.`);
    }
    return { content, id, special: special === true };
  });
}

/** All tokens in the order of their ids; throws on a hole, a duplicate or an id beyond the number of tokens. */
function tokensById(vocabulary: { readonly [token: string]: number }, added: readonly AddedToken[]): string[] {
  const names = Object.keys(vocabulary);
  const extra = added.filter((token) => !Object.hasOwn(vocabulary, token.content));
  const size = names.length + extra.length;
  const tokens = new Array<string | undefined>(size);
  const put = (token: string, id: number): void => {
    if (!Number.isSafeInteger(id) || id < 0) refuse(`the id of ${show(token)}`, id, "a whole number from 0");
    if (id >= size) {
      invalid(
        `the id of ${show(token)} is ${id}, but there are ${size} tokens: ids go from 0 to ${size - 1}, no holes.`,
      );
    }
    const other = tokens[id];
    if (other !== undefined) invalid(`the id of ${show(token)} is ${id}, which is also the id of ${show(other)}.`);
    tokens[id] = token;
  };
  for (const name of names) put(name, vocabulary[name]!);
  for (const token of extra) put(token.content, token.id);
  return tokens as string[]; // as many distinct ids as places: none is empty
}

function readMerges(
  merges: readonly (readonly [string, string])[],
  vocabulary: { readonly [token: string]: number },
  added: ReadonlySet<string>,
): void {
  const seen = new Set<string>();
  merges.forEach(([left, right], index) => {
    const merged = left + right;
    for (const token of [merged, left, right]) {
      if (!Object.hasOwn(vocabulary, token)) {
        invalid(
          `model.merges[${index}] joins ${show(left)} and ${show(right)}, but model.vocab has no ${show(token)}.`,
        );
      }
    }
    if (added.has(merged)) {
      invalid(`model.merges[${index}] makes ${show(merged)}, an added token: ordinary text would become a control id.`);
    }
    const key = `${left} ${right}`;
    if (seen.has(key)) invalid(`model.merges[${index}] is ${show(key)} a second time.`);
    seen.add(key);
  });
}

function readPreTokenizer(value: unknown): SplitPattern[] {
  const patterns: SplitPattern[] = [];
  const components = flatten(value, "pre_tokenizer", "pretokenizers");
  components.forEach(({ component, at }, index) => {
    const last = index === components.length - 1;
    if (component.type === "Split" && !last) {
      only(component, at, ["type", "pattern", "behavior", "invert"]);
      if (component.behavior !== "Isolated") refuse(`${at}.behavior`, component.behavior, '"Isolated"');
      absent(component.invert, `${at}.invert`);
      const regex = record(component.pattern, `${at}.pattern`).Regex;
      if (typeof regex !== "string") refuse(`${at}.pattern`, component.pattern, '{"Regex": ...}');
      const pattern = splitPattern(regex);
      if (pattern === null) {
        invalid(
          `${at}.pattern is ${show(regex)}, which is not a known one: only the patterns of Llama 3 and GPT-2 are run, because an unknown one can take for ever.`,
        );
      }
      patterns.push(pattern);
    } else if (component.type === "ByteLevel" && last) {
      only(component, at, ["type", "add_prefix_space", "trim_offsets", "use_regex"]);
      if (component.add_prefix_space !== false) refuse(`${at}.add_prefix_space`, component.add_prefix_space, "false");
      if (component.use_regex ?? true) patterns.push(splitPattern(gpt2Pattern)!);
    } else {
      refuse(`${at}.type`, component.type, last ? '"ByteLevel" as the last one' : '"Split"');
    }
  });
  if (components.length === 0) invalid("pre_tokenizer has no component: ByteLevel is needed.");
  return patterns;
}

function readPostProcessor(value: unknown, size: number): { prefix: number[]; suffix: number[] } {
  const around = { prefix: [] as number[], suffix: [] as number[] };
  if (value === null || value === undefined) return around;
  let templates = 0;
  for (const { component, at } of flatten(value, "post_processor", "processors")) {
    if (component.type === "ByteLevel") continue; // moves offsets, which nobody here asks for
    if (component.type !== "TemplateProcessing")
      refuse(`${at}.type`, component.type, '"ByteLevel" or "TemplateProcessing"');
    only(component, at, ["type", "single", "pair", "special_tokens"]);
    if (templates++ > 0) invalid(`${at} is a second template: one is supported.`);
    if (!Array.isArray(component.single)) refuse(`${at}.single`, component.single, "a list");
    const specials = record(component.special_tokens, `${at}.special_tokens`);
    let side = around.prefix;
    let sequences = 0;
    component.single.forEach((entry: unknown, index) => {
      const item = record(entry, `${at}.single[${index}]`);
      if (item.Sequence !== undefined) {
        if (record(item.Sequence, `${at}.single[${index}].Sequence`).id !== "A" || sequences++ > 0) {
          invalid(`${at}.single[${index}] is ${show(item)}: the text stands once, as sequence A.`);
        }
        side = around.suffix;
        return;
      }
      const name = record(item.SpecialToken, `${at}.single[${index}].SpecialToken`).id;
      const known = typeof name === "string" && Object.hasOwn(specials, name);
      const ids = known ? record(specials[name], `${at}.special_tokens[${show(name)}]`).ids : undefined;
      if (!Array.isArray(ids) || ids.some((id) => !Number.isSafeInteger(id) || id < 0 || id >= size)) {
        invalid(`${at}.special_tokens gives ${show(name)} the ids ${show(ids)}: they must be from 0 to ${size - 1}.`);
      }
      side.push(...(ids as number[]));
    });
    if (sequences !== 1) invalid(`${at}.single has no sequence A: the text would be lost.`);
  }
  return around;
}

/** UTF-8 of all tokens; throws on a token that neither is an added one nor consists of byte symbols. */
function tokenBytes(
  tokens: readonly string[],
  added: readonly AddedToken[],
): { bytes: Uint8Array; offsets: Uint32Array } {
  const literal = new Set(added.map((token) => token.id));
  const encoder = new TextEncoder();
  const offsets = new Uint32Array(tokens.length + 1);
  let bytes = new Uint8Array(tokens.reduce((sum, token) => sum + token.length * 3, 0)); // at most 3 bytes for a UTF-16 unit
  let end = 0;
  tokens.forEach((token, id) => {
    if (literal.has(id)) {
      end += encoder.encodeInto(token, bytes.subarray(end)).written;
    } else {
      if (/^<0x.*>$/.test(token) && !/^<0x[0-9A-F]{2}>$/.test(token)) {
        invalid(
          `model.vocab[${show(token)}] looks like a byte token, but a byte is two hexadecimal digits, <0x00> to <0xFF>.`,
        );
      }
      for (let index = 0; index < token.length; index++) {
        const byte = byteOfSymbol(token.charCodeAt(index));
        if (byte < 0) {
          invalid(
            `model.vocab[${show(token)}] has ${show(token[index])}, which is not a character of the byte alphabet.`,
          );
        }
        bytes[end++] = byte;
      }
    }
    offsets[id + 1] = end;
  });
  bytes = bytes.slice(0, end);
  return { bytes, offsets };
}

/** A component, or the components of a Sequence, nested ones too. */
function flatten(value: unknown, at: string, list: string): { component: Json; at: string }[] {
  const component = record(value, at);
  if (component.type !== "Sequence") return [{ component, at }];
  only(component, at, ["type", list]);
  const children = component[list];
  if (!Array.isArray(children)) refuse(`${at}.${list}`, children, "a list");
  return children.flatMap((child: unknown, index) => flatten(child, `${at}.${list}[${index}]`, list));
}

function record(value: unknown, at: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse(at, value, "an object");
  return value as Json;
}

function only(value: Json, at: string, keys: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) invalid(`${at} has the entry ${show(key)}, which is unknown here and could change ids.`);
  }
}

/** Features of the format that no Doge tokenizer uses are accepted only when they are off. */
function absent(value: unknown, at: string): void {
  if (value !== null && value !== undefined && value !== false && value !== "" && value !== 0) {
    invalid(`${at} is ${show(value)}: it is not supported and must be absent.`);
  }
}

function refuse(at: string, value: unknown, wanted: string): never {
  invalid(`${at} is ${show(value)}; supported is ${wanted}.`);
}

function invalid(sentence: string): never {
  throw new DogeError("tokenizer-invalid", `tokenizer.json: ${sentence}`);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 120)}...` : text;
}
