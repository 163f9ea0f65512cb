// A cut of draw over all scores: a threshold over their ordered bits, found four bits at a time in eight passes over the vocabulary. Any
// filter over any scores can be cut so; where a short list of the likely ids will do, draw-likely.ts is cheaper.
import type { Variant } from "../variant.ts";

/** Lanes that there is workgroup memory for: 4 KiB of sums. */
const HEAPED = 64;

/** fn cutOf, for teams of so many lanes. `each` makes a loop over the ids of a lane. */
export const cut = (variant: Variant, size: number, each: (body: string) => string): string => /* wgsl */ `${
  variant.serial
    ? ""
    : /* wgsl */ `
const HEAPED: u32 = ${HEAPED}u;
var<workgroup> heap: array<f32, HEAPED * 16u>;`
}
/** The ordered bits of the largest score, at or above the floor, for which the weights of those at least as large sum to the
 *  target or more. A weight is 1, or the relative probability (mass), whose target is a share of the sum. */
fn cutOf(mass: bool, wanted: f32, floor: u32, best: f32, lane: u32) -> u32 {
  var target_ = wanted;
  var prefix = 0u;
  var above = 0.0;
  for (var level = 0u; level < 8u; level++) {
    let shift = 28u - 4u * level;
    var buckets = array<f32, 16>();
    ${each(`let score = scoreOf(id, logit);
      let key = ordered(score);
      if (!isCandidate(score) || key < floor) { continue; }
      if (level > 0u && (key >> (shift + 4u)) != prefix) { continue; }
      buckets[(key >> shift) & 15u] += select(1.0, relative(score, best), mass);`)}
    ${
      variant.serial
        ? ""
        : /* wgsl */ `// As many lanes at a time as the heap has room for.
    for (var turn = 0u; turn < ${size / HEAPED}u; turn++) {
      workgroupBarrier();
      if (lane / HEAPED == turn) {
        for (var b = 0u; b < 16u; b++) {
          let at = lane % HEAPED * 16u + b;
          heap[at] = select(heap[at], 0.0, turn == 0u) + buckets[b];
        }
      }
    }
    workgroupBarrier();
    for (var half = HEAPED / 2u; half > 0u; half >>= 1u) {
      if (lane < half) {
        for (var b = 0u; b < 16u; b++) { heap[lane * 16u + b] += heap[(lane + half) * 16u + b]; }
      }
      workgroupBarrier();
    }
    for (var b = 0u; b < 16u; b++) { buckets[b] = heap[b]; }`
    }
    if (mass && level == 0u) {
      var total = 0.0;
      for (var b = 0u; b < 16u; b++) { total += buckets[b]; }
      target_ *= total;
    }
    var found = 0u;
    var before = above;
    for (var b = 15i; b >= 0i; b--) {
      if (buckets[b] == 0.0) { continue; }
      found = u32(b);
      before = above;
      above += buckets[b];
      if (above >= target_) { break; }
    }
    above = before;
    prefix = (prefix << 4u) | found;
  }
  return prefix;
}
`;
