// How a token is drawn from logits: the definition (contract S3) that the draw of every device follows, in 64-bit arithmetic.
//
// Nothing is sorted: each filter is a threshold, and the set a draw is made from is what stands above the strictest of them.
import type { Floats, Sampling } from "../backend.ts";
import { DogeError } from "../errors.ts";
import { type Candidates, highest, keep, relative, threshold } from "./candidates.ts";
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

/** Throws "numerical" when a score is NaN. */
function checkScores(scores: Float64Array): void {
  const at = scores.findIndex(Number.isNaN);
  if (at < 0) return;
  throw new DogeError("numerical", `The score of id ${at} is NaN: a logits processor has made it so.`);
}

/** Scores (vocab) with the repetition penalty on every distinct id of the sequence so far, in place. */
export function penalise(scores: Float64Array, past: ArrayLike<number>, repetitionPenalty: number): void {
  if (repetitionPenalty === 1) return;
  for (const id of new Set(Array.from(past))) {
    if (id < 0 || id >= scores.length) continue;
    const score = scores[id]!;
    scores[id] = score < 0 ? score * repetitionPenalty : score / repetitionPenalty;
  }
}

/** The ids that may be drawn, with their scores (vocab) over the temperature. A score of -Infinity is a token that cannot be
 *  drawn, as if not allowed. */
function candidates(scores: Float64Array, temperature: number, allowed: Uint32Array | undefined): Candidates {
  const ids = new Int32Array(scores.length);
  const left = new Float64Array(scores.length);
  let count = 0;
  for (let id = 0; id < scores.length; id++) {
    if (allowed !== undefined && !isAllowed(allowed, id)) continue;
    const score = temperature === 0 ? scores[id]! : scores[id]! / temperature;
    if (score === Number.NEGATIVE_INFINITY) continue;
    ids[count] = id;
    left[count] = score;
    count++;
  }
  return { ids: ids.subarray(0, count), scores: left.subarray(0, count) };
}

/** Filters beyond those of a device, one behind the other, after the temperature. */
export interface Further {
  /** In place of the repetition penalty: all that happens to the scores (vocab) before the temperature. */
  process(scores: Float64Array, repetitionPenalty: number): void;
  /** Between the temperature and topK. */
  readonly before: (candidates: Candidates) => Candidates;
  /** Behind minP. */
  readonly after: (candidates: Candidates) => Candidates;
}

/** What a draw is made from, with the scores to which the noise is added. Empty when nothing is allowed. */
export function filtered(
  logits: ArrayLike<number>,
  past: ArrayLike<number>,
  sampling: Sampling,
  allowed: Uint32Array | undefined,
  further?: Further,
): Candidates {
  checkLogits(logits);
  const all = new Float64Array(logits);
  if (further === undefined) penalise(all, past, sampling.repetitionPenalty);
  else {
    further.process(all, sampling.repetitionPenalty);
    checkScores(all);
  }
  let left = candidates(all, sampling.temperature, allowed);
  if (left.ids.length === 0) return left;
  const best = highest(left.scores);
  if (sampling.temperature === 0) {
    const first = left.scores.indexOf(best);
    return { ids: left.ids.slice(first, first + 1), scores: left.scores.slice(first, first + 1) };
  }
  const { topK, topP, minP } = sampling;
  if (further !== undefined) left = further.before(left);
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
  return further === undefined ? left : further.after(left);
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

/** The id drawn from logits (vocab) for `position`, the number of ids before it; -1 when nothing is allowed.
 *  `ids`, the sequence so far, is read for the repetition penalty only. `further` filters are for the host. Errors: "numerical", "invalid-argument". */
export function draw(
  logits: ArrayLike<number>,
  ids: ArrayLike<number>,
  position: number,
  sampling: SamplingOptions,
  allowed?: Uint32Array,
  further?: Further,
): number {
  const options = completeSampling(sampling);
  const kept = filtered(logits, ids, options, allowed, further);
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
