// cache-q8: keys and values in bytes, for the relaxed build. Of a key/value head of a page:
//
//   keys      four panels of 16 keys as matmul-q8.ts has them: 8 bits, a scale for each 32 channels, and a bound for each block
//   scales    f32 (64): one for each value
//   values    i8 (headDim / 16, 16, 16, 4): of 16 channels, four slots to a word
//
// The bound of a block only sinks: beneath a key that has gone it may be lower than it need be, which changes no result. A slot that holds
// nothing has zeros for scales, so it does not matter what its bytes count.
import { BLOCK, PAGE_SLOTS, PANEL } from "../../src/descriptor";
import { largestSquares, Q8_BLOCK_BYTES, Q8_LIMIT } from "./bytes";
import { PAGE_ROW, PANEL_BYTES } from "./cache";
import { largestOf, roundBytes } from "./inputs";

/** The largest code of a key or value. */
const MOST: f32 = 127;

/** The panel of values that begins with `channel`; `values`: where the scales begin. */
// @ts-ignore: decorator
@inline
export function valuePanelQ8(values: usize, channel: i32): usize {
  return values + PAGE_ROW + <usize>channel * PAGE_SLOTS;
}

/**
 * A key into its lane of a panel.
 *
 * @param key f32 (headDim)
 * @param excess what is added to its codes: offset() of bytes.ts
 * @param spare 32 bytes of scratch
 */
export function keepKeyQ8(panel: usize, lane: usize, key: usize, headDim: i32, excess: i32, spare: usize): void {
  const more = i8x16.splat(<i8>excess);
  let bound = panel + <usize>((headDim + BLOCK - 1) / BLOCK) * Q8_BLOCK_BYTES;
  let to = panel + (lane << 2);
  for (; headDim > 0; headDim -= BLOCK) {
    const count = min(headDim, BLOCK);
    const largest = largestOf(key, count);
    // A NaN or infinite key must reach the scores: its scale carries it there.
    roundBytes(spare, key, count, largest > 0 ? MOST / largest : 0);
    const first = v128.load(spare);
    const second = v128.load(spare, 16);
    fourWords(to, i8x16.add(first, more));
    fourWords(to + 4 * PANEL_BYTES, i8x16.add(second, more));
    store<f32>(to, largest / MOST, BLOCK * PANEL);
    const own = Q8_LIMIT / <u32>max(1, largestSquares(first, second));
    const others = load<u32>(bound);
    store<u32>(bound, others ? min(others, own) : own);
    bound += 4;
    key += BLOCK * 4;
    to += Q8_BLOCK_BYTES;
  }
}

// @ts-ignore: decorator
@inline
function fourWords(to: usize, codes: v128): void {
  v128.store_lane<i32>(to, codes, 0);
  v128.store_lane<i32>(to, codes, 1, 64);
  v128.store_lane<i32>(to, codes, 2, 128);
  v128.store_lane<i32>(to, codes, 3, 192);
}

/**
 * A value into its bytes of the panels of a page.
 *
 * @param values where the scales begin
 * @param place its slot in the page
 * @param value f32 (headDim)
 * @param spare 32 bytes of scratch
 */
export function keepValueQ8(values: usize, place: usize, value: usize, headDim: i32, spare: usize): void {
  let bits: i32 = 0;
  for (let channel = 0; channel < headDim; channel += BLOCK) {
    // As integers the bits of a NaN are the largest.
    bits = max(bits, reinterpret<i32>(largestOf(value + (<usize>channel << 2), min(headDim - channel, BLOCK))));
  }
  const largest = reinterpret<f32>(bits);
  const factor: f32 = largest > 0 ? MOST / largest : 0;
  store<f32>(values + (place << 2), largest / MOST);
  const to = (place >> 2) * PANEL_BYTES + (place & 3);
  for (let channel = 0; channel < headDim; channel += BLOCK) {
    roundBytes(spare, value + (<usize>channel << 2), min(headDim - channel, BLOCK), factor);
    column(valuePanelQ8(values, channel) + to, v128.load(spare));
    if (headDim - channel > PANEL) column(valuePanelQ8(values, channel + PANEL) + to, v128.load(spare, 16));
  }
}

/** 16 bytes to every fourth place. */
// @ts-ignore: decorator
@inline
function column(to: usize, codes: v128): void {
  v128.store_lane<i8>(to, codes, 0);
  v128.store_lane<i8>(to, codes, 1, 4);
  v128.store_lane<i8>(to, codes, 2, 8);
  v128.store_lane<i8>(to, codes, 3, 12);
  v128.store_lane<i8>(to, codes, 4, 16);
  v128.store_lane<i8>(to, codes, 5, 20);
  v128.store_lane<i8>(to, codes, 6, 24);
  v128.store_lane<i8>(to, codes, 7, 28);
  v128.store_lane<i8>(to, codes, 8, 32);
  v128.store_lane<i8>(to, codes, 9, 36);
  v128.store_lane<i8>(to, codes, 10, 40);
  v128.store_lane<i8>(to, codes, 11, 44);
  v128.store_lane<i8>(to, codes, 12, 48);
  v128.store_lane<i8>(to, codes, 13, 52);
  v128.store_lane<i8>(to, codes, 14, 56);
  v128.store_lane<i8>(to, codes, 15, 60);
}
