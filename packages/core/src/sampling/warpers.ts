// Filters of a draw that a device does not have: top-h, typical, epsilon and eta, as transformers' processors define them.
import { type Candidates, highest, keep, relative } from "./candidates.ts";
import type { Processing } from "./processing.ts";

/** Probability of each candidate, and the entropy of them all in nats. */
function distribution({ scores }: Candidates): { probabilities: Float64Array; entropy: number } {
  const best = highest(scores);
  const weights = scores.map((score) => relative(score, best));
  let total = 0;
  for (let index = 0; index < weights.length; index++) total += weights[index]!;
  let entropy = 0;
  for (let index = 0; index < weights.length; index++) {
    const probability = weights[index]! / total;
    weights[index] = probability;
    if (probability > 0) entropy -= probability * Math.log(probability);
  }
  return { probabilities: weights, entropy };
}

/** Ascending places of `keys`, the first place first among equals. */
const order = (keys: Float64Array): Int32Array =>
  Int32Array.from(keys.keys()).sort((a, b) => keys[a]! - keys[b]! || a - b);

function pick({ ids, scores }: Candidates, places: Int32Array): Candidates {
  const ascending = places.slice().sort();
  return {
    ids: Int32Array.from(ascending, (place) => ids[place]!),
    scores: Float64Array.from(ascending, (place) => scores[place]!),
  };
}

/** Of the 100 most likely, most likely first, those before the sum of -p ln p exceeds `share` of their entropy; at least one. */
function topH(candidates: Candidates, share: number): Candidates {
  const places = order(candidates.scores.map((score) => -score)).subarray(0, 100);
  const top: Candidates = {
    ids: Int32Array.from(places, (place) => candidates.ids[place]!),
    scores: Float64Array.from(places, (place) => candidates.scores[place]!),
  };
  const { probabilities, entropy } = distribution(top);
  let count = 0;
  for (let sum = 0; count < places.length; count++) {
    const probability = probabilities[count]!;
    if (probability > 0) sum -= probability * Math.log(probability);
    // At 1 the last sum is the whole entropy, and rounding would decide. What cannot be drawn at all ends it as well.
    if (count > 0 && (probability === 0 || (share < 1 && sum > share * entropy))) break;
  }
  return pick(candidates, places.subarray(0, count));
}

/** Those whose information -ln p lies nearest to the entropy, until they make up `mass`; equals at the cut stay together. */
function typical(candidates: Candidates, mass: number): Candidates {
  const { probabilities, entropy } = distribution(candidates);
  const keys = probabilities.map((probability) => Math.abs(-Math.log(probability) - entropy));
  const places = order(keys);
  let at = 0;
  for (let sum = probabilities[places[0]!]!; sum < mass && at < places.length - 1; sum += probabilities[places[at]!]!) {
    at++;
  }
  const cut = keys[places[at]!]!;
  return pick(
    candidates,
    places.filter((place) => keys[place]! <= cut),
  );
}

/** Drop what is less likely than `cutoff`, but never the most likely and its equals. */
function cutBelow(candidates: Candidates, probabilities: Float64Array, cutoff: number): Candidates {
  const best = highest(candidates.scores);
  let index = 0;
  return keep(candidates, (score) => !(probabilities[index++]! < cutoff && score < best));
}

/** What comes between temperature and topK. */
export function warpBefore(candidates: Candidates, options: Processing): Candidates {
  return options.topH === undefined ? candidates : topH(candidates, options.topH);
}

/** What comes behind minP. */
export function warpAfter(candidates: Candidates, options: Processing): Candidates {
  const { typicalP = 1, epsilonCutoff = 0, etaCutoff = 0 } = options;
  let left = candidates;
  if (typicalP < 1) left = typical(left, typicalP);
  if (epsilonCutoff > 0 && epsilonCutoff < 1) left = cutBelow(left, distribution(left).probabilities, epsilonCutoff);
  if (etaCutoff > 0 && etaCutoff < 1) {
    const { probabilities, entropy } = distribution(left);
    left = cutBelow(left, probabilities, Math.min(etaCutoff, Math.sqrt(etaCutoff) * Math.exp(-entropy)));
  }
  return left;
}
