// The pages of keys in a model's memory. They stand one behind the other where it ends, and it grows when more of them are in use
// than ever before: room that nobody uses costs nothing.
import type { PageShape, PageStore } from "@doge-lm/core/backend-kit";
import { JOURNAL, NOBODY, PAGE_SLOTS, PANEL } from "./descriptor.ts";
import type { Heap } from "./heap.ts";
import type { Layout } from "./layout.ts";

export class HeapPages implements PageStore {
  readonly layout: Layout;
  readonly #heap: Heap;

  constructor(heap: Heap, layout: Layout) {
    this.#heap = heap;
    this.layout = layout;
  }

  get shape(): PageShape {
    return { count: this.layout.pages, slots: PAGE_SLOTS, window: this.layout.config.window, journal: JOURNAL };
  }

  reserve(count: number): void {
    this.#heap.reserve(this.address(count), "The keys and values of this call");
  }

  address(page: number): number {
    return this.layout.pagesAt + page * this.layout.page.bytes;
  }

  /** Zeros, since even a slot that is not seen takes part in sums, with the weight 0; and nobody in any slot. */
  clear(page: number): void {
    const { page: plan, config } = this.layout;
    const at = this.address(page);
    this.#heap.bytes.fill(0, at, at + plan.bytes);
    if (config.window === null) return;
    const { words } = this.#heap;
    for (let layer = 0; layer < config.layers; layer++) {
      const from = (at + layer * plan.layerBytes) / 4;
      words.fill(NOBODY, from + plan.positions / 4, from + plan.layerBytes / 4);
    }
  }

  copy(from: number, to: number): void {
    const at = this.address(from);
    this.#heap.bytes.copyWithin(this.address(to), at, at + this.layout.page.bytes);
  }

  truncate(pages: readonly number[], slots: number, length: number): void {
    const { page: plan, config } = this.layout;
    const { words } = this.#heap;
    pages.forEach((page, index) => {
      const count = Math.min(PAGE_SLOTS, slots - index * PAGE_SLOTS);
      for (let layer = 0; layer < config.layers; layer++) {
        const at = this.address(page) + layer * plan.layerBytes;
        for (let head = 0; head < config.kvHeads; head++) {
          const positions = (at + plan.positions) / 4 + head * PAGE_SLOTS;
          const evicted = (at + plan.evicted) / 4 + head * PAGE_SLOTS;
          for (let slot = 0; slot < count; slot++) {
            if (words[positions + slot]! >= length) {
              words[positions + slot] = NOBODY;
              this.#clearValue(at + head * plan.headBytes + plan.values, slot);
            }
            if (words[evicted + slot]! >= length) words[evicted + slot] = NOBODY;
          }
        }
      }
    });
  }

  /** Zeros in place of a value, as clear() has them; `values` is where those of its head begin. */
  #clearValue(values: number, slot: number): void {
    const { page, config } = this.layout;
    const { bytes } = this.#heap;
    if (page.dtype === "q8") {
      bytes.fill(0, values + slot * 4, values + (slot + 1) * 4); // its scale
      return;
    }
    const half = page.dtype === "bf16";
    const row = PANEL * 4;
    for (let first = 0; first < config.headDim; first += PANEL) {
      const panel = values + first * PAGE_SLOTS * (half ? 2 : 4);
      if (!half) {
        bytes.fill(0, panel + slot * row, panel + (slot + 1) * row);
        continue;
      }
      const pair = panel + (slot >> 1) * row + (slot & 1) * 2;
      for (let at = pair; at < pair + row; at += 4) bytes.fill(0, at, at + 2);
    }
  }
}
