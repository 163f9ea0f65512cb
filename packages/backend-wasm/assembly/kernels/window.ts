// The keep window of one key/value head: which slot the next key takes and which key it evicts, in O(log window).
//
// Beside positions and evicted (attention.ts) a page holds, for each key/value head of a layer:
//
//   heap  u32 (64)   entry i stands in page i / 64: the visible slots as a heap, the least in (bias, position) order first
//   ring  u32 (64)   entry i of JOURNAL in page i / 64: the slot that comes free for positions ≡ i (mod JOURNAL)
//   mark  u32 (64)   in the first page, number 0: the position for whose key heap and ring are right
//
// They stand in the pages since pages are what forks copy. A rewind or a failed call moves the next position off the mark: both are
// then made anew from positions and evicted, which are the truth.
import {
  JOURNAL, MODEL_PAGE_BIASES, MODEL_PAGE_EVICTED, MODEL_PAGE_HEAP, MODEL_PAGE_MARK, MODEL_PAGE_POSITIONS, MODEL_PAGE_RING, NOBODY,
  PAGE_SLOTS,
} from "../../src/descriptor";

const ROW: usize = PAGE_SLOTS * 4;

/** The address of number `index` of an array that is spread over the pages; `array` is its place in a page. */
// @ts-ignore: decorator
@inline
function place(pages: usize, array: usize, index: i32): usize {
  return load<usize>(pages + (<usize>(index / PAGE_SLOTS) << 2)) + array + (<usize>(index % PAGE_SLOTS) << 2);
}

/** Where an array of a head stands in a page; `field` is that of the model's record. */
// @ts-ignore: decorator
@inline
function arrayOf(model: usize, field: usize, offset: usize, head: i32): usize {
  return load<usize>(model + field) + offset + <usize>head * ROW;
}

/** The slot for the key at `position`: its own while there are fresh ones, else a free one or one the journal has done with.
 *  `reach`: slots that earlier tokens may stand in. From `window` on heap and ring are right afterwards. */
export function freeSlot(
  model: usize, offset: usize, pages: usize, head: i32, reach: i32, position: i32, window: i32,
): i32 {
  const slots = window + JOURNAL;
  const positions = arrayOf(model, MODEL_PAGE_POSITIONS, offset, head);
  if (position >= window) {
    const valid = load<i32>(load<usize>(pages) + arrayOf(model, MODEL_PAGE_MARK, offset, head)) == position;
    if (!valid) buildHeap(model, offset, pages, head, min(slots, max(reach, position)));
    if (position >= slots) {
      if (!valid || position == slots) buildRing(model, offset, pages, head, position, slots);
      return load<i32>(place(pages, arrayOf(model, MODEL_PAGE_RING, offset, head), position % JOURNAL));
    }
  }
  if (load<i32>(place(pages, positions, position)) == NOBODY) return position;
  // After a rewind, and before the journal has begun to give slots back, some slot below is free.
  for (let slot = 0; slot < slots; slot++) {
    if (load<i32>(place(pages, positions, slot)) == NOBODY) return slot;
  }
  return unreachable();
}

/** Of the window + 1 keys that the token at `position` would see, drop the least in (bias, position) order: its own key, which
 *  stands in `slot`, or the first of the heap, whose place it takes. */
export function evictLeast(
  model: usize, offset: usize, pages: usize, head: i32, position: i32, window: i32, slot: i32,
): void {
  const heap = arrayOf(model, MODEL_PAGE_HEAP, offset, head);
  let least = load<i32>(place(pages, heap, 0));
  if (before(model, offset, pages, head, slot, least)) {
    least = slot;
  } else {
    store<i32>(place(pages, heap, 0), slot);
    sink(model, offset, pages, head, 0, window);
  }
  store<i32>(place(pages, arrayOf(model, MODEL_PAGE_EVICTED, offset, head), least), position);
  if (position >= window + JOURNAL) {
    store<i32>(place(pages, arrayOf(model, MODEL_PAGE_RING, offset, head), position % JOURNAL), least);
  }
  store<i32>(load<usize>(pages) + arrayOf(model, MODEL_PAGE_MARK, offset, head), position + 1);
}

