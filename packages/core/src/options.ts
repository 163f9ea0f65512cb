// Options of a generation, by transformers' names in camelCase, and what is meant when they are not given: the caller's first,
// then the model's generation_config.json, then transformers' defaults.
import type { Sampling } from "./backend.ts";
import { show } from "./checked-rows.ts";
import type { Config } from "./config.ts";
import { DogeError } from "./errors.ts";
import { isJsonObject, type Json } from "./json.ts";

export interface GenerateOptions {
  /** New tokens at most; default 20, as in transformers. 0: an empty text. */
  readonly maxNewTokens?: number | undefined;
  /** Prompt and new tokens together; maxNewTokens wins over it. */
  readonly maxLength?: number | undefined;
  /** Draw instead of taking the most likely. Default: whether a temperature above 0 is given. */
  readonly doSample?: boolean | undefined;
  /** 0: greedy. */
  readonly temperature?: number | undefined;
  /** Default when drawing: 50, as in transformers. 0: all. */
  readonly topK?: number | undefined;
  readonly topP?: number | undefined;
  readonly minP?: number | undefined;
  readonly repetitionPenalty?: number | undefined;
  /** Unsigned 32 bits; default a random one, which the result tells. */
  readonly seed?: number | undefined;
  /** Ids that end the text. */
  readonly eosTokenId?: number | readonly number[] | undefined;
  /** Go on over the ids that end a text. */
  readonly ignoreEos?: boolean | undefined;
  /** At most 16 strings that end the text and are not part of it. */
  readonly stop?: string | readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** 0: ln p of every id; k up to 20: and of the k most likely. */
  readonly logprobs?: number | undefined;
  /** Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** What to do with an input longer than the context: "error" (default), or "truncate": leave out the oldest messages (a system
   *  message stays) or the first tokens (a begin-of-text id stays), which the result tells. */
  readonly overflow?: "error" | "truncate" | undefined;
  /** Messages: end with the header of the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** Messages: further variables of the chat template (tools, date_string, ...). */
  readonly templateVariables?: { readonly [name: string]: unknown } | undefined;
  /** Control strings in the input become control ids. Default: in text yes, as transformers' encode; in messages no. */
  readonly allowSpecialTokens?: boolean | undefined;
}

const names: { readonly [name in keyof Required<GenerateOptions>]: true } = {
  maxNewTokens: true,
  maxLength: true,
  doSample: true,
  temperature: true,
  topK: true,
  topP: true,
  minP: true,
  repetitionPenalty: true,
  seed: true,
  eosTokenId: true,
  ignoreEos: true,
  stop: true,
  signal: true,
  logprobs: true,
  skipSpecialTokens: true,
  overflow: true,
  addGenerationPrompt: true,
  templateVariables: true,
  allowSpecialTokens: true,
};

/** An option that is not known would be ignored, and the answer not be what was asked for. Errors: "invalid-argument". */
export function checkOptionNames(options: GenerateOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || Object.hasOwn(names, name)) continue;
    const known = Object.keys(names).join(", ");
    throw new DogeError("invalid-argument", `${name} is not an option of generate; there are ${known}.`);
  }
}

/** What of generation_config.json is used: the keys as they stand, checked for their kind. */
export interface GenerationDefaults {
  readonly maxNewTokens?: number;
  readonly maxLength?: number;
  readonly doSample?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly eosIds?: readonly number[];
}

const numbers = {
  max_new_tokens: "maxNewTokens",
  max_length: "maxLength",
  temperature: "temperature",
  top_k: "topK",
  top_p: "topP",
  min_p: "minP",
  repetition_penalty: "repetitionPenalty",
} as const;

/** Keys that change what is generated and that are not done here, with the value at which they do nothing. */
const neutral: { readonly [key: string]: Json } = {
  num_beams: 1,
  typical_p: 1,
  epsilon_cutoff: 0,
  eta_cutoff: 0,
  no_repeat_ngram_size: 0,
  encoder_repetition_penalty: 1,
  min_length: 0,
  min_new_tokens: 0,
};
const unused = ["bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id"];

