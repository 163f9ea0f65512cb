// A sequence: its ids (core's Timeline), their cache, and the stamps by which forks share room.
import type { Config, Routing, Sequence } from "@doge-lm/core";
import { Timeline } from "@doge-lm/core";
import { State } from "./state.ts";

/** Every appended token gets a number of its own, which forks keep: tokens with one number share their room. */
let stamped = 0;

export class ReferenceSequence implements Sequence {
  readonly #config: Config;
  readonly #routing: Routing;
  /** The open sequences of the model. */
  readonly #open: Set<ReferenceSequence>;
  readonly timeline: Timeline;
  readonly #stamps: number[];
  state: State;

  constructor(config: Config, routing: Routing, open: Set<ReferenceSequence>, past?: ReferenceSequence) {
    this.#config = config;
    this.#routing = routing;
    this.#open = open;
    this.timeline = past?.timeline.fork() ?? new Timeline(routing);
    this.#stamps = [...(past?.stamps ?? [])];
    this.state = past?.state.copy() ?? State.empty(config);
    open.add(this);
  }

  get length(): number {
    return this.timeline.length;
  }

  fork(): ReferenceSequence {
    return new ReferenceSequence(this.#config, this.#routing, this.#open, this);
  }

  rewind(length: number): void {
    if (length >= this.length) return;
    this.timeline.rewind(length);
    this.#stamps.length = Math.min(this.#stamps.length, length);
    this.settle();
  }

  close(): void {
    this.#open.delete(this);
  }

  /** One for each token; those appended since the last look get theirs now. */
  get stamps(): readonly number[] {
    while (this.#stamps.length < this.length) this.#stamps.push(stamped++);
    return this.#stamps;
  }

  /** Make the last token pending again. */
  reopen(): void {
    this.timeline.reopen();
    this.settle();
  }

  /** Bring the cache down to what the timeline says is evaluated; from nothing when the window evicted too long ago. */
  settle(): void {
    if (this.state.truncate(this.timeline.evaluated)) return;
    this.state = State.empty(this.#config);
    this.timeline.evaluatedTo(0);
  }
}
