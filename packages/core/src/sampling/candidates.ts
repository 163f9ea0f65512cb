// What the filters of a draw work on: the ids that may still be drawn, with their scores, and the cuts through them. Nothing is
// sorted: a cut is found by quickselect.

/** Ids that may still be drawn, ascending, with a score each. */
export interface Candidates {
  readonly ids: Int32Array<ArrayBuffer>;
  readonly scores: Float64Array<ArrayBuffer>;
}

/** Those that pass. */
export function keep({ ids, scores }: Candidates, passes: (score: number) => boolean): Candidates {
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

export function highest(scores: Float64Array): number {
  let best = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < scores.length; index++) best = Math.max(best, scores[index]!);
  return best;
}

/** Relative to the most likely, which is exactly 1 (also where its score is +Infinity). */
export const relative = (score: number, best: number): number => (score === best ? 1 : Math.exp(score - best));

/** The largest of `scores` such that the weights of those at least as large sum to `target` or more; the smallest of them
 *  when rounding keeps the sum below. Quickselect with a three-way partition: expected linear time, no sort. With a weight of
 *  1 each it is the target-th largest. */
export function threshold(scores: Float64Array, weight: (score: number) => number, target: number): number {
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
