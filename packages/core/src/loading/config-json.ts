// config.json of every Doge generation -> hyperparameters. What only the tensors can tell is left to layout.ts.
//
// Defaults are those of transformers 5.18's DogeConfig; keys that the authors' earlier code used are read as aliases.
// Keys that do not change inference (dropouts, initialisation, loss coefficients) and unknown keys are ignored.

import type { Rope } from "../config.ts";
import { DogeError } from "../errors.ts";
import { isJsonObject, type Json } from "../json.ts";

/** The file's answers. `undefined` where the file is silent and the tensors decide. */
export interface Hyperparameters {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly normEpsilon: number;
  readonly maxPositions: number;
  readonly rope: Rope;
  /** keep_window_size; holds for the native generation only. */
  readonly window: number;
  readonly attentionBias: boolean | undefined;
  readonly mlpBias: boolean | undefined;
  readonly tied: boolean;
  readonly moe: boolean | undefined;
  readonly expertCount: number | undefined;
  readonly expertsPerToken: number | undefined;
  readonly normalizeExperts: boolean;
  /** dynamic_mask_ratio of the legacy code: above 0 it drops keys. */
  readonly maskRatio: number;
  readonly bosId: number | null | undefined;
  readonly eosIds: readonly number[] | undefined;
  readonly padId: number | null | undefined;
  readonly warnings: readonly string[];
}

/** Upper bounds, far above every Doge: they only keep absurd numbers away from arithmetic and allocation. */
const LIMITS = {
  vocab_size: 1 << 24,
  hidden_size: 1 << 17,
  intermediate_size: 1 << 20,
  num_hidden_layers: 1024,
  num_attention_heads: 4096,
  head_dim: 1 << 14,
  max_position_embeddings: 1 << 28,
  keep_window_size: 1 << 28,
  num_experts: 1 << 24,
} as const;

/** Keys that no code has ever written as null; anywhere else a null means that the key is absent. */
const NEVER_NULL = [
  "vocab_size",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "max_position_embeddings",
  "keep_window_size",
  "rms_norm_eps",
] as const;

/** Reads keys of one object and notes every problem instead of stopping at the first. A null is an absent key. */
class Keys {
  readonly object: { [key: string]: Json };
  readonly problems: string[];
  readonly prefix: string;

  constructor(object: { [key: string]: Json }, problems: string[], prefix = "") {
    this.object = object;
    this.problems = problems;
    this.prefix = prefix;
  }

  raw(key: string): Json | undefined {
    return Object.hasOwn(this.object, key) ? (this.object[key] ?? undefined) : undefined;
  }

  wrong(key: string, expected: string): undefined {
    this.problems.push(
      `${this.prefix}${key} is ${(JSON.stringify(this.raw(key)) ?? "absent").slice(0, 80)}, expected ${expected}`,
    );
    return undefined;
  }

  whole(key: string, limit: number, minimum = 1): number | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < minimum || value > limit) {
      return this.wrong(key, `a whole number from ${minimum} to ${limit}`);
    }
    return value;
  }

  positive(key: string): number | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    return typeof value === "number" && value > 0 ? value : this.wrong(key, "a number above 0");
  }

  flag(key: string): boolean | undefined {
    const value = this.raw(key);
    return value === undefined || typeof value === "boolean" ? value : this.wrong(key, "true or false");
  }

  text(key: string): string | undefined {
    const value = this.raw(key);
    return value === undefined || typeof value === "string" ? value : this.wrong(key, "a string");
  }
}

/** Read config.json. Nothing in it is executed or followed.
 *  @throws DogeError "unsupported-model" when it is not a Doge's, "unsupported" for an option that this engine does not
 *  have, "config-invalid" with all the values that cannot be. */
