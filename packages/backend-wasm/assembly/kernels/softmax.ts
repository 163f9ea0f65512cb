// softmax: of one page at a time, and pages added up.
//
// What a row (a query head of a token) has read, from one page or from those before, is its state: f32 (headDim, padded), the sum of
// values by their weights; then its tail, the highest score and the sum of the weights, in 64 bytes. (A number behind them is scratch.)
import {
  MODEL_BIAS_HEADS, MODEL_HEAD_DIM, MODEL_HEADS, MODEL_PAGE_BIASES, MODEL_PAGE_EVICTED, MODEL_PAGE_POSITIONS, PANEL,
} from "../../src/descriptor";
import { exp, madd, storeTwo, sum } from "../simd";
import { PAGE_ROW, PANEL_BYTES } from "./cache";

export const STATE_TAIL: usize = 64;
/** Lower than any score, and a number: what a row that sees nothing has as its highest. */
const LOWEST: f32 = -3.4028235e38;

/** Bytes of a head, padded to whole panels. */
// @ts-ignore: decorator
@inline
export function padded(headDim: i32): usize {
  return <usize>((headDim + PANEL - 1) & ~(PANEL - 1)) << 2;
}

/** Nothing read yet. */
export function clear(state: usize, rows: i32, width: usize): void {
  memory.fill(state, 0, <usize>rows * (width + STATE_TAIL));
  for (let row = 0; row < rows; row++) {
    state += width;
    store<f32>(state, LOWEST);
    state += STATE_TAIL;
  }
}

/** The scores (rows, 64) of a page from products to weights, e^(score - highest), 0 where a token does not see a slot; the highest
 *  of a row, and the sum of its weights, to its tail. */
export function weigh(
  tail: usize, tailStride: usize, scores: usize, panels: i32, model: usize, page: usize, slot: i32, head: i32, group: i32,
  position: i32, rows: i32, masked: bool,
): void {
  // What all lanes share is read from memory: that V8 joins to 256 bits, a splat it does not.
  store<f32>(tail, <f32>1 / sqrt<f32>(<f32>load<i32>(model, MODEL_HEAD_DIM)), 8);
  const scale = v128.load32_splat(tail, 8);
  const nothing = f32x4.splat(-Infinity);
  const shared = load<i32>(model, MODEL_HEADS) / load<i32>(model, MODEL_BIAS_HEADS); // query heads that share a bias head
  const biases = page + load<usize>(model, MODEL_PAGE_BIASES);
  const positions = page + load<usize>(model, MODEL_PAGE_POSITIONS) + <usize>head * PAGE_ROW;
  const evicted = page + load<usize>(model, MODEL_PAGE_EVICTED) + <usize>head * PAGE_ROW;
  const bytes = <usize>panels * PANEL_BYTES;
  for (let row = 0; row < rows; row++) {
    const bias = biases + <usize>((head * group + row % group) / shared) * PAGE_ROW;
    const own = position + row / group;
    const self = i32x4.splat(own);
    let highest = f32x4.splat(LOWEST);
    if (!masked && slot + panels * PANEL <= own + 1) {
      let other = highest;
      for (let at: usize = 0; at < bytes; at += 32) {
        const low = madd(v128.load(scores + at), scale, v128.load(bias + at));
        const high = madd(v128.load(scores + at, 16), scale, v128.load(bias + at, 16));
        storeTwo(scores + at, low, high);
        highest = f32x4.pmax(highest, low);
        other = f32x4.pmax(other, high);
      }
      highest = f32x4.pmax(highest, other);
    } else {
      for (let at: usize = 0; at < bytes; at += 16) {
        const value = madd(v128.load(scores + at), scale, v128.load(bias + at));
        const who = masked
          ? v128.load(positions + at)
          : i32x4.add(i32x4.splat(slot + (<i32>at >> 2)), i32x4(0, 1, 2, 3));
        let seen = i32x4.le_u(who, self);
        if (masked) seen = v128.and(seen, i32x4.gt_u(v128.load(evicted + at), self));
        const score = v128.bitselect(value, nothing, seen);
        highest = f32x4.pmax(highest, score);
        v128.store(scores + at, score);
      }
    }
    highest = f32x4.pmax(highest, v128.shuffle<i32>(highest, highest, 2, 3, 0, 1));
    highest = f32x4.pmax(highest, v128.shuffle<i32>(highest, highest, 1, 0, 3, 2));
    store<f32>(tail, f32x4.extract_lane(highest, 0));
    highest = v128.load32_splat(tail);
    let even = f32x4.splat(0);
    let odd = f32x4.splat(0);
    // Two vectors at once: they share the constants of exp, or become one of 256 bits.
    for (let at: usize = 0; at < bytes; at += 32) {
      const low = exp(f32x4.sub(v128.load(scores + at), highest));
      const high = exp(f32x4.sub(v128.load(scores + at, 16), highest));
      storeTwo(scores + at, low, high);
      even = f32x4.add(even, low);
      odd = f32x4.add(odd, high);
    }
    store<f32>(tail, sum(f32x4.add(even, odd)), 4);
    scores += PAGE_ROW;
    tail += tailStride;
  }
}

/** state += part, both brought to the higher of their highest scores. A part that saw nothing changes no bit: it comes in as
 *  1 · state + 0 · part. */
export function merge(state: usize, part: usize, rows: i32, width: usize): void {
  for (let row = 0; row < rows; row++) {
    const highest = f32x4.pmax(v128.load32_splat(state + width), v128.load32_splat(part + width));
    const a = exp(f32x4.sub(v128.load32_splat(state + width), highest));
    const b = exp(f32x4.sub(v128.load32_splat(part + width), highest));
    for (let at: usize = 0; at < width; at += 32) {
      const low = madd(a, v128.load(state + at), f32x4.mul(b, v128.load(part + at)));
      const high = madd(a, v128.load(state + at, 16), f32x4.mul(b, v128.load(part + at, 16)));
      storeTwo(state + at, low, high);
    }
    const total = madd(a, v128.load32_splat(state + width, 4), f32x4.mul(b, v128.load32_splat(part + width, 4)));
    store<f32>(state + width, f32x4.extract_lane(highest, 0));
    store<f32>(state + width, f32x4.extract_lane(total, 0), 4);
    state += width + STATE_TAIL;
    part += width + STATE_TAIL;
  }
}

/** out (headDim) = the sum of values ÷ the sum of weights. */
export function finish(out: usize, state: usize, headDim: i32): void {
  const inverse = <f32>1 / load<f32>(state + padded(headDim), 4);
  const end = out + (<usize>headDim << 2);
  for (; out + 16 <= end; out += 16) {
    v128.store(out, f32x4.mul(v128.load(state), f32x4.splat(inverse)));
    state += 16;
  }
  for (; out < end; out += 4) {
    store<f32>(out, load<f32>(state) * inverse);
    state += 4;
  }
}
