// Model: the contract's verbs over the forward pass. Rows are evaluated one after the other.
//
// Behind core's checked(): calls come one at a time, with valid arguments, on live sequences of this model.
import type { Config, Drawn, DType, Floats, Model, Routing, Row, SampleRow, Sequence, Tensor } from "@doge-lm/core";
import { DogeError, sampleByForward, scoreByForward } from "@doge-lm/core";
import { Breath } from "@doge-lm/core/backend-kit";
import { forward, logitsOf } from "./forward.ts";
import { Recorder } from "./recorder.ts";
import { ReferenceSequence } from "./sequence.ts";
import type { Weights } from "./weights.ts";

export interface ModelOptions {
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly room: number;
}

const timelineOf = (sequence: Sequence) => (sequence as ReferenceSequence).timeline;

export class ReferenceModel implements Model {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  #weights: Weights | null;
  readonly #capacity: number;
  readonly #open = new Set<ReferenceSequence>();

  constructor(config: Config, weights: Weights, options: ModelOptions) {
    this.config = config;
    this.dtype = options.dtype;
    this.routing = options.routing;
    this.context = options.context;
    this.#weights = weights;
    this.#capacity = options.room;
  }

  get room(): number {
    const used = new Set<number>();
    for (const sequence of this.#open) for (const stamp of sequence.stamps) used.add(stamp);
    return this.#capacity - used.size;
  }

  sequence(): Sequence {
    return new ReferenceSequence(this.config, this.routing, this.#open);
  }

  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#whole(rows, signal, async ({ tokens }, sequence, breath) => {
      sequence.timeline.append(tokens);
      // Without tokens and with nothing pending, the last token is evaluated anew for the logits after it.
      if (sequence.timeline.evaluated === sequence.length) sequence.reopen();
      return this.#logits(await this.#evaluate(sequence, sequence.length - 1, breath));
    });
  }

  /** core's definition over `forward` and `inspect`; `sample` too. */
  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return scoreByForward(this, timelineOf)(rows, signal);
  }

  async sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]> {
    this.#admit(rows);
    return sampleByForward(this, timelineOf)(rows, signal);
  }

  /** The names are those of docs/model.md, "What inspect shows". */
  inspect(
    rows: readonly Row[],
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, Tensor>[]> {
    return this.#whole(rows, signal, async ({ tokens }, sequence, breath) => {
      const from = sequence.length;
      sequence.timeline.append(tokens);
      const recorder = new Recorder(names, from, tokens.length);
      const hidden = await this.#evaluate(sequence, from, breath, recorder);
      const { hiddenSize: width, vocabSize } = this.config;
      recorder.record("hidden", from, width, hidden);
      recorder.record("logits", from, vocabSize, new Float32Array(0)); // there even where no token is
      if (recorder.wants("logits")) {
        for (let row = 0; row < tokens.length; row++) {
          const logits = this.#logits(hidden.subarray(row * width, (row + 1) * width));
          recorder.record("logits", from + row, vocabSize, logits);
          await breath.take();
        }
      }
      return recorder.tensors();
    });
  }

  close(): void {
    this.#weights = null;
    this.#open.clear();
  }

  /** (vocabulary) from (hidden) */
  #logits(hidden: Float32Array): Floats {
    return logitsOf(this.config, this.#weights!, hidden);
  }

  /** Evaluates what is pending. Returns (length - from, hidden) of the positions from `from`, all pending, on. */
  async #evaluate(
    sequence: ReferenceSequence,
    from: number,
    breath: Breath,
    recorder: Recorder | null = null,
  ): Promise<Float32Array> {
    const { timeline, state } = sequence;
    const width = this.config.hiddenSize;
    const wanted = new Float32Array((timeline.length - from) * width);
    for (const span of timeline.pending()) {
      const ids = timeline.ids.slice(span.from, span.to);
      const hidden = await forward(this.config, this.#weights!, this.routing, state, ids, span.from, breath, recorder);
      timeline.evaluatedTo(span.to);
      const skipped = Math.max(0, from - span.from);
      if (skipped < ids.length) wanted.set(hidden.subarray(skipped * width), (span.from + skipped - from) * width);
    }
    return wanted;
  }

  /** A call happens whole or not at all: `run` for every row in turn, and every row as it was when one of them throws. */
  async #whole<T>(
    rows: readonly Row[],
    signal: AbortSignal | undefined,
    run: (row: Row, sequence: ReferenceSequence, breath: Breath) => Promise<T>,
  ): Promise<T[]> {
    this.#admit(rows);
    const before = rows.map((row) => {
      const sequence = row.sequence as ReferenceSequence;
      return { sequence, length: sequence.length, held: sequence.timeline.held };
    });
    const breath = new Breath(signal, "reference");
    const results: T[] = [];
    try {
      for (const row of rows) {
        await breath.take();
        results.push(await run(row, row.sequence as ReferenceSequence, breath));
      }
      return results;
    } catch (error) {
      for (const { sequence, length, held } of before) {
        sequence.rewind(length);
        sequence.settle();
        sequence.timeline.held = held;
      }
      throw error;
    }
  }

  /** Throws "no-room" unless the tokens of all rows, and what they may draw, fit. */
  #admit(rows: readonly (Row & { readonly count?: number })[]): void {
    let needed = 0;
    for (const { sequence, tokens, count = 0 } of rows) {
      needed += tokens.length + Math.min(count, this.context - sequence.length - tokens.length);
    }
    const { room } = this;
    if (needed > room) {
      throw new DogeError(
        "no-room",
        `The call needs room for ${needed} more tokens and ${room} of ${this.#capacity} are left: ` +
          "close or rewind sequences, or load the model with a larger `room`.",
        { scope: "reference" },
      );
    }
  }
}
