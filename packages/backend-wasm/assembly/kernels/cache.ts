// cache: where the keys and values of a sequence stand.
//
// In pages of PAGE_SLOTS = 64 slots. One layer of a page:
//
//   for each key/value head:
//     keys     four panels (inner: headDim)     turned, so that a vector holds several keys: no sum across a vector
//     values   a panel for 16 channels (inner: the slots)
//   biases     f32 (biasHeads, 64)
//   positions  u32 (kvHeads, 64)              with a window only; NOBODY: free
//   evicted    u32 (kvHeads, 64)              the position whose token evicted the key; NOBODY: none
//   heap, ring, mark                           u32 (kvHeads, 64) each, as window.ts has them; with a window only
//
// A page's keys and values of a head are read one behind the other: 32 KiB in a row beside bf16 heads of 128, since memory is slow
// to begin and fast to go on. Both are panels as matmul has them, so that its tiles read them: f32 beside f32 weights, else bf16
// (two channels of a key to a word, two slots of a value), and under q8 and q4 where bytes are multiplied, bytes (cache-q8.ts). Biases are
// f32, made from values that were not rounded.
//
// Without a window, slot = position. With one, each key/value head keeps its own keys: token i sees the slots with
// position <= i < evicted. Evicted keys stay for JOURNAL more tokens, then the next key takes their slot; so a tile of at most
// JOURNAL tokens may be kept as a whole before any of them attends.
import { JOURNAL, MODEL_WINDOW, PAGE_SLOTS, PANEL } from "../../src/descriptor";

/** Bytes of one number for each slot of a page. */
export const PAGE_ROW: usize = PAGE_SLOTS * 4;
/** Bytes of 16 numbers. */
export const PANEL_BYTES: usize = PANEL * 4;

/** Address of one layer of the page of a slot. */
// @ts-ignore: decorator
@inline
export function layerOf(pages: usize, slot: i32, offset: usize): usize {
  return load<usize>(pages + ((slot / PAGE_SLOTS) << 2)) + offset;
}

/** Whether slots are no longer positions for some token up to `last`. */
// @ts-ignore: decorator
@inline
export function isMasked(model: usize, last: i32): bool {
  const window = load<i32>(model, MODEL_WINDOW);
  return window > 0 && last >= window;
}

/** Slots in which the token at `last`, or one before it, may see a key. */
// @ts-ignore: decorator
@inline
export function slotsSeen(model: usize, reach: i32, last: i32): i32 {
  return isMasked(model, last) ? min(load<i32>(model, MODEL_WINDOW) + JOURNAL, max(reach, last + 1)) : last + 1;
}

// @ts-ignore: decorator
@inline
export function pagesOf(slots: i32): i32 {
  return (slots + PAGE_SLOTS - 1) / PAGE_SLOTS;
}
