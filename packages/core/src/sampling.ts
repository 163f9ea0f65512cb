// How a token is drawn from logits: the definition (contract S3) that the draw of every device follows, in 64-bit arithmetic.
//
// Nothing is sorted: each filter is a threshold, and the set a draw is made from is what stands above the strictest of them.
import type { Floats, Sampling } from "./backend.ts";
import { DogeError } from "./errors.ts";
import { noise } from "./noise.ts";

/** Every filter off: the softmax of the logits as it stands, with seed 0. */
export const defaultSampling: Sampling = Object.freeze({
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  seed: 0,
  stop: Object.freeze([]) as readonly number[],
});

/** Beyond these f32 scores say nothing: below, the noise is lost beside them; above, they are lost beside the noise. */
const lowestTemperature = 1e-6;
const highestTemperature = 1e6;

/** Throws "invalid-argument", naming the option and its value, unless every option is in range:
 *  temperature 0 or 1e-6 to 1e6; topK a whole number from 0 to 2^31 - 1 (0, or more than the vocabulary: all); topP 0 to 1 (0
 *  keeps the most likely token and its equals, as transformers does); minP 0 to 1; repetitionPenalty above 0 and finite; seed
 *  an unsigned 32-bit integer; stop a list of ids. `where` begins the sentence: "row 2: ". */
export function validateSampling(sampling: Sampling, where = ""): void {
  const refuse = (option: string, value: unknown, range: string): never => {
    throw new DogeError("invalid-argument", `${where}${option} is ${String(value)}; it must be ${range}.`);
  };
  if (typeof sampling !== "object" || sampling === null) refuse("sampling", sampling, "an object of sampling options");
  const { temperature, topK, topP, minP, repetitionPenalty, seed, stop } = sampling;
  const warm = typeof temperature === "number" && temperature >= lowestTemperature && temperature <= highestTemperature;
  if (temperature !== 0 && !warm) {
    refuse("temperature", temperature, `0 (greedy) or from ${lowestTemperature} to ${highestTemperature}`);
  }
  if (!Number.isInteger(topK) || topK < 0 || topK > 2147483647) {
    refuse("topK", topK, "a whole number from 0 (keep all) to 2147483647");
  }
  if (!(typeof topP === "number" && topP >= 0 && topP <= 1)) refuse("topP", topP, "from 0 to 1 (keep all)");
  if (!(typeof minP === "number" && minP >= 0 && minP <= 1)) refuse("minP", minP, "from 0 (keep all) to 1");
  if (!(Number.isFinite(repetitionPenalty) && repetitionPenalty > 0)) {
    refuse("repetitionPenalty", repetitionPenalty, "a finite number above 0 (1: none)");
  }
  if (!Number.isInteger(seed) || seed < 0 || seed > 4294967295) {
    refuse("seed", seed, "a whole number from 0 to 4294967295 (unsigned 32 bits)");
  }
  if (!Array.isArray(stop)) refuse("stop", stop, "a list of token ids");
  for (const id of stop) {
    if (!Number.isInteger(id) || id < 0 || id > 2147483647)
      refuse("stop", id, "a list of token ids from 0 to 2147483647");
  }
}

/** Bit id & 31 of word id >> 5: the form of `SampleRow.allowed`. */
export const isAllowed = (allowed: Uint32Array, id: number): boolean =>
  (((allowed[id >> 5] ?? 0) >>> (id & 31)) & 1) === 1;

/** Ids that may still be drawn, ascending, with a score each. */
interface Candidates {
  readonly ids: Int32Array<ArrayBuffer>;
  readonly scores: Float64Array<ArrayBuffer>;
}

/** Throws "numerical" for logits (vocab) with a NaN or with nothing finite: whatever would be drawn from them is no answer. */
export function checkLogits(logits: ArrayLike<number>): void {
  let finite = false;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (Number.isNaN(logit)) {
      throw new DogeError("numerical", `The logit of id ${id} is NaN: no token can be drawn from these logits.`);
    }
    finite ||= Number.isFinite(logit);
  }
  if (!finite) {
    throw new DogeError("numerical", `None of the ${logits.length} logits is finite: no token can be drawn from them.`);
  }
}

