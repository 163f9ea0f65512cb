// Model: the contract's verbs as jobs for the kernels.
//
// Behind core's checked(): calls come one at a time, with valid arguments, on live sequences of this model.
import type {
  Config,
  Details,
  Drawn,
  DType,
  Floats,
  Model,
  Routing,
  Row,
  SampleRow,
  Sequence,
  Tensor,
} from "@doge-lm/core";
import { DogeError, trace, tracing } from "@doge-lm/core";
import { STATUS_MORE, STATUS_NUMERICAL } from "./descriptor.ts";
import type { Heap } from "./heap.ts";
import { Job, type Kind, type Task } from "./job.ts";
import type { Layout } from "./layout.ts";
import { breathe, Pace } from "./pace.ts";
import { Pages } from "./pages.ts";
import { WasmSequence } from "./sequence.ts";
import { Tally } from "./tally.ts";

/** What computes: an instance on the calling thread, or a team of workers. */
export interface Engine {
  /** A slice of the job at an address: a STATUS. Errors: "device-lost". */
  run(job: number, budget: number): number | Promise<number>;
  end(): void;
}

/** A loaded model's memory and what works on it. */
export interface Resident {
  readonly heap: Heap;
  readonly layout: Layout;
  readonly engine: Engine;
}

export interface ModelOptions {
  readonly dtype: DType;
  readonly routing: Routing;
  readonly room: number;
}

export class WasmModel implements Model {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly details: Details;
  readonly #capacity: number;
  readonly #pages: Pages;
  readonly #tally = new Tally();
  readonly #pace = new Pace();
  #resident: Resident | null;

  constructor(resident: Resident, options: ModelOptions) {
    const { layout, heap } = resident;
    this.config = layout.config;
    this.context = layout.context;
    this.details = { kvDtype: layout.page.half ? "bf16" : "f32", weightBytes: layout.weightBytes };
    this.dtype = options.dtype;
    this.routing = options.routing;
    this.#capacity = options.room;
    this.#resident = resident;
    this.#pages = new Pages(heap, layout);
  }

  get room(): number {
    return this.#capacity - this.#tally.used;
  }

  sequence(): Sequence {
    return WasmSequence.empty(this.routing, this.#pages, this.#tally);
  }

  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("forward", rows, signal, (job) => job.logits());
  }

  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("score", rows, signal, (job) => job.scores());
  }

  sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]> {
    return this.#call("sample", rows, signal, (job, tasks) =>
      tasks.map(({ sequence: { timeline } }, index) => {
        const { drawn, stopped, evaluated } = job.drawn(index);
        const start = timeline.length;
        // Each id drawn is a call of its own (S2).
        for (const id of drawn.ids) timeline.append([id]);
        if (drawn.ids.length > 0) timeline.held = stopped;
        timeline.evaluatedTo(start + evaluated);
        return drawn;
      }),
    );
  }

  /** Names it has: "hidden", "logits", "layers.N.bias" and "layers.N.value". */
  inspect(
    rows: readonly Row[],
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, Tensor>[]> {
    const inside = names.some((name) => name.startsWith("layers."));
    return this.#call("inspect", rows, signal, (job) => job.tensors(new Set(names)), inside);
  }

  close(): void {
    this.#resident?.engine.end();
    this.#resident = null;
  }

  /** Append the rows' tokens and run a job over what is pending. It happens whole, or every sequence is as it was. */
  async #call<T>(
    kind: Kind,
    rows: readonly (Row & Partial<SampleRow>)[],
    signal: AbortSignal | undefined,
    read: (job: Job, tasks: readonly Task[]) => T[],
    inside = false,
  ): Promise<T[]> {
    const { heap, layout, engine } = this.#resident!;
    const needed = rows.reduce((sum, { tokens, count = 0 }) => sum + tokens.length + count, 0);
    if (needed > this.room) throw this.#noRoom(needed, this.room);
    const before = rows.map(({ sequence }) => {
      const { length, held } = (sequence as WasmSequence).timeline;
      return { length, held };
    });
    const tasks = rows.map((row) => begin(kind, row));
    let prepared = false;
    try {
      this.#prepare(tasks);
      prepared = true;
      const job = new Job(heap, layout, this.#pages.end, this.routing, kind, tasks, inside);
      await this.#run(job, engine, signal, kind);
      for (const { sequence } of tasks) sequence.timeline.evaluatedTo(sequence.length);
      const results = read(job, tasks);
      for (const { sequence } of tasks) {
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
    if (pages > this.#pages.free) throw this.#noRoom(pages * 16, this.#pages.free * 16);
    this.#pages.reserve(pages);
    for (const { cache, from, to } of ends) cache.prepare(from, to);
  }

  /** Work on the job in slices, each short enough for an abort to be noticed in time. */
  async #run(job: Job, engine: Engine, signal: AbortSignal | undefined, kind: Kind): Promise<void> {
    if (job.empty) return;
    for (;;) {
      const { budget } = this.#pace;
      const start = performance.now();
      const status = await engine.run(job.at, budget);
      const duration = performance.now() - start;
      if (tracing()) trace({ scope: "wasm", kind: "submit", name: kind, start, duration });
      if (status === STATUS_NUMERICAL) {
        throw new DogeError(
          "numerical",
          `row ${job.failed}: its logits have a NaN or nothing finite, so that no token follows from them.`,
          { scope: "wasm" },
        );
      }
      if (status !== STATUS_MORE) return;
      this.#pace.measured(budget, duration);
      await breathe(signal);
    }
  }

  #noRoom(needed: number, left: number): DogeError {
    return new DogeError(
      "no-room",
      `The call needs room for ${needed} more tokens and ${left} of ${this.#capacity} are left: ` +
        "close or rewind sequences, or load the model with a larger `room`.",
      { scope: "wasm" },
    );
  }
}

/** Append a row's tokens, and see to it that the logits it asks about are computed. */
function begin(kind: Kind, row: Row & Partial<SampleRow>): Task {
  const sequence = row.sequence as WasmSequence;
  const { timeline } = sequence;
  const before = timeline.length;
  const { tokens, count = 0, sampling, allowed, alternatives } = row;
  // The first of the tokens is scored by the logits before it.
  if (kind === "score" && tokens.length > 0) sequence.reopen();
  timeline.append(tokens);
  const draws = timeline.held ? 0 : count;
  if (kind === "forward" || draws > 0) {
    // With nothing pending, the last token is evaluated anew for the logits after it.
    if (timeline.evaluated === timeline.length) sequence.reopen();
  }
  return {
    ...{ sequence, before, count: draws },
    drawing: sampling && { count: draws, sampling, allowed, alternatives },
  };
}