/** Whether the key in slot `a` leaves before the one in slot `b`. */
function before(model: usize, offset: usize, pages: usize, head: i32, a: i32, b: i32): bool {
  const biases = arrayOf(model, MODEL_PAGE_BIASES, offset, head);
  const first = load<f32>(place(pages, biases, a));
  const second = load<f32>(place(pages, biases, b));
  if (first != second) return first < second;
  const positions = arrayOf(model, MODEL_PAGE_POSITIONS, offset, head);
  return load<i32>(place(pages, positions, a)) < load<i32>(place(pages, positions, b));
}

/** Move the entry at `index` of a heap of `count` down to where it belongs. */
function sink(model: usize, offset: usize, pages: usize, head: i32, index: i32, count: i32): void {
  const heap = arrayOf(model, MODEL_PAGE_HEAP, offset, head);
  const slot = load<i32>(place(pages, heap, index));
  for (;;) {
    let child = 2 * index + 1;
    if (child >= count) break;
    let other = load<i32>(place(pages, heap, child));
    if (child + 1 < count) {
      const right = load<i32>(place(pages, heap, child + 1));
      if (before(model, offset, pages, head, right, other)) {
        other = right;
        child++;
      }
    }
    if (!before(model, offset, pages, head, other, slot)) break;
    store<i32>(place(pages, heap, index), other);
    index = child;
  }
  store<i32>(place(pages, heap, index), slot);
}

/** The heap of the keys that are visible, of slots [0, used). */
function buildHeap(model: usize, offset: usize, pages: usize, head: i32, used: i32): void {
  const heap = arrayOf(model, MODEL_PAGE_HEAP, offset, head);
  const positions = arrayOf(model, MODEL_PAGE_POSITIONS, offset, head);
  const evicted = arrayOf(model, MODEL_PAGE_EVICTED, offset, head);
  let count = 0;
  for (let slot = 0; slot < used; slot++) {
    if (load<i32>(place(pages, positions, slot)) == NOBODY || load<i32>(place(pages, evicted, slot)) != NOBODY) continue;
    store<i32>(place(pages, heap, count++), slot);
  }
  for (let index = (count >> 1) - 1; index >= 0; index--) sink(model, offset, pages, head, index, count);
}

/** The ring for the positions from `position` on: of the JOURNAL slots that are not visible, those that the last JOURNAL tokens
 *  evicted come free in that order, all others at once. */
function buildRing(model: usize, offset: usize, pages: usize, head: i32, position: i32, slots: i32): void {
  const ring = arrayOf(model, MODEL_PAGE_RING, offset, head);
  const positions = arrayOf(model, MODEL_PAGE_POSITIONS, offset, head);
  const evicted = arrayOf(model, MODEL_PAGE_EVICTED, offset, head);
  for (let index = 0; index < JOURNAL; index++) store<i32>(place(pages, ring, index), NOBODY);
  for (let slot = 0; slot < slots; slot++) {
    const by = load<i32>(place(pages, evicted, slot));
    if (load<i32>(place(pages, positions, slot)) == NOBODY || by == NOBODY || by < position - JOURNAL) continue;
    store<i32>(place(pages, ring, by % JOURNAL), slot);
  }
  let next = position;
  for (let slot = 0; slot < slots; slot++) {
    const by = load<i32>(place(pages, evicted, slot));
    const free = load<i32>(place(pages, positions, slot)) == NOBODY;
    if (!free && (by == NOBODY || by >= position - JOURNAL)) continue;
    while (load<i32>(place(pages, ring, next % JOURNAL)) != NOBODY) next++;
    store<i32>(place(pages, ring, next % JOURNAL), slot);
  }
}
