// The pages of keys of one model: which are free, how many sequences share each, and what is to be done to them on the device
// before the next call works: all of that is collected here and carried out at its beginning.
import type { Config } from "@doge-lm/core";

/** Pages beyond the room: what sequences waste at their ends and forks copy. */
const SLACK = 64;

/** Pairs of a page and where it is copied to, and of a page and the length from which its keys are forgotten. */
export interface PageWork {
  readonly copies: readonly (readonly [number, number])[];
  readonly resets: readonly (readonly [number, number])[];
}

export class Pages {
  readonly config: Config;
  readonly count: number;
  readonly #free: number[] = [];
  readonly #holders: Int32Array;
  /** [from, to] of pages to be copied. */
  #copies: [number, number][] = [];
  /** Pages in which keys of tokens from `length` on, and what they evicted, are to be forgotten. */
  #resets: [page: number, length: number][] = [];

  constructor(config: Config, room: number, page: number) {
    this.config = config;
    this.count = Math.ceil(room / page) + SLACK;
    this.#holders = new Int32Array(this.count);
    for (let index = this.count - 1; index >= 0; index--) this.#free.push(index);
  }

  get free(): number {
    return this.#free.length;
  }

  /** A page of free slots. The caller has made sure that there is one. */
  take(): number {
    const page = this.#free.pop()!;
    this.#holders[page] = 1;
    this.reset(page, 0);
    return page;
  }

  reset(page: number, length: number): void {
    if (this.config.window !== null) this.#resets.push([page, length]);
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
    const own = this.#free.pop()!;
    this.#holders[own] = 1;
    this.#copies.push([page, own]);
    this.release(page);
    return own;
  }

  /** What is to be done, copies first, until workDone() says that it is: a call that fails before leaves it to the next. */
  get work(): PageWork {
    return { copies: this.#copies, resets: this.#resets };
  }

  workDone(): void {
    this.#copies = [];
    this.#resets = [];
  }
}
