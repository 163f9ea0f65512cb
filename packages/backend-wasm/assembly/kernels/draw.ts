// draw: from logits to the next id, exactly as core's sampling.ts defines it (docs/contract.md, S3). Nothing is sorted: each
// filter is a threshold, found over the ordered bit patterns of the scores.
import {
  MODEL_DRAW, MODEL_HISTOGRAM, MODEL_VOCABULARY, ROW_ALLOWED, ROW_MIN_P, ROW_PENALTY, ROW_POSITION,
  ROW_SEED, ROW_SEEN, ROW_TEMPERATURE, ROW_TOP_K, ROW_TOP_P,
} from "../../src/descriptor";
import { exp } from "../simd";

/** No token may be drawn. */
export const NOTHING = -1;
/** The logits are no numbers. */
export const NUMERICAL = -2;

const BUCKETS = 2048;
/** No noise is greater: -ln of the least -ln(1 - v), v = 2^-33. */
const HIGHEST_NOISE: f64 = 22.9;

/** Whether logits (count) have no NaN and something finite. */
export function sound(logits: usize, count: i32): bool {
  const infinity = f32x4.splat(Infinity);
  let numbers = i32x4.splat(-1);
  let finite = i32x4.splat(0);
  let id = 0;
  for (; id + 4 <= count; id += 4) {
    const v = v128.load(logits + (<usize>id << 2));
    numbers = v128.and(numbers, f32x4.eq(v, v));
    finite = v128.or(finite, f32x4.lt(f32x4.abs(v), infinity));
  }
  let found = v128.any_true(finite);
  for (; id < count; id++) {
    const logit = load<f32>(logits + (<usize>id << 2));
    if (isNaN<f32>(logit)) return false;
    if (isFinite<f32>(logit)) found = true;
  }
  return found && i32x4.all_true(numbers);
}

/** ln Σ exp(logit), to subtract from a logit for its ln p; NaN unless every logit is below infinity and one is finite.
 *  Powers are f32, their sum is f64. */
export function logSumExp(logits: usize, count: i32): f64 {
  if (!sound(logits, count)) return NaN;
  const top = largest(logits, count);
  if (top == <f32>Infinity) return NaN;
  const best = f32x4.splat(top);
  let first = f64x2.splat(0);
  let second = first;
  let id = 0;
  for (; id + 4 <= count; id += 4) {
    const power = exp(f32x4.sub(v128.load(logits + (<usize>id << 2)), best));
    first = f64x2.add(first, f64x2.promote_low_f32x4(power));
    second = f64x2.add(second, f64x2.promote_low_f32x4(v128.shuffle<i64>(power, power, 1, 1)));
  }
  first = f64x2.add(first, second);
  let total = f64x2.extract_lane(first, 0) + f64x2.extract_lane(first, 1);
  for (; id < count; id++) total += Math.exp(<f64>load<f32>(logits + (<usize>id << 2)) - <f64>top);
  return <f64>top + Math.log(total);
}

