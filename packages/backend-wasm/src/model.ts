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
import { trace, tracing } from "@doge-lm/core";
import { Breath, numerical, Pace, Pages, Sequences, type Task, type Verb } from "@doge-lm/core/backend-kit";
import { STATUS_MORE, STATUS_NUMERICAL } from "./descriptor.ts";
import type { Heap } from "./heap.ts";
import { Job } from "./job.ts";
import type { Layout } from "./layout.ts";
import { HeapPages } from "./pages.ts";

/** What one call into WebAssembly is given. */
const SLICE_MS = 25;
/** Multiply-adds per millisecond before anything is measured: what a slow phone does. */
const FIRST_RATE = 2e6;

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
  readonly #store: HeapPages;
  readonly #pages: Pages;
  readonly #sequences: Sequences;
  readonly #pace = new Pace(SLICE_MS, FIRST_RATE);
  #resident: Resident | null;

  constructor(resident: Resident, options: ModelOptions) {
    const { layout, heap } = resident;
    this.config = layout.config;
    this.context = layout.context;
    this.details = { kvDtype: layout.page.dtype, weightBytes: layout.weightBytes };
    this.dtype = options.dtype;
    this.routing = options.routing;
    this.#resident = resident;
    this.#store = new HeapPages(heap, layout);
    this.#pages = new Pages(this.#store.shape, this.#store);
    this.#sequences = new Sequences(this.#pages, { scope: "wasm", routing: options.routing, room: options.room });
  }

  get room(): number {
    return this.#sequences.room;
  }

  sequence(): Sequence {
    return this.#sequences.open();
  }

  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("forward", rows, signal, (job) => job.logits());
  }

  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("score", rows, signal, (job) => job.scores());
  }

  sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]> {
    return this.#call("sample", rows, signal, (job, tasks) =>
      tasks.map(({ sequence }, index) => {
        const { drawn, stopped, evaluated } = job.drawn(index);
        sequence.drew(drawn.ids, stopped, evaluated);
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

  /** Append the rows' tokens and run a job over what is pending. */
  #call<T>(
    verb: Verb,
    rows: readonly (Row & Partial<SampleRow>)[],
    signal: AbortSignal | undefined,
    read: (job: Job, tasks: readonly Task[]) => T[],
    inside = false,
  ): Promise<T[]> {
    const { heap, engine } = this.#resident!;
    return this.#sequences.call(verb, rows, async (tasks) => {
      const job = new Job(heap, this.#store, this.#store.address(this.#pages.used), this.routing, verb, tasks, inside);
      await this.#run(job, engine, signal, verb);
      return read(job, tasks);
    });
  }

  /** Work on the job in slices, each short enough for an abort to be noticed in time. */
  async #run(job: Job, engine: Engine, signal: AbortSignal | undefined, verb: Verb): Promise<void> {
    if (job.empty) return;
    const breath = new Breath(signal, "wasm");
    for (;;) {
      const { budget } = this.#pace;
      const start = performance.now();
      const status = await engine.run(job.at, budget);
      const duration = performance.now() - start;
      if (tracing()) trace({ scope: "wasm", kind: "submit", name: verb, start, duration });
      if (status === STATUS_NUMERICAL) throw numerical("wasm", job.failed);
      if (status !== STATUS_MORE) return;
      this.#pace.measured(budget, duration);
      await breath.pause();
    }
  }
}
