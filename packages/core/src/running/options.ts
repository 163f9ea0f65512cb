// Options of a generation, by transformers' names in camelCase, and what is meant when they are not given: the caller's first,
// then the model's generation_config.json, then transformers' defaults.
import type { Sampling } from "../backend.ts";
import type { Config } from "../config.ts";
import { DogeError } from "../errors.ts";
import type { GenerationDefaults } from "../loading/generation-config.ts";
import { type Processing, processingNames, processingOf, validateProcessing } from "../sampling/processing.ts";
import { show } from "../show.ts";
import type { Streamer } from "../text/streamer.ts";
import { checkOverflow, type Overflow } from "./overflow.ts";

export interface GenerateOptions extends Processing {
  /** New tokens at most; default 20, as in transformers. 0: an empty text. */
  readonly maxNewTokens?: number | undefined;
  /** Prompt and new tokens together; maxNewTokens wins over it, also the one of generation_config.json. */
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
  /** Is given the ids as they come, the prompt's first: a TextStreamer, or one of your own. */
  readonly streamer?: Streamer | undefined;
  /** The prompt comes first in text and ids and, with logprobs, ln p of its tokens. Default false. */
  readonly echo?: boolean | undefined;
  /** 0: ln p of every id; k up to 20: and of the k most likely. */
  readonly logprobs?: number | undefined;
  /** Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** What to do with an input longer than the context: "error" (default), or leave out the oldest exchanges (a system message
   *  stays) or the first tokens (a begin-of-text id stays), which the result tells: as little as makes room with "truncate",
   *  until half of the context is free with "slide". A session that slides forgets for good what it leaves out. */
  readonly overflow?: Overflow | undefined;
  /** Messages: end with the header of the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** Messages: further variables of the chat template (tools, date_string, ...). */
  readonly templateVariables?: { readonly [name: string]: unknown } | undefined;
  /** Control strings in the input become control ids. Default: in text yes, as transformers' encode; in messages no. */
  readonly allowSpecialTokens?: boolean | undefined;
}

const names: { readonly [name in keyof Required<GenerateOptions>]: true } = {
  ...processingNames,
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
  echo: true,
  signal: true,
  streamer: true,
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

/** What a generation is to do, complete. */
export interface Resolved {
  readonly sampling: Sampling;
  /** What the device's draw does not do by itself. */
  readonly processing: Processing;
  readonly stopStrings: string | readonly string[];
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
  checkOverflow(options.overflow);
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
    const newTokens = options.maxNewTokens ?? defaults.maxNewTokens;
    const length = options.maxLength ?? defaults.maxLength;
    return newTokens ?? (length === undefined ? defaultNewTokens : Math.max(0, length - promptLength));
  };
  return {
    sampling,
    processing: resolveProcessing(options, defaults, config.vocabSize, !sample),
    stopStrings: options.stop ?? defaults.stop ?? [],
    maxNewTokens,
  };
}

/** The caller's, then the file's; minNewTokens, whoever says it, wins over minLength. */
function resolveProcessing(
  options: GenerateOptions,
  defaults: GenerationDefaults,
  vocabulary: number,
  greedy: boolean,
): Processing {
  const own = processingOf(options);
  validateProcessing(own, vocabulary);
  const merged: { -readonly [name in keyof Processing]: Processing[name] } = { ...defaults.processing, ...own };
  if (merged.minNewTokens !== undefined) delete merged.minLength;
  if (greedy) for (const name of ["topH", "typicalP", "epsilonCutoff", "etaCutoff"] as const) delete merged[name];
  return merged;
}
