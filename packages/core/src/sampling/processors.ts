// transformers' logits processors over a growing text: which ids may follow, as a mask for the device or on scores on the host,
// in transformers' order.

import { DogeError } from "../errors.ts";
import { show } from "../show.ts";
import { Ngrams } from "./ngrams.ts";
import { idsOf, type Processing } from "./processing.ts";
import { type Further, isAllowed, penalise } from "./sampling.ts";
import { warpAfter, warpBefore } from "./warpers.ts";

/** What the options of Processing refer to. */
export interface ProcessingPlace {
  readonly vocabulary: number;
  /** Tokens of the prompt. */
  readonly promptLength: number;
  /** Ids that end the text. */
  readonly eos: readonly number[];
  /** Tokens of prompt and text at most. */
  readonly maxLength: number;
}

/** Ids that may follow. */
export interface Mask {
  /** undefined: all. */
  readonly allowed: Uint32Array<ArrayBuffer> | undefined;
  /** For so many tokens, whatever they are. */
  readonly holds: number;
  /** Those allowed are forced: they all score 0. */
  readonly forced: boolean;
}

export class Processors {
  readonly #options: Processing;
  readonly #place: ProcessingPlace;
  readonly #ngrams: Ngrams | undefined;
  /** Words of several ids by the id before their last. */
  readonly #words = new Map<number, (readonly number[])[]>();
  /** Ids that never come: suppressed, or bad words of one id. */
  readonly #never: readonly number[];
  #ids: Int32Array<ArrayBuffer> = new Int32Array(64);
  #length = 0;

  /** The options are valid (validateProcessing). */
  constructor(options: Processing, place: ProcessingPlace) {
    this.#options = options;
    this.#place = place;
    const { noRepeatNgramSize = 0, badWordsIds = [] } = options;
    if (noRepeatNgramSize > 0) this.#ngrams = new Ngrams(noRepeatNgramSize);
    for (const word of badWordsIds) {
      const before = word.at(-2);
      if (before !== undefined) this.#words.set(before, [...(this.#words.get(before) ?? []), word]);
    }
    const single = badWordsIds.filter((word) => word.length === 1).map((word) => word[0]!);
    this.#never = single.filter((id) => !place.eos.includes(id));
  }

