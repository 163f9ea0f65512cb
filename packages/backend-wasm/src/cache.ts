// The cache of a sequence: its pages of keys, shared with its forks until one of them writes.
import { JOURNAL, PAGE_SLOTS } from "./descriptor.ts";
import { slotsOf } from "./layout.ts";
import type { Pages } from "./pages.ts";

const pagesFor = (slots: number): number => Math.ceil(slots / PAGE_SLOTS);

export class Cache {
  readonly #pages: Pages;
  #held: number[] = [];
  /** Most tokens that the cache has held since it was empty. */
  #reach = 0;
  /** Keys of tokens from this one on are to be forgotten before the next write. */
  #stale: number | null = null;
  /** What the pages hold is worth nothing. */
  #empty = true;

  constructor(pages: Pages) {
    this.#pages = pages;
  }

  /** Addresses of the pages, in the order of their slots. */
  get addresses(): number[] {
    return this.#held.map((page) => this.#pages.address(page));
  }

  /** Slots that keys may stand in. */
  get reach(): number {
    return this.#reach;
  }

  /** Free pages that prepare(from, to) will take. */
  cost(from: number, to: number): number {
    const { writes, count } = this.#writes(from, to);
    const shared = this.#held.filter((page, index) => index < count && writes(index) && this.#pages.isShared(page));
    return Math.max(0, count - this.#held.length) + shared.length;
  }

  /** Make ready to write the keys of tokens [from, to): room for them, on pages of one's own. */
  prepare(from: number, to: number): void {
    const { writes, count } = this.#writes(from, to);
    for (let index = 0; index < count; index++) {
      const page = this.#held[index];
      if (page === undefined) {
        this.#held.push(this.#pages.take());
      } else if (writes(index) && this.#pages.isShared(page)) {
        this.#held[index] = this.#pages.copy(page);
      }
    }
    if (this.#empty) {
      for (const page of this.#held) this.#pages.clear(page);
      this.#empty = false;
      this.#stale = null;
      this.#reach = 0;
    } else if (this.#stale !== null) {
      if (this.#window !== null) {
        this.#pages.truncate(this.#held, this.#slots(this.#reach), this.#stale);
        // While every key stands in the slot of its position, what lies behind is as good as never used.
        if (!this.#moved) this.#reach = Math.min(this.#reach, this.#stale);
      }
      this.#stale = null;
    }
  }

  /** Tokens up to this one may have been written. */
  wrote(to: number): void {
    this.#reach = Math.max(this.#reach, to);
  }

  /** Forget the keys of all but the first `length` tokens, and the pages that `hold` tokens do not need. False, changing
   *  nothing, when the window has evicted too long ago what was kept then. */
  truncate(length: number, hold: number): boolean {
    if (this.#moved && length < this.#reach - JOURNAL) return false;
    if (length < this.#reach) this.#stale = Math.min(this.#stale ?? length, length);
    if (this.#window === null) this.#reach = Math.min(this.#reach, length);
    this.keep(hold);
    return true;
  }

  /** Forget every key, and keep the pages. */
  reset(): void {
    this.#empty = true;
    this.#reach = 0;
  }

  /** Give back the pages that `length` tokens do not need. */
  keep(length: number): void {
    const count = pagesFor(this.#slots(this.#moved ? Math.max(length, this.#reach) : length));
    for (const page of this.#held.splice(count)) this.#pages.release(page);
  }

  fork(): Cache {
    const copy = new Cache(this.#pages);
    for (const page of this.#held) this.#pages.share(page);
    copy.#held = [...this.#held];
    copy.#reach = this.#reach;
    copy.#stale = this.#stale;
    copy.#empty = this.#empty;
    return copy;
  }

  close(): void {
    for (const page of this.#held.splice(0)) this.#pages.release(page);
  }

  get #window(): number | null {
    return this.#pages.layout.config.window;
  }

  /** Whether keys have taken slots of evicted ones, so that a slot is no longer a position. */
  get #moved(): boolean {
    return this.#window !== null && this.#reach > this.#window + JOURNAL;
  }

  #slots(length: number): number {
    return slotsOf(this.#pages.layout.config, length);
  }

  /** How many pages tokens [from, to) need, and which of them they write. */
  #writes(from: number, to: number): { count: number; writes: (page: number) => boolean } {
    const count = pagesFor(this.#slots(this.#moved ? Math.max(to, this.#reach) : to));
    // Beyond the window any key may be evicted, or come back.
    const all = this.#empty || (this.#window !== null && Math.max(this.#reach, to) > this.#window);
    const first = Math.floor(from / PAGE_SLOTS);
    return { count, writes: (page) => all || page >= first };
  }
}
