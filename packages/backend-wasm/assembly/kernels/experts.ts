// experts: the routed half of the Cross Domain Mixture of Experts: product-key choice among one-neuron experts.
//
// Source: He, Mixture of a Million Experts (product keys over single-neuron experts); transformers `DogeCDMoE`.
import {
  BLOCK, LAYER_EXPERTS_DOWN, LAYER_EXPERTS_UP, MODEL_CHOICE, MODEL_EXPERTS_DTYPE, MODEL_GRID, MODEL_HIDDEN,
  MODEL_NORMALIZE, MODEL_PER_TOKEN, MODEL_SIDE,
} from "../../src/descriptor";
import { madd, sum } from "../simd";
import { silu } from "./swiglu";
import { rowF32 } from "./table";

/**
 * Add the chosen experts of one token: out += Σ_e softmax(score)_e · silu(down_e · x) · up_e.
 *
 * The pair of keys (i, j) scores halfX[i] + halfY[j] and is expert i · side + j. The `perToken` best pairs are chosen, among
 * equals the lowest ids, and summed in the order of their ids.
 *
 * @param out f32 (hidden)
 * @param x f32 (hidden), the normed input
 * @param halfX f32 (side), scores of the first keys
 * @param halfY f32 (side), of the second
 */
export function experts(out: usize, x: usize, model: usize, layer: usize, halfX: usize, halfY: usize): void {
  const hidden = load<i32>(model, MODEL_HIDDEN);
  const side = load<i32>(model, MODEL_SIDE);
  const perToken = load<i32>(model, MODEL_PER_TOKEN);
  // Scratch: a row of a table, both halves sorted, ids, scores, then the best pair scores while the cut is sought.
  const dtype = load<i32>(model, MODEL_EXPERTS_DTYPE);
  const row = load<usize>(model, MODEL_CHOICE);
  const sortedX = row + (<usize>((hidden + BLOCK - 1) & ~(BLOCK - 1)) << 2);
  const sortedY = sortedX + (<usize>side << 2);
  const ids = sortedY + (<usize>side << 2);
  const scores = ids + (<usize>perToken << 2);
  const best = scores + (<usize>perToken << 2);
  sort(sortedX, halfX, side);
  sort(sortedY, halfY, side);
  if (load<i32>(model, MODEL_GRID)) {
    halfX = sortedX;
    halfY = sortedY;
  }
  const cut = lastChosen(best, sortedX, sortedY, side, perToken);
  const chosen = choose(ids, scores, best, halfX, halfY, load<f32>(sortedY), side, perToken, cut);
  weights(scores, chosen, load<i32>(model, MODEL_NORMALIZE) != 0);
  for (let rank = 0; rank < chosen; rank++) {
    const at = <usize>rank << 2;
    const id = load<i32>(ids + at);
    const product = dot(rowF32(row, load<usize>(layer, LAYER_EXPERTS_DOWN), dtype, hidden, id), x, hidden);
    const strength = f32x4.extract_lane(silu(f32x4.splat(product)), 0) * load<f32>(scores + at);
    add(out, rowF32(row, load<usize>(layer, LAYER_EXPERTS_UP), dtype, hidden, id), strength, hidden);
  }
}

/** out (count) = from (count), descending. */
function sort(out: usize, from: usize, count: i32): void {
  for (let index = 0; index < count; index++) insert(out, index, load<f32>(from + (<usize>index << 2)));
}

/** Put `value` into the descending `list` of `count`. */
// @ts-ignore: decorator
@inline
function insert(list: usize, count: i32, value: f32): void {
  let to = list + (<usize>count << 2);
  for (; to > list && load<f32>(to - 4) < value; to -= 4) store<f32>(to, load<f32>(to - 4));
  store<f32>(to, value);
}

/** The score of the last pair chosen. With ranks counted from 1, a pair of rank_x · rank_y > count has that many pairs at
 *  least as good before it, so the others hold the `count` best scores. */
function lastChosen(best: usize, sortedX: usize, sortedY: usize, side: i32, count: i32): f32 {
  let found = 0;
  for (let i = 0; i < side && i < count; i++) {
    const first = load<f32>(sortedX + (<usize>i << 2));
    const ranks = min(side, count / (i + 1));
    for (let j = 0; j < ranks; j++) {
      const score = first + load<f32>(sortedY + (<usize>j << 2));
      if (found < count) insert(best, found++, score);
      else if (score > load<f32>(best + (<usize>(count - 1) << 2))) insert(best, count - 1, score);
      else break; // descending in j
    }
  }
  return load<f32>(best + (<usize>(found - 1) << 2));
}

/** ids and scores (count), ascending in id: all pairs above the cut, and of those equal to it the lowest ids that still fit. */
function choose(
  ids: usize, scores: usize, best: usize, halfX: usize, halfY: usize, topY: f32, side: i32, count: i32, cut: f32,
): i32 {
  let equals = 0; // of the best, how many equal the cut
  for (let rank = count - 1; rank >= 0 && load<f32>(best + (<usize>rank << 2)) == cut; rank--) equals++;
  let found = 0;
  for (let i = 0; i < side && found < count; i++) {
    const first = load<f32>(halfX + (<usize>i << 2));
    if (first + topY < cut) continue;
    for (let j = 0; j < side && found < count; j++) {
      const score = first + load<f32>(halfY + (<usize>j << 2));
      if (score < cut) continue;
      if (score == cut && equals-- <= 0) continue;
      store<i32>(ids + (<usize>found << 2), i * side + j);
      store<f32>(scores + (<usize>found << 2), score);
      found++;
    }
  }
  return found;
}

/** scores (count) become their softmax, divided by its sum once more where the checkpoint wants that. */
function weights(scores: usize, count: i32, normalize: bool): void {
  let highest = <f32>-Infinity;
  for (let rank = 0; rank < count; rank++) highest = max(highest, load<f32>(scores + (<usize>rank << 2)));
  let total: f64 = 0;
  for (let rank = 0; rank < count; rank++) {
    const at = scores + (<usize>rank << 2);
    const weight = Math.exp(<f64>(load<f32>(at) - highest));
    total += weight;
    store<f32>(at, <f32>weight);
  }
  divide(scores, count, total);
  if (!normalize) return;
  total = 0;
  for (let rank = 0; rank < count; rank++) total += <f64>load<f32>(scores + (<usize>rank << 2));
  divide(scores, count, total);
}

function divide(scores: usize, count: i32, total: f64): void {
  for (let rank = 0; rank < count; rank++) {
    const at = scores + (<usize>rank << 2);
    store<f32>(at, <f32>(<f64>load<f32>(at) / total));
  }
}

/** row · x, both padded with zeros to 16 numbers. */
function dot(row: usize, x: usize, hidden: i32): f32 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (let left = hidden; left > 0; left -= 16) {
    s0 = madd(v128.load(row), v128.load(x), s0);
    s1 = madd(v128.load(row, 16), v128.load(x, 16), s1);
    s2 = madd(v128.load(row, 32), v128.load(x, 32), s2);
    s3 = madd(v128.load(row, 48), v128.load(x, 48), s3);
    row += 64;
    x += 64;
  }
  return sum(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
}

/** out += strength · row. */
function add(out: usize, row: usize, strength: f32, hidden: i32): void {
  const factor = f32x4.splat(strength);
  for (let left = hidden; left > 0; left -= 4) {
    v128.store(out, madd(factor, v128.load(row), v128.load(out)));
    out += 16;
    row += 16;
  }
}
