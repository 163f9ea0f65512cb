// Comparisons of numbers: standard deviations, bits, log-softmax, KL, chi-square and the margin rule. All in f64.
import { assert, CheckFailure } from "./assert.ts";

type Numbers = ArrayLike<number>;

function standardDeviation(values: Numbers): number {
  let sum = 0;
  let squares = 0;
  for (let index = 0; index < values.length; index++) {
    sum += values[index]!;
    squares += values[index]! ** 2;
  }
  const mean = sum / values.length;
  return Math.sqrt(Math.max(0, squares / values.length - mean * mean));
}

/** Largest absolute difference, and where. NaN anywhere is an infinite difference. */
export function largestDifference(actual: Numbers, expected: Numbers): { difference: number; index: number } {
  let difference = 0;
  let at = 0;
  for (let index = 0; index < expected.length; index++) {
    const gap = Math.abs(actual[index]! - expected[index]!);
    if (!(gap <= difference)) {
      difference = Number.isNaN(gap) ? Number.POSITIVE_INFINITY : gap;
      at = index;
    }
  }
  return { difference, index: at };
}

/** Every number within `tolerance` times `scale` (default: the standard deviation of what is expected). */
export function close(actual: Numbers, expected: Numbers, tolerance: number, what: string, scale?: number): void {
  assert(actual.length === expected.length, `${what}: ${actual.length} numbers, expected ${expected.length}.`);
  const unit = scale ?? standardDeviation(expected);
  const { difference, index } = largestDifference(actual, expected);
  if (difference <= tolerance * unit) return;
  throw new CheckFailure(
    `${what}: number ${index} is ${actual[index]}, expected ${expected[index]}: ${(difference / unit).toExponential(2)} of the scale ${unit.toPrecision(4)}, allowed ${tolerance}.`,
  );
}

/** Every number the same 32 bits. */
export function bitEqual(actual: Float32Array, expected: Float32Array, what: string): void {
  assert(actual.length === expected.length, `${what}: ${actual.length} numbers, expected ${expected.length}.`);
  const left = new Uint32Array(Float32Array.from(actual).buffer);
  const right = new Uint32Array(Float32Array.from(expected).buffer);
  for (let index = 0; index < left.length; index++) {
    if (left[index] !== right[index]) {
      throw new CheckFailure(`${what}: number ${index} is ${actual[index]}, expected exactly ${expected[index]}.`);
    }
  }
}

/** ln softmax, in f64. */
export function logSoftmax(logits: Numbers): Float64Array {
  let top = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) top = Math.max(top, logits[id]!);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id]! - top);
  const shift = top + Math.log(sum);
  return Float64Array.from({ length: logits.length }, (_, id) => logits[id]! - shift);
}

/** Σ p (ln p - ln q) of two rows of logits, in nats. */
export function divergence(p: Numbers, q: Numbers): number {
  const lnP = logSoftmax(p);
  const lnQ = logSoftmax(q);
  let sum = 0;
  for (let id = 0; id < lnP.length; id++) {
    if (lnP[id]! > Number.NEGATIVE_INFINITY) sum += Math.exp(lnP[id]!) * (lnP[id]! - lnQ[id]!);
  }
  return sum;
}

/** The most likely id, the lowest on a tie. */
export function argmax(logits: Numbers): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}

/** The chi-square value that `degrees` degrees of freedom exceed with the probability of a standard normal exceeding `z`
 *  (Wilson and Hilferty 1931). */
export function chiSquareBound(degrees: number, z: number): number {
  const spread = 2 / (9 * degrees);
  return degrees * (1 - spread + z * Math.sqrt(spread)) ** 3;
}

/** Counts against probabilities; ids expected fewer than `least` times share a bin. Returns the statistic, its degrees. */
export function chiSquare(counts: Numbers, probabilities: Numbers, draws: number, least: number) {
  let statistic = 0;
  let bins = 0;
  let rareCount = 0;
  let rareExpected = 0;
  for (let id = 0; id < probabilities.length; id++) {
    const expected = probabilities[id]! * draws;
    if (expected >= least) {
      statistic += (counts[id]! - expected) ** 2 / expected;
      bins++;
    } else {
      rareCount += counts[id]!;
      rareExpected += expected;
    }
  }
  // A rare bin below the rule is left out, unless something impossible was drawn.
  if (rareExpected >= least) {
    statistic += (rareCount - rareExpected) ** 2 / rareExpected;
    bins++;
  } else if (rareExpected === 0 && rareCount > 0) statistic = Number.POSITIVE_INFINITY;
  return { statistic, degrees: Math.max(1, bins - 1) };
}

/** Greedy ids follow the golden ones up to a step whose golden margin is a tie within `tolerance`; there the texts may part. */
export function greedyAgrees(
  actual: Numbers,
  expected: Numbers,
  margins: Numbers,
  tolerance: number,
  what: string,
): void {
  assert(actual.length === expected.length, `${what}: ${actual.length} ids, expected ${expected.length}.`);
  for (let step = 0; step < expected.length; step++) {
    if (actual[step] === expected[step]) continue;
    if (margins[step]! <= tolerance) return;
    throw new CheckFailure(
      `${what}: step ${step} chose id ${actual[step]}, expected ${expected[step]}, whose margin of ${margins[step]} is no tie (${tolerance}).`,
    );
  }
}