export function parseConfig(json: Json, file = "config.json"): Hyperparameters {
  if (!isJsonObject(json)) throw new DogeError("config-invalid", `${file} is not a JSON object.`);
  const problems: string[] = [];
  const warnings: string[] = [];
  const keys = new Keys(json, problems);
  checkModelType(keys, file);
  refuseOptions(keys, file);

  for (const key of NEVER_NULL) if (json[key] === null) problems.push(`${key} is null, expected a number`);
  const hiddenSize = keys.whole("hidden_size", LIMITS.hidden_size) ?? 1024;
  const heads = keys.whole("num_attention_heads", LIMITS.num_attention_heads) ?? 8;
  const kvHeads = keys.whole("num_key_value_heads", LIMITS.num_attention_heads) ?? heads;
  if (heads % kvHeads !== 0) {
    problems.push(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
  }
  const givenHeadDim = keys.whole("head_dim", LIMITS.head_dim);
  const headDim = givenHeadDim ?? Math.floor(hiddenSize / heads);
  if (keys.raw("head_dim") === undefined && hiddenSize % heads !== 0) {
    problems.push(
      `hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${heads}, and there is no head_dim`,
    );
  } else if (headDim % 2 !== 0) {
    problems.push(`the head size is ${headDim}; rotary positions turn pairs, so it must be even`);
  }
  const maxPositions = keys.whole("max_position_embeddings", LIMITS.max_position_embeddings) ?? 2048;
  const rope = parseRope(keys, headDim, file);

  const vocabSize = keys.whole("vocab_size", LIMITS.vocab_size) ?? 32768;
  const bosId = tokenId(keys, "bos_token_id", vocabSize, warnings);
  const padId = tokenId(keys, "pad_token_id", vocabSize, warnings);
  const eosIds = tokenIds(keys, vocabSize, warnings);

  const hiddenBias = keys.flag("hidden_bias");
  const ratio = keys.raw("dynamic_mask_ratio") ?? 0;
  if (typeof ratio !== "number") keys.wrong("dynamic_mask_ratio", "a number");
  const expertCount =
    keys.whole("num_experts", LIMITS.num_experts) ?? keys.whole("num_cdmoe_experts", LIMITS.num_experts);
  const expertsPerToken =
    keys.whole("num_experts_per_tok", LIMITS.num_experts) ??
    keys.whole("num_cdmoe_experts_per_head", LIMITS.num_experts);

  if (keys.raw("auto_map") !== undefined) {
    warnings.push(
      "config.json names Python code in auto_map; it is never executed, this engine's own Doge runs instead.",
    );
  }
  const result: Hyperparameters = {
    vocabSize,
    hiddenSize,
    intermediateSize: keys.whole("intermediate_size", LIMITS.intermediate_size) ?? 2048,
    layers: keys.whole("num_hidden_layers", LIMITS.num_hidden_layers) ?? 32,
    heads,
    kvHeads,
    headDim,
    normEpsilon: keys.positive("rms_norm_eps") ?? 1e-6,
    maxPositions,
    rope,
    window: keys.whole("keep_window_size", LIMITS.keep_window_size) ?? 2048,
    attentionBias: keys.flag("attention_bias") ?? hiddenBias,
    mlpBias: keys.flag("mlp_bias") ?? hiddenBias,
    tied: keys.flag("tie_word_embeddings") ?? false,
    moe: keys.flag("is_moe"),
    expertCount,
    expertsPerToken,
    normalizeExperts: keys.flag("norm_topk_prob") ?? false,
    maskRatio: typeof ratio === "number" ? ratio : 0,
    bosId,
    eosIds,
    padId,
    warnings,
  };
  if (problems.length > 0) throw new DogeError("config-invalid", `${file} cannot be used: ${problems.join("; ")}.`);
  return result;
}

function checkModelType(keys: Keys, file: string): void {
  const type = keys.raw("model_type");
  if (type === "doge") return;
  if (type === "doge2") {
    throw new DogeError(
      "unsupported-model",
      `${file} has the model_type "doge2", which is a different architecture from Doge; only "doge" runs here.`,
    );
  }
  throw new DogeError(
    "unsupported-model",
    type === undefined
      ? `${file} has no model_type; a Doge's is "doge".`
      : `${file} has the model_type ${JSON.stringify(type).slice(0, 80)}; only "doge" runs here.`,
  );
}

/** Options that change the mathematics and that no published Doge uses. */
function refuseOptions(keys: Keys, file: string): void {
  const refuse = (what: string) => {
    throw new DogeError("unsupported", `${file} ${what}`);
  };
  const act = keys.text("hidden_act");
  // "swish" is another name of the same function in transformers.
  if (act !== undefined && act !== "silu" && act !== "swish") {
    refuse(`has the hidden_act ${JSON.stringify(act.slice(0, 40))}; only "silu" is supported.`);
  }
  const sliding = keys.raw("sliding_window");
  if (sliding !== undefined)
    refuse(`has the sliding_window ${JSON.stringify(sliding).slice(0, 40)}; no Doge uses one, only null is supported.`);
  if (keys.raw("quantization_config") !== undefined) {
    refuse(
      "has a quantization_config; only F32, F16 and BF16 weights are read. Take the original checkpoint: it can be quantised while loading.",
    );
  }
  if (keys.raw("window_size") !== undefined && keys.raw("keep_window_size") === undefined) {
    refuse(
      "has window_size instead of keep_window_size: the form of flash-dmattn of autumn 2025, whose dynamic mask has no exponential. It is not supported.",
    );
  }
}

/** `rope_scaling` of version 4 files wins over `rope_parameters` of version 5, as transformers 5 reads a file with both. */
function parseRope(keys: Keys, headDim: number, file: string): Rope {
  const object = (key: string) => {
    const value = keys.raw(key);
    if (value === undefined) return undefined;
    if (!isJsonObject(value)) return keys.wrong(key, "an object or null");
    return Object.keys(value).length === 0 ? undefined : new Keys(value, keys.problems, `${key}.`);
  };
  const scaling = object("rope_scaling");
  const parameters = object("rope_parameters");
  const chosen = scaling ?? parameters;
  const type = chosen?.text("rope_type") ?? chosen?.text("type") ?? "default";
  const theta =
    chosen?.positive("rope_theta") ?? keys.positive("rope_theta") ?? parameters?.positive("rope_theta") ?? 10000;
  if (type !== "default" && type !== "linear" && type !== "dynamic") {
    throw new DogeError(
      "unsupported",
      `${file} has the rope type ${JSON.stringify(type.slice(0, 40))}; supported are "default", "linear" and "dynamic".`,
    );
  }
  const partial = chosen?.raw("partial_rotary_factor") ?? keys.raw("partial_rotary_factor") ?? 1;
  if (partial !== 1) {
    throw new DogeError(
      "unsupported",
      `${file} has the partial_rotary_factor ${JSON.stringify(partial).slice(0, 40)}; a Doge turns whole heads, only 1 is supported.`,
    );
  }
  if (type === "default") return { type, theta, factor: 1 };
  const factor = chosen?.positive("factor");
  if (factor === undefined && chosen?.raw("factor") === undefined)
    keys.problems.push(`the rope type "${type}" needs a factor`);
  if (type === "dynamic" && headDim <= 2)
    keys.problems.push(`dynamic rope needs a head size above 2, found ${headDim}`);
  return { type, theta, factor: factor ?? 1 };
}

/** undefined: the key is absent; null: there is no such token. */
function tokenId(keys: Keys, key: string, vocabSize: number, warnings: string[]): number | null | undefined {
  if (!Object.hasOwn(keys.object, key)) return undefined;
  const value = keys.raw(key);
  if (value === undefined) return null;
  if (typeof value !== "number" || !Number.isSafeInteger(value)) {
    keys.wrong(key, "a token id or null");
    return null;
  }
  if (value < 0 || value >= vocabSize) {
    warnings.push(`${key} of config.json is ${value}, outside the vocabulary of ${vocabSize} tokens; it is ignored.`);
    return null;
  }
  return value;
}

function tokenIds(keys: Keys, vocabSize: number, warnings: string[]): readonly number[] | undefined {
  const value = keys.raw("eos_token_id");
  if (!Array.isArray(value)) {
    const id = tokenId(keys, "eos_token_id", vocabSize, warnings);
    return id === undefined ? undefined : id === null ? [] : [id];
  }
  const ids: number[] = [];
  for (const id of value) {
    if (typeof id !== "number" || !Number.isSafeInteger(id))
      return keys.wrong("eos_token_id", "a token id, a list of them, or null");
    if (id < 0 || id >= vocabSize) {
      warnings.push(
        `eos_token_id of config.json names ${id}, outside the vocabulary of ${vocabSize} tokens; it is ignored.`,
      );
    } else if (!ids.includes(id)) ids.push(id);
  }
  return ids;
}
