// What a sequence is apart from its cache: its ids, where its calls began, how much of it the cache holds (contract S2).
//
// Every backend keeps its cache in its own memory and its own shape, but all must agree on what a rewind leaves, what is
// still to be evaluated and in which calls. That is host-side bookkeeping of a few integers, so it stands here once.
import type { Routing, Tokens } from "../backend.ts";

/** One stretch of ids evaluated together: under "reference" routing a mixture of experts routes over exactly these. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

export class Timeline {
  readonly #routing: Routing;
  #ids: Int32Array<ArrayBuffer>;
  #length = 0;
  /** Where each call of this sequence began, ascending; only kept under "reference" routing. */
  #starts: number[] = [];
  #evaluated = 0;
  /** The last id is a stop id: rows without tokens draw nothing. */
  held = false;

  constructor(routing: Routing, capacity = 64) {
    this.#routing = routing;
    this.#ids = new Int32Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** Ids the cache holds; `pending()` is the rest. */
  get evaluated(): number {
    return this.#evaluated;
  }

  /** All ids; a view that the next append may detach from. */
  get ids(): Int32Array {
    return this.#ids.subarray(0, this.#length);
  }

  /** Add the ids of one call. Nothing is evaluated yet. */
  append(tokens: Tokens | readonly number[]): void {
    if (tokens.length === 0) return;
    const length = this.#length + tokens.length;
    if (length > this.#ids.length) {
      const grown = new Int32Array(Math.max(length, 2 * this.#ids.length));
      grown.set(this.ids);
      this.#ids = grown;
    }
    this.#ids.set(tokens, this.#length);
    if (this.#routing === "reference") this.#starts.push(this.#length);
    this.#length = length;
    this.held = false;
  }

  /** What must still be evaluated, in order. Under "per-token" routing calls do not matter and it is one span. */
  pending(): Span[] {
    if (this.#evaluated === this.#length) return [];
    if (this.#routing === "per-token") return [{ from: this.#evaluated, to: this.#length }];
    const spans: Span[] = [];
    for (let index = 0; index < this.#starts.length; index++) {
      const from = this.#starts[index]!;
      const to = this.#starts[index + 1] ?? this.#length;
      if (from >= this.#evaluated) spans.push({ from, to });
    }
    return spans;
  }

  /** The cache now holds the first `count` ids. */
  evaluatedTo(count: number): void {
    this.#evaluated = count;
  }

  /** Forget all but the first `length` ids. Returns how many ids of its cache stay valid: the backend truncates to that, and
   *  when it cannot (the window has evicted too long ago) it empties its cache and calls `evaluatedTo(0)`. Under "reference"
   *  routing a rewind into a call drops the whole call from the cache: the ids left were routed together with the others. */
  rewind(length: number): number {
    if (length >= this.#length) return this.#evaluated;
    // Under "reference" routing the cut is clean only where a call begins; elsewhere it runs through a call.
    const clean = this.#routing === "per-token" || length === 0 || this.#starts.includes(length);
    this.#length = length;
    this.held = false;
    while (this.#starts.length > 0 && this.#starts.at(-1)! >= length) this.#starts.pop();
    if (this.#evaluated > length) this.#evaluated = clean ? length : this.#starts.at(-1)!;
    return this.#evaluated;
  }

  /** Make the last id pending again, so that what follows it can be computed anew. Returns the valid cache length. */
  reopen(): number {
    if (this.#evaluated === this.#length && this.#length > 0) {
      this.#evaluated = this.#routing === "reference" ? this.#starts.at(-1)! : this.#length - 1;
    }
    return this.#evaluated;
  }

  fork(): Timeline {
    const copy = new Timeline(this.#routing, Math.max(64, this.#length));
    copy.#ids.set(this.ids);
    copy.#length = this.#length;
    copy.#starts = [...this.#starts];
    copy.#evaluated = this.#evaluated;
    copy.held = this.held;
    return copy;
  }
}