/** Read generation_config.json. Errors: "config-invalid" naming the key and its value. */
export function readGenerationConfig(json: Json): { defaults: GenerationDefaults; warnings: string[] } {
  const file = "generation_config.json";
  if (!isJsonObject(json)) throw new DogeError("config-invalid", `${file} is not a JSON object.`);
  const wrong = (key: string, kind: string): DogeError =>
    new DogeError("config-invalid", `${file}: ${key} is ${JSON.stringify(json[key]).slice(0, 80)}, expected ${kind}.`);
  const defaults: Record<string, unknown> = {};
  for (const [key, name] of Object.entries(numbers)) {
    const value = json[key] ?? undefined;
    if (value === undefined) continue;
    if (typeof value !== "number") throw wrong(key, "a number");
    defaults[name] = value;
  }
  const sample = json.do_sample ?? undefined;
  if (sample !== undefined && typeof sample !== "boolean") throw wrong("do_sample", "true or false");
  if (sample !== undefined) defaults.doSample = sample;
  const eos = json.eos_token_id ?? undefined;
  if (eos !== undefined) {
    const ids = Array.isArray(eos) ? eos : [eos];
    if (!ids.every((id) => Number.isInteger(id) && (id as number) >= 0))
      throw wrong("eos_token_id", "an id or a list of ids");
    defaults.eosIds = ids;
  }
  const warnings = [...Object.keys(neutral), ...unused]
    .filter((key) => (json[key] ?? neutral[key] ?? null) !== (neutral[key] ?? null))
    .map(
      (key) => `${file}: ${key} is ${JSON.stringify(json[key]).slice(0, 80)}, which is not done here and is ignored.`,
    );
  return { defaults: defaults as GenerationDefaults, warnings };
}

/** What a generation is to do, complete. */
export interface Resolved {
  readonly sampling: Sampling;
  /** Depends on the prompt where only a maxLength says it. */
  readonly maxNewTokens: (promptLength: number) => number;
}

/** transformers' default of max_length, which stands for as many new tokens. */
const defaultNewTokens = 20;
const defaultTopK = 50;

/** Errors: "invalid-argument". */
export function resolveOptions(options: GenerateOptions, defaults: GenerationDefaults, config: Config): Resolved {
  checkOptionNames(options);
  for (const name of ["maxNewTokens", "maxLength"] as const) {
    const value = options[name];
    if (value === undefined || value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && value >= 0)) continue;
    throw new DogeError(
      "invalid-argument",
      `${name} is ${show(value)}; it must be a whole number, 0 or more, or Infinity.`,
    );
  }
  if (options.overflow !== undefined && options.overflow !== "error" && options.overflow !== "truncate") {
    throw new DogeError("invalid-argument", `overflow is ${show(options.overflow)}; it must be "error" or "truncate".`);
  }
  const asked = options.temperature === undefined ? undefined : options.temperature !== 0;
  const sample = (options.doSample ?? asked ?? defaults.doSample ?? false) && asked !== false;
  const seed = options.seed ?? (sample ? crypto.getRandomValues(new Uint32Array(1))[0]! : 0);
  const eos = options.eosTokenId ?? defaults.eosIds ?? config.eosIds;
  const sampling: Sampling = {
    // Without drawing the filters have nothing to do: the most likely token passes all of them.
    temperature: sample ? (options.temperature ?? defaults.temperature ?? 1) : 0,
    topK: sample ? (options.topK ?? defaults.topK ?? defaultTopK) : (options.topK ?? 0),
    topP: sample ? (options.topP ?? defaults.topP ?? 1) : (options.topP ?? 1),
    minP: sample ? (options.minP ?? defaults.minP ?? 0) : (options.minP ?? 0),
    repetitionPenalty: options.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    seed,
    stop: options.ignoreEos ? [] : typeof eos === "number" ? [eos] : eos,
  };
  const maxNewTokens = (promptLength: number): number => {
    if (options.maxNewTokens !== undefined) return options.maxNewTokens;
    if (options.maxLength !== undefined) return Math.max(0, options.maxLength - promptLength);
    if (defaults.maxNewTokens !== undefined) return defaults.maxNewTokens;
    if (defaults.maxLength !== undefined) return Math.max(0, defaults.maxLength - promptLength);
    return defaultNewTokens;
  };
  return { sampling, maxNewTokens };
}