/** The largest of scores (count), which have no NaN. */
function largest(scores: usize, count: i32): f32 {
  let found = <f32>-Infinity;
  let place = 0;
  if (count >= 4) {
    let most = v128.load(scores);
    for (place = 4; place + 4 <= count; place += 4) most = f32x4.pmax(most, v128.load(scores + (<usize>place << 2)));
    most = f32x4.pmax(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
    most = f32x4.pmax(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
    found = f32x4.extract_lane(most, 0);
  }
  for (; place < count; place++) found = max(found, load<f32>(scores + (<usize>place << 2)));
  return found;
}

/** The `count` most likely ids and their ln p, most likely first, the lower id first among equals. */
export function mostLikely(ids: usize, logprobs: usize, logits: usize, vocabulary: i32, count: i32, normalizer: f64): void {
  let found = 0;
  for (let id = 0; id < vocabulary; id++) {
    const logit = load<f32>(logits + (<usize>id << 2));
    if (found == count && !(logit > load<f32>(logprobs + (<usize>(count - 1) << 2)))) continue;
    let place = found < count ? found++ : count - 1;
    for (; place > 0 && logit > load<f32>(logprobs + (<usize>(place - 1) << 2)); place--) {
      store<f32>(logprobs + (<usize>place << 2), load<f32>(logprobs + (<usize>(place - 1) << 2)));
      store<i32>(ids + (<usize>place << 2), load<i32>(ids + (<usize>(place - 1) << 2)));
    }
    store<f32>(logprobs + (<usize>place << 2), logit);
    store<i32>(ids + (<usize>place << 2), id);
  }
  for (let place = 0; place < found; place++) {
    const at = logprobs + (<usize>place << 2);
    store<f32>(at, <f32>(<f64>load<f32>(at) - normalizer));
  }
}

// @ts-ignore: decorator
@inline
function bit(mask: usize, id: i32): bool {
  return ((load<u32>(mask + (<usize>(id >> 5) << 2)) >> (id & 31)) & 1) != 0;
}

/** The id drawn from logits (vocabulary) for a row's next position, or NOTHING, or NUMERICAL. */
export function draw(logits: usize, model: usize, row: usize): i32 {
  const vocabulary = load<i32>(model, MODEL_VOCABULARY);
  if (!sound(logits, vocabulary)) return NUMERICAL;
  const greedy = load<f64>(row, ROW_TEMPERATURE) == 0;
  if (greedy && !load<usize>(row, ROW_ALLOWED) && !load<usize>(row, ROW_SEEN)) return highest(logits, vocabulary);
  // The candidates: ids, ascending, and their scores. Every filter closes them up to those that it keeps.
  const ids = load<usize>(model, MODEL_DRAW);
  const scores = ids + (<usize>vocabulary << 2);
  let count = candidates(ids, scores, logits, row, vocabulary);
  if (count == 0) return NOTHING;
  const first = highest(scores, count);
  const temperature = load<f64>(row, ROW_TEMPERATURE);
  if (greedy) return load<i32>(ids + (<usize>first << 2));

  const best = <f64>load<f32>(scores + (<usize>first << 2));
  const histogram = load<usize>(model, MODEL_HISTOGRAM);
  const topK = load<i32>(row, ROW_TOP_K);
  const topP = load<f64>(row, ROW_TOP_P);
  const minP = load<f64>(row, ROW_MIN_P);
  if (topK > 0 && topK < count) count = keepLargest(ids, scores, count, <f64>topK, false, best, temperature, histogram);
  if (topP < 1) count = keepLargest(ids, scores, count, topP, true, best, temperature, histogram);
  if (minP > 0) count = keepLikely(ids, scores, count, minP, best, temperature);
  return perturbed(ids, scores, count, temperature, load<i32>(row, ROW_POSITION), load<i32>(row, ROW_SEED));
}

/** Those that may be drawn, with their logits after the repetition penalty; a logit of -Infinity cannot be drawn. */
function candidates(ids: usize, scores: usize, logits: usize, row: usize, vocabulary: i32): i32 {
  const allowed = load<usize>(row, ROW_ALLOWED);
  const seen = load<usize>(row, ROW_SEEN);
  const penalty = load<f64>(row, ROW_PENALTY);
  let count: usize = 0;
  for (let id = 0; id < vocabulary; id++) {
    if (allowed && !bit(allowed, id)) continue;
    let score = load<f32>(logits + (<usize>id << 2));
    if (seen && bit(seen, id)) score = <f32>(score < 0 ? <f64>score * penalty : <f64>score / penalty);
    if (score == <f32>-Infinity) continue;
    store<i32>(ids + (count << 2), id);
    store<f32>(scores + (count << 2), score);
    count++;
  }
  return <i32>count;
}

/** The place of the highest score, the first among equals. */
function highest(scores: usize, count: i32): i32 {
  const most = largest(scores, count);
  const all = f32x4.splat(most);
  let place = 0;
  while (place + 4 <= count && !v128.any_true(f32x4.eq(v128.load(scores + (<usize>place << 2)), all))) place += 4;
  while (load<f32>(scores + (<usize>place << 2)) != most) place++;
  return place;
}

/** e^((score - best) / temperature): exactly 1 for the best, also where that is infinite. */
// @ts-ignore: decorator
@inline
function relative(score: f64, best: f64, temperature: f64): f64 {
  return score == best ? 1 : Math.exp(score / temperature - best / temperature);
}

/** Bits that order as the numbers do. */
// @ts-ignore: decorator
@inline
function ordered(score: f32): u32 {
  // -0 and 0 are one number.
  const bits = reinterpret<u32>(score == 0 ? <f32>0 : score);
  return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/**
 * Keep the scores at or above a cut: the largest for which the weights of those at least as large sum to the target or more;
 * the smallest score when rounding keeps the sum below. topK: a weight is 1 and the target the number to keep. topP (`mass`):
 * a weight is the relative probability, and the target that share of their sum.
 *
 * Three histograms of 11, 11 and 10 bits, each over the bucket that the one before has found; sums run in the order of ids.
 * After the first one only what lies in or above its bucket is left to look at.
 */
function keepLargest(
  ids: usize, scores: usize, count: i32, target: f64, mass: bool, best: f64, temperature: f64, histogram: usize,
): i32 {
  const counts = histogram;
  const masses = histogram + BUCKETS * 4;
  let prefix: u32 = 0;
  let above: f64 = 0; // weight of what is larger than the bucket
  for (let level = 0; level < 3; level++) {
    const shift = level == 0 ? 21 : level == 1 ? 10 : 0;
    const known = level == 1 ? 21 : 10; // bits above are the prefix's
    const buckets = level == 2 ? 1024 : BUCKETS;
    memory.fill(counts, 0, BUCKETS * 12);
    for (let place = 0; place < count; place++) {
      const score = load<f32>(scores + (<usize>place << 2));
      const key = ordered(score);
      if (level > 0 && key >> known != prefix) continue;
      const bucket = <usize>((key >> shift) & (buckets - 1));
      store<i32>(counts + (bucket << 2), load<i32>(counts + (bucket << 2)) + 1);
      const weight: f64 = mass ? relative(<f64>score, best, temperature) : 1;
      store<f64>(masses + (bucket << 3), load<f64>(masses + (bucket << 3)) + weight);
    }
    if (mass && level == 0) {
      let total: f64 = 0;
      for (let bucket = buckets - 1; bucket >= 0; bucket--) total += load<f64>(masses + (<usize>bucket << 3));
      target *= total;
    }
    let found = 0;
    let before = above;
    for (let bucket = buckets - 1; bucket >= 0; bucket--) {
      if (!load<i32>(counts + (<usize>bucket << 2))) continue;
      found = bucket;
      before = above;
      above += load<f64>(masses + (<usize>bucket << 3));
      if (above >= target) break;
    }
    above = before;
    prefix = (prefix << (level == 2 ? 10 : 11)) | <u32>found;
    if (level != 1) count = keepFrom(ids, scores, count, prefix << shift);
  }
  return count;
}

/** Keep scores whose ordered bits are at least `cut`. */
function keepFrom(ids: usize, scores: usize, count: i32, cut: u32): i32 {
  let kept: usize = 0;
  for (let place = 0; place < count; place++) {
    const score = load<f32>(scores + (<usize>place << 2));
    if (ordered(score) < cut) continue;
    store<f32>(scores + (kept << 2), score);
    store<i32>(ids + (kept << 2), load<i32>(ids + (<usize>place << 2)));
    kept++;
  }
  return <i32>kept;
}

/** Keep those at least `minP` times as likely as the best. */
function keepLikely(ids: usize, scores: usize, count: i32, minP: f64, best: f64, temperature: f64): i32 {
  let kept: usize = 0;
  for (let place = 0; place < count; place++) {
    const score = load<f32>(scores + (<usize>place << 2));
    if (relative(<f64>score, best, temperature) < minP) continue;
    store<f32>(scores + (kept << 2), score);
    store<i32>(ids + (kept << 2), load<i32>(ids + (<usize>place << 2)));
    kept++;
  }
  return <i32>kept;
}

/** The id of the highest of score / temperature + noise, the lowest among equals.
 *
 *  Noise is a logarithm of a logarithm, so it is computed only where it can win: noise > need means E < e^-need, and E >= v;
 *  e^-need is bounded from above by the line between neighbouring powers of two. */
function perturbed(ids: usize, scores: usize, count: i32, temperature: f64, position: i32, seed: i32): i32 {
  // The most likely one first: the higher the best so far, the fewer can still win.
  const first = highest(scores, count);
  let bestId = load<i32>(ids + (<usize>first << 2));
  let best = <f64>load<f32>(scores + (<usize>first << 2)) / temperature + gumbel(pcg3d(bestId, position, seed));
  for (let place = 0; place < count; place++) {
    const scaled = <f64>load<f32>(scores + (<usize>place << 2)) / temperature;
    const need = best - scaled;
    if (need > HIGHEST_NOISE) continue;
    const id = load<i32>(ids + (<usize>place << 2));
    const hash = pcg3d(id, position, seed);
    if (need > 0) {
      const power = <f32>(need * -1.4426950408889634);
      const bound = reinterpret<f32>(<i32>((power + 127) * 8388608));
      if (<f64>hash > <f64>bound * 4299262263 + 1) continue; // 2^32, and a thousandth for the rounding of this line
    }
    const value = scaled + gumbel(hash);
    if (value > best || (value == best && id < bestId)) {
      best = value;
      bestId = id;
    }
  }
  return bestId;
}

/** First word of pcg3d. Source: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020. */
function pcg3d(id: u32, position: u32, seed: u32): u32 {
  let x = id * 1664525 + 1013904223;
  let y = position * 1664525 + 1013904223;
  let z = seed * 1664525 + 1013904223;
  x += y * z;
  y += z * x;
  z += x * y;
  x ^= x >> 16;
  y ^= y >> 16;
  z ^= z >> 16;
  return x + y * z;
}

/** g = -ln E, E = -ln(1 - v), v = (hash + 1/2) / 2^32: the series is the definition where 1 - v would cancel. */
function gumbel(hash: u32): f64 {
  const v = (<f64>hash + 0.5) / 4294967296;
  const exponential =
    v < 0.0625
      ? v * (1 + v * (1.0 / 2 + v * (1.0 / 3 + v * (1.0 / 4 + v / 5))))
      : -Math.log((<f64>~hash + 0.5) / 4294967296);
  return -Math.log(exponential);
}
