// The set of ids that a draw is made from, under every option of generation: what checks compare with transformers' processors.
import { highest, relative } from "./candidates.ts";
import { idsOf, type Processing, processingOf, validateProcessing } from "./processing.ts";
import { Processors } from "./processors.ts";
import { completeSampling, filtered, type SamplingOptions } from "./sampling.ts";

export interface KeptSetOptions extends SamplingOptions, Processing {
  /** Bit id & 31 of word id >> 5: none else is looked at. Default: all. */
  readonly allowed?: Uint32Array | undefined;
  /** How many of `ids` are the prompt; default all: what is drawn is the first new token. */
  readonly promptLength?: number | undefined;
  /** Tokens of prompt and text at most, for forcedEosTokenId; default: no end. */
  readonly maxLength?: number | undefined;
  /** Ids that end the text, another name of `stop`. */
  readonly eosTokenId?: number | readonly number[] | undefined;
}

/** The set a draw is made from, ids ascending, with the probability of each: those of the filtered set sum to 1. Temperature 0
 *  gives the single most likely id. Empty when nothing is allowed.
 *  `logits` (vocab) follow the ids of the sequence so far, `ids`. Errors: "numerical", "invalid-argument". */
export function keptSet(
  logits: ArrayLike<number>,
  ids: ArrayLike<number>,
  options: KeptSetOptions = {},
): { ids: Int32Array<ArrayBuffer>; probabilities: Float64Array<ArrayBuffer> } {
  const { allowed, promptLength = ids.length, maxLength = Number.POSITIVE_INFINITY, eosTokenId, ...given } = options;
  const { temperature, topK, topP, minP, repetitionPenalty, seed, stop = [] } = given;
  const eos = eosTokenId === undefined ? stop : idsOf(eosTokenId);
  const sampling = completeSampling({ temperature, topK, topP, minP, repetitionPenalty, seed, stop: eos });
  const processing = processingOf(given);
  validateProcessing(processing, logits.length);
  const processors = new Processors(processing, { vocabulary: logits.length, promptLength, eos, maxLength });
  processors.push(ids);
  const kept = filtered(logits, ids, sampling, allowed, processors.further());
  const best = highest(kept.scores);
  const weights = kept.scores.map((score) => relative(score, best));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return { ids: kept.ids.slice(), probabilities: weights.map((weight) => weight / total) };
}
