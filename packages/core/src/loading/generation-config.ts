// A model's generation_config.json: what of it is used, and what is warned of because it is not done here.
import { DogeError } from "../errors.ts";
import { isJsonObject, type Json } from "../json.ts";
import type { Processing } from "../sampling/processing.ts";

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
  readonly stop?: readonly string[];
  readonly processing?: Processing;
}

type Reader = readonly [name: string, kind: string, fits: (value: unknown) => boolean];

const isNumber = (value: unknown): value is number => typeof value === "number";
const isId = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;
const isIds = (value: unknown): boolean => Array.isArray(value) && value.every(isId);
const isPair = (value: unknown): value is readonly [unknown, unknown] => Array.isArray(value) && value.length === 2;

const own: { readonly [key: string]: Reader } = {
  max_new_tokens: ["maxNewTokens", "a number", isNumber],
  max_length: ["maxLength", "a number", isNumber],
  do_sample: ["doSample", "true or false", (value) => typeof value === "boolean"],
  temperature: ["temperature", "a number", isNumber],
  top_k: ["topK", "a number", isNumber],
  top_p: ["topP", "a number", isNumber],
  min_p: ["minP", "a number", isNumber],
  repetition_penalty: ["repetitionPenalty", "a number", isNumber],
};
const processing: { readonly [key: string]: Reader } = {
  no_repeat_ngram_size: ["noRepeatNgramSize", "a number", isNumber],
  bad_words_ids: ["badWordsIds", "a list of lists of ids", (value) => Array.isArray(value) && value.every(isIds)],
  sequence_bias: [
    "sequenceBias",
    "a list of [ids, number] pairs",
    (value) => Array.isArray(value) && value.every((pair) => isPair(pair) && isIds(pair[0]) && isNumber(pair[1])),
  ],
  min_new_tokens: ["minNewTokens", "a number", isNumber],
  min_length: ["minLength", "a number", isNumber],
  suppress_tokens: ["suppressTokens", "a list of ids", isIds],
  begin_suppress_tokens: ["beginSuppressTokens", "a list of ids", isIds],
  forced_bos_token_id: ["forcedBosTokenId", "an id", isId],
  forced_eos_token_id: ["forcedEosTokenId", "an id or a list of ids", (value) => isId(value) || isIds(value)],
  exponential_decay_length_penalty: [
    "exponentialDecayLengthPenalty",
    "a [start, factor] pair",
    (value) => isPair(value) && value.every(isNumber),
  ],
  top_h: ["topH", "a number", isNumber],
  typical_p: ["typicalP", "a number", isNumber],
  epsilon_cutoff: ["epsilonCutoff", "a number", isNumber],
  eta_cutoff: ["etaCutoff", "a number", isNumber],
};

/** Keys that change what is generated and that are not done here, with the value at which they do nothing. */
const neutral: { readonly [key: string]: Json } = {
  num_beams: 1,
  num_return_sequences: 1,
  remove_invalid_values: false,
  token_healing: false,
  encoder_repetition_penalty: 1,
  encoder_no_repeat_ngram_size: 0,
  guidance_scale: 1,
  penalty_alpha: 0,
  max_time: null,
  watermarking_config: null,
  constraints: null,
  force_words_ids: null,
  dola_layers: null,
};

/** Read generation_config.json. Errors: "config-invalid" naming the key and its value. */
export function readGenerationConfig(json: Json): { defaults: GenerationDefaults; warnings: string[] } {
  const file = "generation_config.json";
  if (!isJsonObject(json)) throw new DogeError("config-invalid", `${file} is not a JSON object.`);
  const wrong = (key: string, kind: string): DogeError =>
    new DogeError("config-invalid", `${file}: ${key} is ${JSON.stringify(json[key]).slice(0, 80)}, expected ${kind}.`);
  const read = (readers: { readonly [key: string]: Reader }): Record<string, unknown> => {
    const found: Record<string, unknown> = {};
    for (const [key, [name, kind, fits]] of Object.entries(readers)) {
      const value = json[key] ?? undefined;
      if (value === undefined) continue;
      if (!fits(value)) throw wrong(key, kind);
      found[name] = value;
    }
    return found;
  };
  const defaults = read(own);
  const eos = json.eos_token_id ?? undefined;
  if (eos !== undefined) {
    const ids = Array.isArray(eos) ? eos : [eos];
    if (!isIds(ids)) throw wrong("eos_token_id", "an id or a list of ids");
    defaults.eosIds = ids;
  }
  const stop = json.stop_strings ?? undefined;
  if (stop !== undefined) {
    const strings = Array.isArray(stop) ? stop : [stop];
    if (!strings.every((text) => typeof text === "string"))
      throw wrong("stop_strings", "a string or a list of strings");
    defaults.stop = strings;
  }
  const further = read(processing);
  if (Object.keys(further).length > 0) defaults.processing = further;
  const warnings = Object.keys(neutral)
    .filter((key) => (json[key] ?? neutral[key] ?? null) !== (neutral[key] ?? null))
    .map(
      (key) => `${file}: ${key} is ${JSON.stringify(json[key]).slice(0, 80)}, which is not done here and is ignored.`,
    );
  return { defaults: defaults as GenerationDefaults, warnings };
}
