// experts: the routed half of the Cross Domain Mixture of Experts: product-key choice among one-neuron experts.
//
// Source: He, Mixture of a Million Experts (product keys over single-neuron experts); transformers `DogeCDMoE`.
import { silu } from "./swiglu.ts";

/**
 * out[t] += Σ_e silu(down[e] · x[t]) · w_e · up[e] over the chosen experts e, w = softmax of their scores.
 *
 * The router's output is read as flat rows of `side` scores; the halves of token t are rows t · stride and
 * t · stride + split. (stride 2, split 1) is each token's own two halves; (stride 1, split R) is how the published models
 * were trained, with R tokens routed together (docs/model.md, "Routing").
 *
 * @param out (rows, hidden), the dense half, added to
 * @param x (rows, hidden), normed
 * @param router (R, 2 · side), of every token routed together
 * @param down (experts, hidden)
 * @param up (experts, hidden)
 * @param first which of the R tokens is row 0
 * @param sorted the ids are places in the grid of both halves sorted, not pairs of keys ("grid" indexing)
 */
export function experts(
  out: Float32Array,
  x: Float32Array,
  router: Float32Array,
  down: Float32Array,
  up: Float32Array,
  first: number,
  stride: number,
  split: number,
  rows: number,
  hidden: number,
  side: number,
  perToken: number,
  normalize: boolean,
  sorted: boolean,
): void {
  const sum = new Float64Array(hidden);
  for (let row = 0; row < rows; row++) {
    const place = (first + row) * stride;
    const halfX = router.slice(place * side, (place + 1) * side); // (side)
    const halfY = router.slice((place + split) * side, (place + split + 1) * side); // (side)
    if (sorted) {
      halfX.sort().reverse();
      halfY.sort().reverse();
    }
    const { ids, scores } = bestPairs(halfX, halfY, perToken);
    const weights = softmax(scores);
    if (normalize) {
      const total = weights.reduce((all, weight) => all + weight, 0);
      for (let rank = 0; rank < weights.length; rank++) weights[rank]! /= total;
    }

    sum.fill(0);
    for (let rank = 0; rank < ids.length; rank++) {
      const expert = ids[rank]! * hidden;
      let dot = 0;
      for (let index = 0; index < hidden; index++) dot += down[expert + index]! * x[row * hidden + index]!;
      const strength = silu(dot) * weights[rank]!;
      for (let index = 0; index < hidden; index++) sum[index]! += strength * up[expert + index]!;
    }
    for (let index = 0; index < hidden; index++) out[row * hidden + index]! += sum[index]!;
  }
}

/** The `count` best pairs (i, j) by halfX[i] + halfY[j], best first, as ids i · side + j. Scores are rounded to f32 before
 *  they are compared, and of equal ones the lowest id goes first (torch.topk leaves it open). All side² pairs are looked at;
 *  ranked from 1, only those with rank x · rank y <= count can win, which is what a fast kernel searches. */
export function bestPairs(
  halfX: Float32Array,
  halfY: Float32Array,
  count: number,
): { ids: Int32Array; scores: Float32Array } {
  const side = halfX.length;
  const ids = new Int32Array(count);
  const scores = new Float32Array(count).fill(Number.NEGATIVE_INFINITY);
  let found = 0;
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      const score = Math.fround(halfX[i]! + halfY[j]!);
      if (found === count && score <= scores[count - 1]!) continue;
      let rank = found < count ? found++ : count - 1;
      for (; rank > 0 && score > scores[rank - 1]!; rank--) {
        scores[rank] = scores[rank - 1]!;
        ids[rank] = ids[rank - 1]!;
      }
      scores[rank] = score;
      ids[rank] = i * side + j;
    }
  }
  return { ids, scores };
}

/** softmax of scores whose first is the greatest. */
function softmax(scores: Float32Array): Float64Array {
  const weights = Float64Array.from(scores, (score) => Math.exp(score - scores[0]!));
  const total = weights.reduce((all, weight) => all + weight, 0);
  return weights.map((weight) => weight / total);
}