/** The scores before any filter but `allowed`. A logit of -Infinity is a token that cannot be drawn, as if not allowed. */
function candidates(
  logits: ArrayLike<number>,
  past: ArrayLike<number>,
  sampling: Sampling,
  allowed: Uint32Array | undefined,
): Candidates {
  checkLogits(logits);
  const vocabulary = logits.length;
  const all = new Float64Array(logits);
  const { repetitionPenalty, temperature } = sampling;
  if (repetitionPenalty !== 1) {
    for (const id of new Set(Array.from(past))) {
      if (id < 0 || id >= vocabulary) continue;
      const score = all[id]!;
      all[id] = score < 0 ? score * repetitionPenalty : score / repetitionPenalty;
    }
  }
  const ids = new Int32Array(vocabulary);
  const scores = new Float64Array(vocabulary);
  let count = 0;
  for (let id = 0; id < vocabulary; id++) {
    if (allowed !== undefined && !isAllowed(allowed, id)) continue;
    const score = temperature === 0 ? all[id]! : all[id]! / temperature;
    if (score === Number.NEGATIVE_INFINITY) continue;
    ids[count] = id;
    scores[count] = score;
    count++;
  }
  return { ids: ids.subarray(0, count), scores: scores.subarray(0, count) };
}

/** Those that pass. */
function keep({ ids, scores }: Candidates, passes: (score: number) => boolean): Candidates {
  const keptIds = new Int32Array(ids.length);
  const keptScores = new Float64Array(ids.length);
  let count = 0;
  for (let index = 0; index < ids.length; index++) {
    if (!passes(scores[index]!)) continue;
    keptIds[count] = ids[index]!;
    keptScores[count] = scores[index]!;
    count++;
  }
  return { ids: keptIds.subarray(0, count), scores: keptScores.subarray(0, count) };
}

function highest(scores: Float64Array): number {
  let best = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < scores.length; index++) best = Math.max(best, scores[index]!);
  return best;
}

/** Relative to the most likely, which is exactly 1 (also where its score is +Infinity). */
const relative = (score: number, best: number): number => (score === best ? 1 : Math.exp(score - best));

/** The largest of `scores` such that the weights of those at least as large sum to `target` or more; the smallest of them
 *  when rounding keeps the sum below. Quickselect with a three-way partition: expected linear time, no sort. With a weight of
 *  1 each it is the target-th largest. */
function threshold(scores: Float64Array, weight: (score: number) => number, target: number): number {
  const active = scores.slice(); // the first `length` are those the threshold may still be among
  let length = active.length;
  let above = 0; // weight of everything larger than them
  for (;;) {
    const low = active[0]!;
    const middle = active[length >> 1]!;
    const high = active[length - 1]!;
    const pivot = Math.max(Math.min(low, middle), Math.min(Math.max(low, middle), high));
    let larger = 0;
    let smaller = 0;
    let largerWeight = 0;
    for (let index = 0; index < length; index++) {
      const score = active[index]!;
      if (score > pivot) {
        larger++;
        largerWeight += weight(score);
      } else if (score < pivot) smaller++;
    }
    const up = above + largerWeight >= target && larger > 0;
    if (!up) {
      above += largerWeight + (length - larger - smaller) * weight(pivot);
      if (above >= target || smaller === 0) return pivot;
    }
    let left = 0;
    for (let index = 0; index < length; index++) {
      const score = active[index]!;
      if (up ? score > pivot : score < pivot) active[left++] = score;
    }
    length = left;
  }
}

