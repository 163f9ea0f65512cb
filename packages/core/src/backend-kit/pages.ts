// The pages of keys of one model: which are free, and how many sequences share each. What stands in them, and in what order, is
// the device's business: the backend hands over what does it there.

/** The measures that decide which slots a sequence uses. */
export interface PageShape {
  /** Pages that there can be. */
  readonly count: number;
  /** Slots of a page: keys of each head of each layer. */
  readonly slots: number;
  /** Keys that a head keeps; null where none is ever dropped. */
  readonly window: number | null;
  /** Tokens for which an evicted key keeps its slot (docs/model.md, "Bounded state"). */
  readonly journal: number;
}

/** What a backend does to pages on its device, at once or before its next call works. */
export interface PageStore {
  /** Nobody in any slot of a page whose content is worth nothing. */
  clear(page: number): void;
  /** All that stands in page `from` also in page `to`. */
  copy(from: number, to: number): void;
  /** Restore the state after the first `length` tokens in slots [0, slots) of these pages: later keys are gone, and so is
   *  whatever later tokens evicted. With a window only. */
  truncate(pages: readonly number[], slots: number, length: number): void;
  /** Memory for the pages 0 to count - 1, where pages get theirs when they are first used. Errors: "out-of-memory"; nothing
   *  has changed then. */
  reserve?(count: number): void;
}

export class Pages {
  readonly shape: PageShape;
  readonly #store: PageStore;
  /** Pages given back. */
  readonly #free: number[] = [];
  #used = 0;
  readonly #holders: Int32Array;

  constructor(shape: PageShape, store: PageStore) {
    this.shape = shape;
    this.#store = store;
    this.#holders = new Int32Array(shape.count);
  }

  /** Make sure of memory for `count` more pages. Errors: "out-of-memory". */
  reserve(count: number): void {
    this.#store.reserve?.(this.#used + Math.max(0, count - this.#free.length));
  }

  truncate(pages: readonly number[], slots: number, length: number): void {
    this.#store.truncate(pages, slots, length);
  }

  /** Pages that can be had. */
  get free(): number {
    return this.#free.length + this.shape.count - this.#used;
  }

  /** Pages that have ever been in use, 0 to used - 1. */
  get used(): number {
    return this.#used;
  }

  /** A page of free slots. The caller has made sure that there is one. */
  take(): number {
    const page = this.#next();
    this.#store.clear(page);
    return page;
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
    this.#store.copy(page, own);
    this.release(page);
    return own;
  }

  #next(): number {
    const page = this.#free.pop() ?? this.#used++;
    this.#holders[page] = 1;
    return page;
  }
}

/** Slots that the keys of `length` tokens stand in, at most. */
export function slotsFor({ window, journal }: Pick<PageShape, "window" | "journal">, length: number): number {
  return window === null ? length : Math.min(length, window + journal);
}
