// attention: keeps the new keys under the dynamic mask, then scores, softmax and the weighted sum of values.
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import type { KeptKeys } from "../state.ts";

/** ln(1 + e^z), with torch's linear branch above 20. */
export const softplus = (z: number): number => (z > 20 ? z : Math.log1p(Math.exp(z)));

/**
 * Row by row: keep the row's own key, which may evict another under a window or be the one left out, then attend to what
 * is kept. So row i sees the greatest W of the keys j <= i in (bias, position) order, by the definition itself.
 *
 *   bias[i, c]     = exp(A[c] · softplus(delta[i, c]))
 *   score[h, i, j] = query[i, h] · key[j, g] / sqrt(headDim) + bias[j, c]
 *   out[i, h]      = Σ_j softmax_j(score[h, i, j]) · value[j, g]
 *
 * with g the key/value head and c the bias head of query head h.
 *
 * @param out (rows, heads, headDim)
 * @param bias (rows, biasHeads), written. It is f32 before any key is compared by it: where |A · softplus| is tiny it rounds
 *   to 1, and such keys must tie on every backend.
 * @param query (rows, heads, headDim), rotated
 * @param key (rows, kvHeads, headDim), rotated
 * @param value (rows, kvHeads, headDim)
 * @param delta (rows, biasHeads), dt_proj of the values
 * @param A (biasHeads)
 * @param kept the keys kept so far, one collection per key/value head
 * @param position the position of row 0
 */
export function attention(
  out: Float32Array,
  bias: Float32Array,
  query: Float32Array,
  key: Float32Array,
  value: Float32Array,
  delta: Float32Array,
  A: Float32Array,
  kept: readonly KeptKeys[],
  position: number,
  rows: number,
  heads: number,
  kvHeads: number,
  biasHeads: number,
  headDim: number,
): void {
  const group = heads / kvHeads; // query heads that share a key/value head
  const biases = biasHeads / kvHeads; // biases of one key: 1 (native), or one for each query head of the group (legacy)
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < biasHeads; head++) {
      const index = row * biasHeads + head;
      bias[index] = Math.exp(A[head]! * softplus(delta[index]!));
    }
    for (let head = 0; head < kvHeads; head++) {
      const at = (row * kvHeads + head) * headDim;
      const from = row * biasHeads + head * biases;
      kept[head]!.insert(
        position + row,
        key.subarray(at, at + headDim),
        value.subarray(at, at + headDim),
        bias.subarray(from, from + biases),
      );
    }
    for (let head = 0; head < heads; head++) {
      const at = (row * heads + head) * headDim;
      const which = biases === 1 ? 0 : head % group;
      attend(
        out.subarray(at, at + headDim),
        query.subarray(at, at + headDim),
        kept[Math.floor(head / group)]!,
        which,
        headDim,
      );
    }
  }
}

/** One query head over its kept keys, which stand in the order of their positions: the sums have one order. */
export function attend(out: Float32Array, query: Float32Array, kept: KeptKeys, which: number, headDim: number): void {
  const scale = 1 / Math.sqrt(headDim);
  const slots: number[] = [];
  const scores: number[] = [];
  let highest = Number.NEGATIVE_INFINITY;
  for (let slot = 0; slot < kept.slots; slot++) {
    if (!kept.isKept(slot)) continue;
    let dot = 0;
    for (let index = 0; index < headDim; index++) dot += query[index]! * kept.keys[slot * headDim + index]!;
    const score = dot * scale + kept.biases[slot * kept.biasWidth + which]!;
    slots.push(slot);
    scores.push(score);
    if (score > highest) highest = score;
  }

  const sum = new Float64Array(headDim);
  let total = 0;
  for (let rank = 0; rank < slots.length; rank++) {
    const weight = Math.exp(scores[rank]! - highest);
    const from = slots[rank]! * headDim;
    total += weight;
    for (let index = 0; index < headDim; index++) sum[index]! += weight * kept.values[from + index]!;
  }
  for (let index = 0; index < headDim; index++) out[index] = sum[index]! / total;
}
