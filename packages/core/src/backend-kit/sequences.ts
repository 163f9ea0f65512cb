// The sequences of one model that keeps its keys in pages: how much room they leave, and calls on them, which happen whole or
// not at all (contract S1).
import type { Routing, Row, SampleRow } from "../backend.ts";
import { DogeError } from "../errors.ts";
import { PagedSequence } from "./paged-sequence.ts";
import type { Pages } from "./pages.ts";
import { Tally } from "./tally.ts";

/** The verbs of a model. */
export type Verb = "forward" | "score" | "sample" | "inspect";

/** A row of a call, its tokens appended to its sequence and pending there. */
export interface Task {
  readonly sequence: PagedSequence;
  /** Ids of the sequence before the call: those from here on are the row's own. */
  readonly before: number;
  /** Tokens to draw, and how. */
  readonly count: number;
  readonly drawing?: Omit<SampleRow, "sequence" | "tokens"> | undefined;
}

export interface SequencesOptions {
  /** The backend's name, for errors. */
  readonly scope: string;
  readonly routing: Routing;
  /** Tokens that all sequences hold at most, shared pasts counted once. */
  readonly room: number;
}

export class Sequences {
  readonly #pages: Pages;
  readonly #options: SequencesOptions;
  readonly #tally = new Tally();

  constructor(pages: Pages, options: SequencesOptions) {
    this.#pages = pages;
    this.#options = options;
  }

  /** Tokens that fit yet. */
  get room(): number {
    return this.#options.room - this.#tally.used;
  }

  /** An empty sequence. */
  open(): PagedSequence {
    return PagedSequence.empty(this.#options.routing, this.#pages, this.#tally);
  }

  /** Append the rows' tokens, find them pages, and let `work` evaluate what is pending. When it throws, every sequence is as it
   *  was. After "sample" `work` has appended what was drawn, by `drew`. Errors: "no-room", "out-of-memory", those of `work`. */
  async call<T>(
    verb: Verb,
    rows: readonly (Row & Partial<SampleRow>)[],
    work: (tasks: readonly Task[]) => Promise<T>,
  ): Promise<T> {
    const needed = rows.reduce((sum, { tokens, count = 0 }) => sum + tokens.length + count, 0);
    if (needed > this.room) throw this.#noRoom(needed, this.room);
    const before = rows.map(({ sequence }) => {
      const { length, held } = (sequence as PagedSequence).timeline;
      return { length, held };
    });
    const tasks = rows.map((row) => begin(verb, row));
    let prepared = false;
    try {
      this.#prepare(tasks);
      prepared = true;
      const results = await work(tasks);
      for (const { sequence } of tasks) {
        if (verb !== "sample") sequence.timeline.evaluatedTo(sequence.length);
        sequence.cache.wrote(sequence.timeline.evaluated);
        sequence.cache.keep(sequence.length);
        sequence.share.set(sequence.length);
      }
      return results;
    } catch (error) {
      tasks.forEach(({ sequence, count }, index) => {
        const { length, held } = before[index]!;
        if (prepared) sequence.cache.wrote(sequence.length + count);
        sequence.restore(length, held);
      });
      throw error;
    }
  }

  /** Pages for what each row will hold at most. Errors: "no-room" and "out-of-memory", before any is taken. */
  #prepare(tasks: readonly Task[]): void {
    const ends = tasks.map(({ sequence, count }) => ({
      cache: sequence.cache,
      from: sequence.timeline.evaluated,
      to: sequence.length + count,
    }));
    const pages = ends.reduce((sum, { cache, from, to }) => sum + cache.cost(from, to), 0);
    const { slots } = this.#pages.shape;
    if (pages > this.#pages.free) throw this.#noRoom(pages * slots, this.#pages.free * slots);
    this.#pages.reserve(pages);
    for (const { cache, from, to } of ends) cache.prepare(from, to);
  }

  #noRoom(needed: number, left: number): DogeError {
    return new DogeError(
      "no-room",
      `The call needs room for ${needed} more tokens and ${left} of ${this.#options.room} are left: ` +
        "close or rewind sequences, or load the model with a larger `room`.",
      { scope: this.#options.scope },
    );
  }
}

/** Append a row's tokens, and see to it that the logits it asks about are computed. */
function begin(verb: Verb, row: Row & Partial<SampleRow>): Task {
  const sequence = row.sequence as PagedSequence;
  const { timeline } = sequence;
  const before = timeline.length;
  const { tokens, count = 0, sampling, allowed, alternatives } = row;
  // The first of the tokens is scored by the logits before it.
  if (verb === "score" && tokens.length > 0) sequence.reopen();
  timeline.append(tokens);
  const draws = timeline.held ? 0 : count;
  // With nothing pending, the last token is evaluated anew for the logits after it.
  if ((verb === "forward" || draws > 0) && timeline.evaluated === timeline.length) sequence.reopen();
  return {
    ...{ sequence, before, count: draws },
    drawing: sampling && { count: draws, sampling, allowed, alternatives },
  };
}
