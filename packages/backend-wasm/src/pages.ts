// The pages of keys of one model: which are free, and how many sequences share each. They stand one behind the other where the
// memory ends, and the memory grows when more of them are in use than ever before: room that nobody uses costs nothing.
import { NOBODY, PAGE_SLOTS, PANEL } from "./descriptor.ts";
import type { Heap } from "./heap.ts";
import type { Layout } from "./layout.ts";

export class Pages {
  readonly layout: Layout;
  readonly #heap: Heap;
  /** Pages given back. */
  readonly #free: number[] = [];
  /** Pages that have ever been in use: those behind them have no memory yet. */
  #used = 0;
  readonly #holders: Int32Array;

  constructor(heap: Heap, layout: Layout) {
    this.#heap = heap;
    this.layout = layout;
    this.#holders = new Int32Array(layout.pages);
  }

  get free(): number {
    return this.#free.length + this.layout.pages - this.#used;
  }

  /** The first address behind every page that has been in use. What stands there is lost to the next page. */
  get end(): number {
    return this.address(this.#used);
  }

  /** Memory for `count` more pages. Errors: "out-of-memory"; nothing has changed then. */
  reserve(count: number): void {
    const fresh = Math.max(0, count - this.#free.length);
    this.#heap.reserve(this.address(this.#used + fresh), "The keys and values of this call");
  }

  address(page: number): number {
    return this.layout.pagesAt + page * this.layout.page.bytes;
  }

  /** A page of free slots. The caller has made sure that there is one, and memory for it. */
  take(): number {
    const page = this.#next();
    this.clear(page);
    return page;
  }

  #next(): number {
    const page = this.#free.pop() ?? this.#used++;
    this.#holders[page] = 1;
    return page;
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

  share(page: number): void {
    this.#holders[page]!++;
  }

  isShared(page: number): boolean {
    return this.#holders[page]! > 1;
  }

  release(page: number): void {
    if (--this.#holders[page]! === 0) this.#free.push(page);
  }

  /** A page of one's own with what stands in `page`, which is released. */
  copy(page: number): number {
    const own = this.#next();
    const from = this.address(page);
    this.#heap.bytes.copyWithin(this.address(own), from, from + this.layout.page.bytes);
    this.release(page);
    return own;
  }

  /** Restore the state after the first `length` tokens in slots [0, slots) of these pages: later keys are gone, and so is
   *  whatever later tokens evicted. With a window only. */
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
    const row = PANEL * 4;
    for (let first = 0; first < config.headDim; first += PANEL) {
      const panel = values + first * PAGE_SLOTS * (page.half ? 2 : 4);
      if (!page.half) {
        bytes.fill(0, panel + slot * row, panel + (slot + 1) * row);
        continue;
      }
      const pair = panel + (slot >> 1) * row + (slot & 1) * 2;
      for (let at = pair; at < pair + row; at += 4) bytes.fill(0, at, at + 2);
    }
  }
}
