// A sequence: its ids (core's Timeline), its cache, and its part in the room of the model.
import type { Routing, Sequence } from "@doge-lm/core";
import { Timeline } from "@doge-lm/core";
import { Cache } from "./cache.ts";
import type { Pages } from "./pages.ts";
import { Share, type Tally } from "./tally.ts";

export class GpuSequence implements Sequence {
  readonly timeline: Timeline;
  readonly cache: Cache;
  readonly share: Share;

  constructor(timeline: Timeline, cache: Cache, share: Share) {
    this.timeline = timeline;
    this.cache = cache;
    this.share = share;
  }

  static empty(routing: Routing, pages: Pages, tally: Tally): GpuSequence {
    return new GpuSequence(new Timeline(routing), new Cache(pages), new Share(tally));
  }

  get length(): number {
    return this.timeline.length;
  }

  fork(): Sequence {
    return new GpuSequence(this.timeline.fork(), this.cache.fork(), this.share.fork());
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
