// Options of generation beyond a device's draw, by transformers' names in camelCase: what they mean, their ranges, and which of
// them need the logits on the host.

import { DogeError } from "../errors.ts";
import { show } from "../show.ts";

/** Called with all ids so far (prompt included) and the scores (vocab) that follow, to be changed in place; -Infinity: never. */
export type LogitsProcessor = (ids: Int32Array, scores: Float64Array) => void;
/** Called with all ids so far: which may follow (bit id & 31 of word id >> 5; tokenMask() makes one), or null for all. */
export type AllowedTokens = (ids: Int32Array) => Uint32Array | null;

/** What transformers' logits processors do, and two of our own; each is off where it is not given or at its neutral value. */
export interface Processing {
  /** No n ids in a row come twice, those of the prompt included. 0: off. */
  readonly noRepeatNgramSize?: number | undefined;
  /** Sequences of ids that never come; one that is an end-of-text id alone is left out, as in transformers. */
  readonly badWordsIds?: readonly (readonly number[])[] | undefined;
  /** Ids of a sequence, and what is added to the score of its last one where the others stand before it. */
  readonly sequenceBias?: readonly (readonly [readonly number[], number])[] | undefined;
  /** No end of text before so many new tokens. */
  readonly minNewTokens?: number | undefined;
  /** No end of text before so many tokens, those of the prompt included. Doge.generate leaves it out where minNewTokens is
   *  given, as transformers' generate() does. */
  readonly minLength?: number | undefined;
  /** Ids that never come. */
  readonly suppressTokens?: readonly number[] | undefined;
  /** Ids that are not the first new one. */
  readonly beginSuppressTokens?: readonly number[] | undefined;
  /** The first new id, where the prompt is a single id. */
  readonly forcedBosTokenId?: number | undefined;
  /** The last id that fits into maxNewTokens. */
  readonly forcedEosTokenId?: number | readonly number[] | undefined;
  /** `[start, factor]`: beyond `start` new tokens the end of text gains |score| * (factor ^ tokens - 1). */
  readonly exponentialDecayLengthPenalty?: readonly [number, number] | undefined;
  /** Of the 100 most likely, keep while their entropy stays within this share of the whole. */
  readonly topH?: number | undefined;
  /** Draw from the ids of most typical information that make up this mass. 1: off. */
  readonly typicalP?: number | undefined;
  /** Drop ids less likely than this. 0: off. */
  readonly epsilonCutoff?: number | undefined;
  /** Drop ids less likely than min(eta, sqrt(eta) e^-entropy). 0: off. */
  readonly etaCutoff?: number | undefined;
  /** A mask of ids for each place, which constrained output can be built on. When it leaves nothing, the text ends. */
  readonly allowedTokens?: AllowedTokens | undefined;
  /** Functions that change the scores, behind all other processors and before the temperature. */
  readonly logitsProcessors?: readonly LogitsProcessor[] | undefined;
}

/** Names of the options of Processing. */
export const processingNames: { readonly [name in keyof Required<Processing>]: true } = {
  noRepeatNgramSize: true,
  badWordsIds: true,
  sequenceBias: true,
  minNewTokens: true,
  minLength: true,
  suppressTokens: true,
  beginSuppressTokens: true,
  forcedBosTokenId: true,
  forcedEosTokenId: true,
  exponentialDecayLengthPenalty: true,
  topH: true,
  typicalP: true,
  epsilonCutoff: true,
  etaCutoff: true,
  allowedTokens: true,
  logitsProcessors: true,
};

/** Those of `options` that Processing names, without the undefined. */
export function processingOf(options: Processing): Processing {
  const given = Object.entries(options).filter(([name, value]) => value !== undefined && name in processingNames);
  return Object.fromEntries(given);
}

const isId = (value: unknown, vocabulary: number): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < vocabulary;

/** Throws "invalid-argument", naming the option and its value, unless each option is in its range: counts are whole numbers, 0
 *  or more; ids lie in the vocabulary; typicalP and topH are above 0 and at most 1; the cutoffs from 0 to 1. */