  /** The text goes on with these. */
  push(ids: ArrayLike<number>): void {
    const length = this.#length + ids.length;
    if (length > this.#ids.length) {
      const grown = new Int32Array(Math.max(length, 2 * this.#ids.length));
      grown.set(this.#ids.subarray(0, this.#length));
      this.#ids = grown;
    }
    this.#ids.set(ids, this.#length);
    this.#length = length;
    if (this.#ngrams !== undefined) for (let index = 0; index < ids.length; index++) this.#ngrams.push(ids[index]!);
  }

  /** All ids so far: a copy, so that nobody changes the text. */
  ids(): Int32Array<ArrayBuffer> {
    return this.#ids.slice(0, this.#length);
  }

  /** Errors: "invalid-argument" for what allowedTokens returns. */
  mask(): Mask {
    const { suppressTokens = [] } = this.#options;
    const forced = this.#forced();
    const banned = new Set<number>(suppressTokens);
    let holds = Number.POSITIVE_INFINITY;
    if (this.#begins()) {
      for (const id of this.#options.beginSuppressTokens ?? []) banned.add(id);
      holds = 1;
    }
    let given: Uint32Array | null = null;
    if (forced.ids === undefined) {
      holds = Math.min(holds, forced.holds, this.#ban(banned));
      const { allowedTokens } = this.#options;
      if (allowedTokens !== undefined) {
        given = this.#checkMask(allowedTokens(this.ids()));
        holds = 1;
      }
    } else holds = 1;
    if (forced.ids === undefined && given === null && banned.size === 0) {
      return { allowed: undefined, holds, forced: false };
    }
    const words = Math.ceil(this.#place.vocabulary / 32);
    const allowed = new Uint32Array(words);
    if (forced.ids !== undefined) for (const id of forced.ids) allowed[id >> 5]! |= 1 << (id & 31);
    else if (given !== null) allowed.set(given.subarray(0, words));
    else allowed.fill(0xffffffff);
    for (const id of banned) allowed[id >> 5]! &= ~(1 << (id & 31));
    return { allowed, holds, forced: forced.ids !== undefined };
  }

  /** All of it on the scores of the host, for the place behind the ids so far. */
  further(): Further {
    const options = this.#options;
    return {
      process: (scores, repetitionPenalty) => this.#process(scores, repetitionPenalty),
      before: (candidates) => warpBefore(candidates, options),
      after: (candidates) => warpAfter(candidates, options),
    };
  }

  #process(scores: Float64Array, repetitionPenalty: number): void {
    const { sequenceBias = [], exponentialDecayLengthPenalty, logitsProcessors = [] } = this.#options;
    for (const [word, bias] of sequenceBias) {
      if (this.#endsWith(word.slice(0, -1))) scores[word.at(-1)!]! += bias;
    }
    penalise(scores, this.#ids.subarray(0, this.#length), repetitionPenalty);
    const { allowed, forced } = this.mask();
    if (allowed !== undefined) {
      for (let id = 0; id < scores.length; id++) {
        if (!isAllowed(allowed, id)) scores[id] = Number.NEGATIVE_INFINITY;
        else if (forced) scores[id] = 0;
      }
    }
    if (exponentialDecayLengthPenalty !== undefined) {
      const [start, factor] = exponentialDecayLengthPenalty;
      const steps = this.#length - this.#place.promptLength - start;
      for (const id of steps > 0 ? new Set(this.#place.eos) : []) {
        const score = scores[id];
        if (score !== undefined && Number.isFinite(score)) scores[id] = score + Math.abs(score) * (factor ** steps - 1);
      }
    }
    for (const processor of logitsProcessors) processor(this.ids(), scores);
  }

  /** The ids that must come here, or for how many tokens there are none. */
  #forced(): { readonly ids: readonly number[] | undefined; readonly holds: number } {
    const { forcedBosTokenId, forcedEosTokenId } = this.#options;
    const left = this.#place.maxLength - 1 - this.#length; // tokens before the last that fits
    // Where both hold, the end of text is forced over the beginning, as it comes later in transformers' order.
    if (forcedEosTokenId !== undefined && left === 0) return { ids: idsOf(forcedEosTokenId), holds: 1 };
    if (forcedBosTokenId !== undefined && this.#length === 1) return { ids: [forcedBosTokenId], holds: 1 };
    return {
      ids: undefined,
      holds: forcedEosTokenId !== undefined && left > 0 ? left : Number.POSITIVE_INFINITY,
    };
  }

  /** Whether beginSuppressTokens hold here: behind the prompt, or behind the id that was forced behind it. */
  #begins(): boolean {
    const { promptLength } = this.#place;
    const forced = promptLength <= 1 && this.#options.forcedBosTokenId !== undefined;
    return this.#length === (forced ? promptLength + 1 : promptLength);
  }

  /** Adds the ids that may not follow; for how many tokens that holds. */
  #ban(banned: Set<number>): number {
    let holds = Number.POSITIVE_INFINITY;
    for (const id of this.#never) banned.add(id);
    if (this.#ngrams !== undefined) {
      for (const id of this.#ngrams.banned()) banned.add(id);
      holds = 1;
    }
    if (this.#words.size > 0) {
      for (const word of this.#words.get(this.#ids[this.#length - 1] ?? -1) ?? []) {
        if (this.#endsWith(word.slice(0, -1))) banned.add(word.at(-1)!);
      }
      holds = 1;
    }
    const { minNewTokens = 0, minLength = 0 } = this.#options;
    const { promptLength, eos } = this.#place;
    const early = Math.max(minLength, minNewTokens > 0 ? promptLength + minNewTokens : 0) - this.#length;
    if (early > 0 && eos.length > 0) {
      for (const id of eos) banned.add(id);
      holds = Math.min(holds, early);
    }
    return holds;
  }

  #endsWith(ids: readonly number[]): boolean {
    const from = this.#length - ids.length;
    return from >= 0 && ids.every((id, index) => this.#ids[from + index] === id);
  }

  #checkMask(mask: Uint32Array | null): Uint32Array | null {
    const words = Math.ceil(this.#place.vocabulary / 32);
    if (mask === null || (mask instanceof Uint32Array && mask.length >= words)) return mask;
    throw new DogeError(
      "invalid-argument",
      `allowedTokens returned ${show(mask)}; it must return null or a Uint32Array of ${words} words, one bit for each of ${this.#place.vocabulary} ids.`,
    );
  }
}