/** What a draw is made from, with the scores to which the noise is added. Empty when nothing is allowed. */
function filtered(
  logits: ArrayLike<number>,
  past: ArrayLike<number>,
  sampling: Sampling,
  allowed: Uint32Array | undefined,
): Candidates {
  let left = candidates(logits, past, sampling, allowed);
  if (left.ids.length === 0) return left;
  const best = highest(left.scores);
  if (sampling.temperature === 0) {
    const first = left.scores.indexOf(best);
    return { ids: left.ids.slice(first, first + 1), scores: left.scores.slice(first, first + 1) };
  }
  const { topK, topP, minP } = sampling;
  if (topK > 0 && topK < left.ids.length) {
    const cut = threshold(left.scores, () => 1, topK);
    left = keep(left, (score) => score >= cut);
  }
  if (topP < 1) {
    const weight = (score: number): number => relative(score, best);
    let total = 0;
    for (let index = 0; index < left.scores.length; index++) total += weight(left.scores[index]!);
    const cut = threshold(left.scores, weight, topP * total);
    left = keep(left, (score) => score >= cut);
  }
  if (minP > 0) left = keep(left, (score) => relative(score, best) >= minP);
  return left;
}

/** Sampling options, each at `defaultSampling` where it is not given. */
export type SamplingOptions = { readonly [name in keyof Sampling]?: Sampling[name] | undefined };

/** Complete and validated. Errors: "invalid-argument". */
export function completeSampling(options: SamplingOptions): Sampling {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const sampling = { ...defaultSampling, ...given };
  validateSampling(sampling);
  return sampling;
}

/** The set a draw is made from, ids ascending, with the probability of each: those of the filtered set sum to 1. Temperature 0
 *  gives the single most likely id. Empty when nothing is allowed.
 *  `logits` (vocab) follow the ids of the sequence so far, `ids`. Errors: "numerical", "invalid-argument". */
export function keptSet(
  logits: ArrayLike<number>,
  ids: ArrayLike<number>,
  options: SamplingOptions & { readonly allowed?: Uint32Array | undefined } = {},
): { ids: Int32Array<ArrayBuffer>; probabilities: Float64Array<ArrayBuffer> } {
  const { allowed, ...given } = options;
  const kept = filtered(logits, ids, completeSampling(given), allowed);
  const best = highest(kept.scores);
  const weights = kept.scores.map((score) => relative(score, best));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return { ids: kept.ids.slice(), probabilities: weights.map((weight) => weight / total) };
}

/** The id drawn from logits (vocab) for `position`, the number of ids before it; -1 when nothing is allowed.
 *  `ids`, the sequence so far, is read for the repetition penalty only. Errors: "numerical", "invalid-argument". */
export function draw(
  logits: ArrayLike<number>,
  ids: ArrayLike<number>,
  position: number,
  sampling: SamplingOptions,
  allowed?: Uint32Array,
): number {
  const options = completeSampling(sampling);
  const kept = filtered(logits, ids, options, allowed);
  if (kept.ids.length <= 1) return kept.ids[0] ?? -1;
  let bestId = -1;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < kept.ids.length; index++) {
    const score = kept.scores[index]! + noise(kept.ids[index]!, position, options.seed);
    if (score > bestScore) {
      bestScore = score;
      bestId = kept.ids[index]!;
    }
  }
  return bestId;
}

/** ln Σ exp(logit), to subtract from a logit for its ln p: before penalty, temperature and filters. Errors: "numerical". */
export function logSumExp(logits: ArrayLike<number>): number {
  checkLogits(logits);
  let best = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) best = Math.max(best, logits[id]!);
  if (best === Number.POSITIVE_INFINITY) {
    throw new DogeError("numerical", "A logit is infinite: the probabilities that follow from it are not defined.");
  }
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += relative(logits[id]!, best);
  return best + Math.log(sum);
}

/** ln p of every id (vocab): the log-softmax of logits (vocab). Errors: "numerical". */
export function logProbabilities(logits: ArrayLike<number>): Floats {
  const normalizer = logSumExp(logits);
  return Float32Array.from(logits, (logit) => logit - normalizer);
}

/** The `count` most likely ids, most likely first, the lower id first among equals. `count` is small: no sort. */
export function mostLikely(logits: ArrayLike<number>, count: number): Int32Array<ArrayBuffer> {
  const best: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    if (best.length === count && !(logits[id]! > logits[best[count - 1]!]!)) continue;
    let place = best.length;
    while (place > 0 && logits[id]! > logits[best[place - 1]!]!) place--;
    best.splice(place, 0, id);
    if (best.length > count) best.pop();
  }
  return Int32Array.from(best);
}