export function validateProcessing(options: Processing, vocabulary: number): void {
  const refuse = (name: keyof Processing, value: unknown, range: string): never => {
    throw new DogeError("invalid-argument", `${name} is ${show(value)}; it must be ${range}.`);
  };
  const below = `from 0 to ${vocabulary - 1}`;
  for (const name of ["noRepeatNgramSize", "minNewTokens", "minLength"] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isInteger(value) && value >= 0)) {
      refuse(name, value, "a whole number, 0 or more");
    }
  }
  for (const name of ["typicalP", "topH"] as const) {
    const value = options[name];
    if (value !== undefined && !(typeof value === "number" && value > 0 && value <= 1)) {
      refuse(name, value, "above 0 and at most 1");
    }
  }
  for (const name of ["epsilonCutoff", "etaCutoff"] as const) {
    const value = options[name];
    if (value !== undefined && !(typeof value === "number" && value >= 0 && value <= 1)) {
      refuse(name, value, "from 0 to 1");
    }
  }
  for (const name of ["suppressTokens", "beginSuppressTokens"] as const) {
    const value = options[name];
    if (value === undefined) continue;
    if (!Array.isArray(value)) refuse(name, value, "a list of ids");
    for (const id of value) if (!isId(id, vocabulary)) refuse(name, id, `a list of ids ${below}`);
  }
  const {
    badWordsIds,
    sequenceBias,
    forcedBosTokenId,
    forcedEosTokenId,
    exponentialDecayLengthPenalty: decay,
  } = options;
  if (badWordsIds !== undefined) {
    if (!Array.isArray(badWordsIds)) refuse("badWordsIds", badWordsIds, "a list of lists of ids");
    for (const word of badWordsIds) checkWord("badWordsIds", word, vocabulary);
  }
  if (sequenceBias !== undefined) {
    if (!Array.isArray(sequenceBias)) refuse("sequenceBias", sequenceBias, "a list of [ids, number] pairs");
    for (const pair of sequenceBias) {
      if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[1] !== "number" || Number.isNaN(pair[1])) {
        refuse("sequenceBias", pair, "a list of [ids, number] pairs");
      }
      checkWord("sequenceBias", pair[0], vocabulary);
    }
  }
  if (forcedBosTokenId !== undefined && !isId(forcedBosTokenId, vocabulary)) {
    refuse("forcedBosTokenId", forcedBosTokenId, `an id ${below}`);
  }
  if (forcedEosTokenId !== undefined) {
    const ids = idsOf(forcedEosTokenId);
    if (!Array.isArray(ids)) refuse("forcedEosTokenId", ids, `an id or a list of ids ${below}`);
    for (const id of ids) if (!isId(id, vocabulary)) refuse("forcedEosTokenId", id, `an id or a list of ids ${below}`);
    if (ids.length === 0) refuse("forcedEosTokenId", forcedEosTokenId, `an id or a list of ids ${below}`);
  }
  if (decay !== undefined) {
    const pair = Array.isArray(decay) && decay.length === 2 && decay.every((part) => typeof part === "number");
    const right = pair && Number.isInteger(decay[0]) && decay[0] >= 0 && decay[1] > 0;
    if (!right) refuse("exponentialDecayLengthPenalty", decay, "[a whole number, 0 or more; a factor above 0]");
  }
  const { allowedTokens, logitsProcessors } = options;
  if (allowedTokens !== undefined && typeof allowedTokens !== "function") {
    refuse("allowedTokens", allowedTokens, "a function of the ids so far");
  }
  if (logitsProcessors !== undefined) {
    const right = Array.isArray(logitsProcessors) && logitsProcessors.every((entry) => typeof entry === "function");
    if (!right) refuse("logitsProcessors", logitsProcessors, "a list of functions");
  }
}

function checkWord(name: string, word: unknown, vocabulary: number): void {
  if (!Array.isArray(word) || word.length === 0) {
    throw new DogeError("invalid-argument", `${name} has ${show(word)}; each entry must be a list of at least one id.`);
  }
  for (const id of word) {
    if (isId(id, vocabulary)) continue;
    throw new DogeError(
      "invalid-argument",
      `${name} has the id ${show(id)}; ids of this vocabulary are from 0 to ${vocabulary - 1}.`,
    );
  }
}

export const idsOf = (ids: number | readonly number[]): readonly number[] => (typeof ids === "number" ? [ids] : ids);

const between = (value: number | undefined): value is number => value !== undefined && value > 0 && value < 1;

/** Filters that only mean something where a token is drawn: off when it is the most likely one that is taken. */
function filtersOn(options: Processing): boolean {
  const { topH, typicalP, epsilonCutoff, etaCutoff } = options;
  return topH !== undefined || between(typicalP) || between(epsilonCutoff) || between(etaCutoff);
}

/** Whether the scores themselves are changed, or a filter is on that a device's draw does not have. The other options are masks
 *  of allowed ids, which a device takes. */
export function needsHost(options: Processing, greedy: boolean): boolean {
  const { sequenceBias = [], exponentialDecayLengthPenalty, logitsProcessors = [], forcedEosTokenId } = options;
  // Several forced ids have equal scores, whatever the model says.
  const several = forcedEosTokenId !== undefined && idsOf(forcedEosTokenId).length > 1;
  const scores = sequenceBias.length > 0 || exponentialDecayLengthPenalty !== undefined || logitsProcessors.length > 0;
  return scores || several || (!greedy && filtersOn(options));
}

/** A mask of `vocabulary` ids in which only these are allowed. */
export function tokenMask(ids: Iterable<number>, vocabulary: number): Uint32Array<ArrayBuffer> {
  const mask = new Uint32Array(Math.ceil(vocabulary / 32));
  for (const id of ids) if (isId(id, vocabulary)) mask[id >> 5]! |= 1 << (id & 31);
  return mask;
}
