// What is to be done to the pages of keys on the device: it is collected here and carried out at the beginning of the next call.
import type { Config } from "@doge-lm/core";
import type { PageShape, PageStore } from "@doge-lm/core/backend-kit";
import { JOURNAL, PAGE } from "./kernels/page.ts";

/** Pages beyond the room: what sequences waste at their ends and forks copy. */
const SLACK = 64;

/** Pairs of a page and where it is copied to, and of a page and the length from which its keys are forgotten. */
export interface PageWork {
  readonly copies: readonly (readonly [number, number])[];
  readonly resets: readonly (readonly [number, number])[];
}

export class PageQueue implements PageStore {
  readonly shape: PageShape;
  /** [from, to] of pages to be copied. */
  #copies: [number, number][] = [];
  /** Pages in which keys of tokens from `length` on, and what they evicted, are to be forgotten. */
  #resets: [page: number, length: number][] = [];

  constructor(config: Config, room: number) {
    this.shape = { count: Math.ceil(room / PAGE) + SLACK, slots: PAGE, window: config.window, journal: JOURNAL };
  }

  /** Without a window slots are read only as far as tokens reach, so there is nothing to clear. */
  clear(page: number): void {
    if (this.shape.window !== null) this.#resets.push([page, 0]);
  }

  copy(from: number, to: number): void {
    this.#copies.push([from, to]);
  }

  truncate(pages: readonly number[], _slots: number, length: number): void {
    for (const page of pages) this.#resets.push([page, length]);
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
