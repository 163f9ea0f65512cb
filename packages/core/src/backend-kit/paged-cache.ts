// The cache of a sequence: its pages of keys, shared with its forks until one of them writes.
import { type Pages, slotsFor } from "./pages.ts";

export class PagedCache {
  readonly #pages: Pages;
  #held: number[] = [];
  /** Most tokens that the cache has held since it was empty. */
  #reach = 0;
  /** Keys of tokens from this one on are to be forgotten before the next write. */
  #stale: number | null = null;

  constructor(pages: Pages) {
    this.#pages = pages;
  }

  /** The pages, in the order of their slots. */
  get pages(): readonly number[] {
    return this.#held;
  }

  /** Slots that keys may stand in, or tokens that there were since the cache was empty. */
  get reach(): number {
    return this.#reach;
  }

  /** Whether keys up to `length` tokens all stand in the slots of their positions and none is evicted. */
  isPlain(length: number): boolean {
    return this.#window === null || (!this.#moved && length <= this.#window && this.#reach <= this.#window);
  }

  /** Free pages that prepare(from, to) will take. */
  cost(from: number, to: number): number {
    const { first, count } = this.#writes(from, to);
    const shared = this.#held.slice(first, count).filter((page) => this.#pages.isShared(page));
    return Math.max(0, count - this.#held.length) + shared.length;
  }

  /** Make ready to write the keys of tokens [from, to): room for them, on pages of one's own. */
  prepare(from: number, to: number): void {
    const { first, count } = this.#writes(from, to);
    for (let index = 0; index < count; index++) {
      const page = this.#held[index];
      if (page === undefined) this.#held.push(this.#pages.take());
      else if (index >= first && this.#pages.isShared(page)) this.#held[index] = this.#pages.copy(page);
    }
    if (this.#stale === null) return;
    if (this.#window !== null) {
      this.#pages.truncate(this.#held, this.#slots(this.#reach), this.#stale);
      // While every key stands in the slot of its position, what lies behind is as good as never used.
      if (!this.#moved) this.#reach = Math.min(this.#reach, this.#stale);
    }
    this.#stale = null;
  }

  /** Tokens up to this one may have been written. */
  wrote(to: number): void {
    this.#reach = Math.max(this.#reach, to);
  }

  /** Forget the keys of all but the first `length` tokens, and the pages that `hold` tokens do not need. False, changing
   *  nothing, when the window has evicted too long ago what was kept then. */
  truncate(length: number, hold: number): boolean {
    if (this.#moved && length < this.#reach - this.#pages.shape.journal) return false;
    if (length < this.#reach) this.#stale = Math.min(this.#stale ?? length, length);
    if (this.#window === null) this.#reach = Math.min(this.#reach, length);
    this.keep(hold);
    return true;
  }

  /** Forget every key. Forks may hold the pages too, so they are given back, not wiped. */
  reset(): void {
    for (const page of this.#held.splice(0)) this.#pages.release(page);
    this.#reach = 0;
    this.#stale = null;
  }

  /** Give back the pages that `length` tokens do not need. */
  keep(length: number): void {
    for (const page of this.#held.splice(this.#pagesOf(length))) this.#pages.release(page);
  }

  fork(): PagedCache {
    const copy = new PagedCache(this.#pages);
    for (const page of this.#held) this.#pages.share(page);
    copy.#held = [...this.#held];
    copy.#reach = this.#reach;
    copy.#stale = this.#stale;
    return copy;
  }

  close(): void {
    this.reset();
  }

  get #window(): number | null {
    return this.#pages.shape.window;
  }

  /** Whether keys have taken slots of evicted ones, so that a slot is no longer a position. */
  get #moved(): boolean {
    return this.#window !== null && this.#reach > this.#window + this.#pages.shape.journal;
  }

  #slots(length: number): number {
    return slotsFor(this.#pages.shape, length);
  }

  /** Pages of a text of `length` tokens. */
  #pagesOf(length: number): number {
    return Math.ceil(this.#slots(this.#moved ? Math.max(length, this.#reach) : length) / this.#pages.shape.slots);
  }

  /** How many pages tokens [from, to) need, and the first of them that they write. */
  #writes(from: number, to: number): { first: number; count: number } {
    // Beyond the window any key may be evicted, or come back.
    const all = this.#window !== null && Math.max(this.#reach, to) > this.#window;
    return { first: all ? 0 : Math.floor(from / this.#pages.shape.slots), count: this.#pagesOf(to) };
  }
}
