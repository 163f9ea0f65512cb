// Which rows a mixture of experts was trained with: the two forms have equal tensors and only the weights tell them apart.
//
// From 14 March to 13 April 2025 the authors' code took an expert's *position* in the grid of both halves sorted, a * K + b for
// ranks a and b, for its id. Only pairs with (a + 1)(b + 1) <= k can be among the k best, so only those rows of down_embed and
// up_embed were ever trained; all others are as they were initialised, N(0, 0.02), shrunk alike by weight decay. Hence:
//
//   separation  the chance that a reachable row has a larger norm than an unreachable one (the Mann-Whitney statistic over
//               n1 * n2 pairs), meant over layers and both tensors: 1 when the norms separate, 1/2 when the set means nothing.
//   deviation   how many standard deviations of pure chance, sqrt((n1 + n2 + 1) / (12 n1 n2 samples)), it lies above 1/2.
//   scatter     the spread of the unreachable norms over their mean, times sqrt(2 d): 1 for untouched normal rows of d values
//               (the norm of d normals spreads by 1 / sqrt(2 d)), more for rows that were trained unequally. The median over
//               layers and tensors.
//
// Trained checkpoints of the current form have unequal rows too, but the set means nothing to them: their separation stays near
// 1/2, and their scatter is large.

import type { Checkpoint } from "../checkpoint.ts";
import type { Experts } from "../config.ts";
import { floats, tensorInfo } from "./weights.ts";

/** "grid" needs all three. 4 deviations: one random checkpoint in 30,000, and the separation asks for more on top. */
const GRID = { separation: 0.8, deviation: 4, scatter: 2 } as const;
/** From here on the current form is doubted, and a warning says so. */
const DOUBT = { separation: 0.7, deviation: 3 } as const;

export interface ExpertsForm {
  readonly indexing: Experts["indexing"];
  /** A sentence when the weights do not say clearly which form it is; "expert" is assumed then. */
  readonly warning: string | null;
  /** The statistics above; NaN when there was nothing to compare. */
  readonly separation: number;
  readonly deviation: number;
  readonly scatter: number;
}

/** Rows a * side + b that the index-bug form can ever select. */
export function reachableRows(side: number, perToken: number): Uint8Array {
  const reachable = new Uint8Array(side * side);
  for (let a = 0; a < side; a++) {
    for (let b = 0; b < side && (a + 1) * (b + 1) <= perToken; b++) reachable[a * side + b] = 1;
  }
  return reachable;
}

/** Decide from the row norms of all down_embed and up_embed, read piece by piece.
 *  @throws DogeError "invalid-weights" for NaN or infinite rows, and what the checkpoint's read() throws. */
export async function probeExpertsForm(
  checkpoint: Pick<Checkpoint, "tensors" | "read" | "config">,
  experts: Pick<Experts, "side" | "perToken">,
  signal?: AbortSignal,
): Promise<ExpertsForm> {
  const { side, perToken } = experts;
  const reachable = reachableRows(side, perToken);
  const inside = reachable.reduce((sum, flag) => sum + flag, 0);
  const outside = reachable.length - inside;
  const samples = 2 * checkpoint.config.layers;
  const spread = Math.sqrt((inside + outside + 1) / (12 * inside * outside * samples));
  if (outside === 0 || 0.5 / spread < GRID.deviation) {
    return {
      indexing: "expert",
      warning: `Whether this mixture of experts has the expert numbering of March 2025 cannot be told from its weights: with ${side * side} experts and ${perToken} per token ${
        outside === 0 ? "every expert is reachable in both forms" : "there are too few to compare"
      }. The current numbering is assumed.`,
      separation: Number.NaN,
      deviation: Number.NaN,
      scatter: Number.NaN,
    };
  }

  let sum = 0;
  const scatters: number[] = [];
  for (let layer = 0; layer < checkpoint.config.layers; layer++) {
    for (const tensor of ["down_embed", "up_embed"]) {
      const norms = await rowNorms(checkpoint, `model.layers.${layer}.mlp.${tensor}.weight`, reachable.length, signal);
      sum += chanceOfLarger(norms, reachable);
      scatters.push(relativeSpread(norms, reachable) * Math.sqrt(2 * checkpoint.config.hiddenSize));
    }
  }
  const separation = sum / samples;
  const deviation = (separation - 0.5) / spread;
  const scatter = scatters.sort((a, b) => a - b)[samples >> 1]!;
  const found = { separation, deviation, scatter };
  if (separation >= GRID.separation && deviation >= GRID.deviation && scatter <= GRID.scatter) {
    return { indexing: "grid", warning: null, ...found };
  }
  const doubtful = separation >= DOUBT.separation && deviation >= DOUBT.deviation;
  return {
    indexing: "expert",
    warning: doubtful
      ? `The weights of this mixture of experts do not say clearly whether it has the expert numbering of March 2025 (separation ${separation.toFixed(3)}, ${deviation.toFixed(1)} deviations, scatter ${scatter.toFixed(2)}); the current numbering is assumed. If its text makes no sense, that is the reason.`
      : null,
    ...found,
  };
}

/** The Euclidean norms of the first `rows` rows of a matrix. */
async function rowNorms(
  checkpoint: Pick<Checkpoint, "tensors" | "read" | "config">,
  name: string,
  rows: number,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const columns = tensorInfo(checkpoint, name).shape[1]!;
  const squares = new Float64Array(rows);
  for await (const { offset, data } of floats(checkpoint, name, signal)) {
    let row = Math.floor(offset / columns);
    let end = (row + 1) * columns - offset;
    for (let index = 0; index < data.length && row < rows; row++, end += columns) {
      const stop = Math.min(end, data.length);
      let square = 0;
      for (; index < stop; index++) square += data[index]! * data[index]!;
      squares[row]! += square;
    }
  }
  return squares.map(Math.sqrt);
}

/** The chance that a marked value is larger than an unmarked one, ties counting half: from the ranks, ties sharing theirs. */
function chanceOfLarger(values: Float64Array, marked: Uint8Array): number {
  const order = Array.from(values.keys()).sort((a, b) => values[a]! - values[b]!);
  let rankSum = 0;
  let count = 0;
  for (let from = 0; from < order.length; ) {
    let to = from + 1;
    while (to < order.length && values[order[to]!] === values[order[from]!]) to++;
    const rank = (from + 1 + to) / 2;
    for (; from < to; from++) {
      if (marked[order[from]!] === 0) continue;
      rankSum += rank;
      count++;
    }
  }
  return (rankSum - (count * (count + 1)) / 2) / (count * (values.length - count));
}

/** Standard deviation over mean of the unmarked values; 0 when they are all 0. */
function relativeSpread(values: Float64Array, marked: Uint8Array): number {
  const rest = values.filter((_, index) => marked[index] === 0);
  const mean = rest.reduce((sum, value) => sum + value, 0) / rest.length;
  if (mean === 0) return 0;
  const square = rest.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, rest.length - 1);
  return Math.sqrt(square) / mean;
}
