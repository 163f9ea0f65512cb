// A new vocabulary from texts, as a tokenizer.json: the merges are those that the Rust library's BpeTrainer learns.
import { byteSymbols, createTokenizer, llama3Pattern } from "@doge-lm/core";
import { type Asset, compile, fault } from "./binary.ts";
import { CROSSING, PATTERNS } from "./engine.ts";
import { Instance } from "./instance.ts";

/** Names and defaults are those of the Rust library's BpeTrainer. */
export interface TrainOptions {
  /** Number of ids, special tokens and the 256 bytes included; fewer when the texts have no more pairs. Default 30000. */
  readonly vocabSize?: number | undefined;
  /** A pair counted less often makes no token. Default 0. */
  readonly minFrequency?: number | undefined;
  /** They take the first ids. Default none. */
  readonly specialTokens?: readonly string[] | undefined;
  /** A token has fewer bytes than this. Default no limit. */
  readonly maxTokenLength?: number | undefined;
  /** How texts are cut into words, in training and later. Default "llama3". */
  readonly pattern?: "llama3" | "gpt2" | undefined;
  /** The special token that an encode puts in front. Default none. */
  readonly bosToken?: string | undefined;
  /** The binary, when it is not beside this package. */
  readonly wasm?: Asset | undefined;
}

/**
 * Learns merges from texts and gives the tokenizer.json, for `createFastTokenizer` and every other reader of such files. The
 * texts are read once, one after the other; special strings in them count as text. Errors: "invalid-argument" for an option,
 * "tokenizer-invalid" when the merges would make a special token, "out-of-memory", "unavailable".
 */
export async function trainTokenizer(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainOptions = {},
): Promise<Record<string, unknown>> {
  const { vocabSize, minFrequency, specialTokens, maxTokenLength, pattern, bosToken } = complete(options);
  const instance = new Instance(await compile(options.wasm));
  const { exports } = instance;
  exports.begin_counts(PATTERNS[pattern]);
  let waiting: string[] = [];
  let units = 0;
  const feed = (): void => {
    instance.guard(() => {
      instance.writeTexts(waiting);
      exports.feed_counts(waiting.length);
    });
    waiting = [];
    units = 0;
  };
  for await (const text of texts) {
    if (typeof text !== "string") throw invalid(`A text to learn from is ${typeof text}, not a string.`);
    waiting.push(text);
    if ((units += text.length) >= CROSSING) feed();
  }
  feed();

  const { tokens, merges } = instance.guard(() => {
    const alphabet = [...byteSymbols.keys()].sort((a, b) => (byteSymbols[a]! < byteSymbols[b]! ? -1 : 1));
    const special = specialTokens.map((token) => new TextEncoder().encode(token));
    instance.writeBytes(Uint8Array.from([...alphabet, ...special.flatMap((bytes) => [...bytes])]));
    instance.writeWords([[256, ...special.map((bytes) => bytes.length)]]);
    const { ids, ends, bytes } = instance.results(
      exports.learn(1 + special.length, vocabSize, minFrequency, maxTokenLength),
    );
    const tokens = Array.from(ends, (end, id) => {
      if (id < specialTokens.length) return specialTokens[id]!;
      return Array.from(bytes.subarray(ends[id - 1] ?? 0, end), (byte) => byteSymbols[byte]).join("");
    });
    const merges = Array.from({ length: ids.length / 2 }, (_, rank) => [
      tokens[ids[2 * rank]!]!,
      tokens[ids[2 * rank + 1]!]!,
    ]);
    return { tokens, merges };
  });
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: preTokenizer(pattern),
    post_processor: bosToken === undefined ? null : beginning(bosToken, specialTokens.indexOf(bosToken)),
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
  createTokenizer(json);
  return json;
}

function preTokenizer(pattern: "llama3" | "gpt2"): object {
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  if (pattern === "gpt2") return { ...bytes, use_regex: true };
  const split = { type: "Split", pattern: { Regex: llama3Pattern }, behavior: "Isolated", invert: false };
  return { type: "Sequence", pretokenizers: [split, { ...bytes, use_regex: false }] };
}

/** The post-processor that puts a token in front. */
function beginning(token: string, id: number): object {
  const single = [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
  const pair = [{ SpecialToken: { id: token, type_id: 1 } }, { Sequence: { id: "B", type_id: 1 } }];
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, ...pair],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

function complete(options: TrainOptions) {
  const {
    vocabSize = 30000,
    minFrequency = 0,
    specialTokens = [],
    maxTokenLength = 0xffff_ffff,
    pattern = "llama3",
    bosToken,
  } = options;
  for (const [name, value] of Object.entries({ vocabSize, minFrequency, maxTokenLength })) {
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
      throw invalid(`${name} is ${String(value)}; it must be a whole number from 0 to ${0xffff_ffff}.`);
    }
  }
  if (!Array.isArray(specialTokens) || specialTokens.some((token) => typeof token !== "string" || token === "")) {
    throw invalid(
      `specialTokens is ${JSON.stringify(specialTokens)}; it must be a list of strings that are not empty.`,
    );
  }
  if (new Set(specialTokens).size < specialTokens.length) throw invalid("specialTokens has a token twice.");
  if (!Object.hasOwn(PATTERNS, pattern)) {
    throw invalid(`pattern is ${JSON.stringify(pattern)}; it must be "llama3" or "gpt2".`);
  }
  if (bosToken !== undefined && !specialTokens.includes(bosToken)) {
    throw invalid(`bosToken is ${JSON.stringify(bosToken)}, which is not among specialTokens.`);
  }
  return {
    vocabSize,
    minFrequency,
    specialTokens: specialTokens as readonly string[],
    maxTokenLength,
    pattern,
    bosToken,
  };
}

const invalid = (sentence: string): Error => fault("invalid-argument", sentence);
