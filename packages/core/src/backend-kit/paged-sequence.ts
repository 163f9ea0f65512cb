// A sequence of a backend that keeps its keys in pages: its ids, its cache, and its part in the room of the model.
import type { Routing, Sequence, Tokens } from "../backend.ts";
import { Timeline } from "../contract/timeline.ts";
import { PagedCache } from "./paged-cache.ts";
import type { Pages } from "./pages.ts";
import { Share, type Tally } from "./tally.ts";

export class PagedSequence implements Sequence {
  readonly timeline: Timeline;
  readonly cache: PagedCache;
  readonly share: Share;

  constructor(timeline: Timeline, cache: PagedCache, share: Share) {
    this.timeline = timeline;
    this.cache = cache;
    this.share = share;
  }

  static empty(routing: Routing, pages: Pages, tally: Tally): PagedSequence {
    return new PagedSequence(new Timeline(routing), new PagedCache(pages), new Share(tally));
  }

  get length(): number {
    return this.timeline.length;
  }

  fork(): PagedSequence {
    return new PagedSequence(this.timeline.fork(), this.cache.fork(), this.share.fork());
  }

  rewind(length: number): void {
    if (length >= this.timeline.length) return;
    this.#truncate(this.timeline.rewind(length));
    this.share.set(length);
  }

  /** Make the last id pending again, so that what follows it can be computed anew. */
  reopen(): void {
    this.#truncate(this.timeline.reopen());
  }

  /** Append what a call drew; the cache holds the keys of the first `evaluated` of them. `stopped`: the last is a stop id. */
  drew(ids: Tokens | readonly number[], stopped: boolean, evaluated: number): void {
    const { timeline } = this;
    const start = timeline.length;
    // Each id drawn is a call of its own (S2).
    for (const id of ids) timeline.append([id]);
    if (ids.length > 0) timeline.held = stopped;
    timeline.evaluatedTo(start + evaluated);
  }

  /** After a call that failed: the sequence as it was, with `length` ids. Keys that the call wrote are not to be relied on. */
  restore(length: number, held: boolean): void {
    this.timeline.rewind(length);
    this.timeline.held = held;
    this.#truncate(this.timeline.evaluated);
    this.share.set(length);
  }

  close(): void {
    this.cache.close();
    this.share.close();
  }

  /** Keep the keys of the first `valid` tokens; when the window has dropped some of those, all are computed anew later. */
  #truncate(valid: number): void {
    if (this.cache.truncate(valid, this.timeline.length)) return;
    this.cache.reset();
    this.timeline.evaluatedTo(0);
  }
}
