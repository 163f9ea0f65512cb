// Models and sequences that outlive their device: weights are loaded again from the checkpoint, sequences are evaluated anew from
// their ids. When, and on what, is recovery.ts' to say.
import type {
  Backend,
  Details,
  Drawn,
  Floats,
  LoadOptions,
  Model,
  Row,
  SampleRow,
  Sequence,
  Tensor,
} from "../backend.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { defaultSampling } from "../sampling/sampling.ts";
import { Timeline } from "./timeline.ts";

/** A checkpoint that can be had again when the files of this one are closed. */
export interface LastingCheckpoint extends Checkpoint {
  reopen(): Promise<Checkpoint & { close(): Promise<void> }>;
}

/** The backend of such models, as they see it. */
export interface Survivor {
  /** Grows with every device. */
  readonly generation: number;
  /** What computes now. */
  readonly inner: Backend;
  isFault(error: unknown): boolean;
  /** `work`, and again on what takes the place of a device or a backend that fails meanwhile. */
  surviving<T>(work: () => Promise<T>, survivable?: (error: unknown) => boolean): Promise<T>;
}

/** The checkpoint, and what reading it threw. */
export function noted(
  checkpoint: Checkpoint,
  faults = new Set<unknown>(),
): { readonly checkpoint: Checkpoint; readonly faults: ReadonlySet<unknown> } {
  const read: Checkpoint["read"] = (...args) =>
    checkpoint.read(...args).catch((error) => {
      faults.add(error);
      throw error;
    });
  return { checkpoint: { config: checkpoint.config, tensors: checkpoint.tensors, read }, faults };
}

export class RecoveringModel implements Model {
  readonly config: Model["config"];
  readonly dtype: Model["dtype"];
  readonly routing: Model["routing"];
  readonly context: number;
  readonly backend: Survivor;
  readonly #checkpoint: Checkpoint;
  readonly #options: LoadOptions;
  #inner: Model;
  #generation: number;

  constructor(backend: Survivor, inner: Model, checkpoint: Checkpoint, options: LoadOptions) {
    this.backend = backend;
    this.#inner = inner;
    this.#generation = backend.generation;
    this.#checkpoint = checkpoint;
    const { signal: _, ...lasting } = options;
    this.#options = lasting;
    this.config = inner.config;
    this.dtype = inner.dtype;
    this.routing = inner.routing;
    this.context = inner.context;
  }

  get room(): number {
    return this.#inner.room;
  }
  get details(): Details | undefined {
    return this.#inner.details;
  }

  get inner(): Model {
    return this.#inner;
  }
  get generation(): number {
    return this.#generation;
  }

  sequence(): Sequence {
    return new RecoveringSequence(this, new Timeline(this.routing));
  }

  async forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call(rows, signal, (inner) => this.#inner.forward(inner, signal));
  }

  async score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call(rows, signal, (inner) => this.#inner.score(inner, signal));
  }

  async inspect(
    rows: readonly Row[],
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, Tensor>[]> {
    return this.#call(rows, signal, (inner) => this.#inner.inspect(inner, names, signal));
  }

  async sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]> {
    const held = rows.map(({ sequence, tokens }) => timelineOf(sequence).held && tokens.length === 0);
    const drawn = await this.#call(rows, signal, (inner) =>
      // A stop id holds, and ids that were evaluated anew have forgotten that they were drawn.
      this.#inner.sample(
        inner.map((row, index) => (held[index] ? { ...row, count: 0 } : row)),
        signal,
      ),
    );
    rows.forEach(({ sequence, sampling }, index) => {
      const timeline = timelineOf(sequence);
      const { ids } = drawn[index]!;
      for (const id of ids) timeline.append([id]);
      if (ids.length > 0) timeline.held = sampling.stop.includes(ids.at(-1)!);
    });
    return drawn;
  }

  close(): void {
    this.#inner.close();
  }

  async #call<R extends Row, T>(
    rows: readonly R[],
    signal: AbortSignal | undefined,
    work: (rows: readonly R[]) => Promise<T>,
  ): Promise<T> {
    const unreadable = new Set<unknown>();
    const result = await this.backend.surviving(
      async () => {
        await this.#reload(signal, unreadable);
        const inner = [];
        for (const row of rows)
          inner.push({ ...row, sequence: await (row.sequence as RecoveringSequence).ready(signal) });
        return work(inner);
      },
      (error) => !unreadable.has(error) && this.backend.isFault(error),
    );
    for (const { sequence, tokens } of rows) timelineOf(sequence).append(tokens);
    return result;
  }

  /** On a new device: the weights once more. `unreadable` gets what reading them throws, which no device is to blame for. */
  async #reload(signal: AbortSignal | undefined, unreadable: Set<unknown>): Promise<void> {
    if (this.#generation === this.backend.generation) return;
    const { generation, inner } = this.backend;
    const lasting = this.#checkpoint as Partial<LastingCheckpoint>;
    const again = await lasting.reopen?.().catch((error) => {
      unreadable.add(error);
      throw error;
    });
    const reading = noted(again ?? this.#checkpoint, unreadable);
    try {
      this.#inner = await inner.load(reading.checkpoint, { ...this.#options, signal });
    } finally {
      await again?.close();
    }
    this.#generation = generation;
  }
}

const timelineOf = (sequence: Sequence): Timeline => (sequence as RecoveringSequence).timeline;

class RecoveringSequence implements Sequence {
  readonly timeline: Timeline;
  readonly #model: RecoveringModel;
  /** On the device of `#generation`; none is there before the first call. */
  #inner: Sequence | undefined;
  #generation: number;

  constructor(model: RecoveringModel, timeline: Timeline, inner?: Sequence, generation = model.generation) {
    this.#model = model;
    this.timeline = timeline;
    this.#inner = inner;
    this.#generation = generation;
  }

  get length(): number {
    return this.timeline.length;
  }

  /** That on the present device, if there is one. */
  get #current(): Sequence | undefined {
    const { generation, backend } = this.#model;
    return this.#generation === generation && generation === backend.generation ? this.#inner : undefined;
  }

  /** The sequence on the present device: its ids are appended in the calls in which they once came. */
  async ready(signal: AbortSignal | undefined): Promise<Sequence> {
    const current = this.#current;
    if (current !== undefined) return current;
    const model = this.#model;
    const fresh = model.inner.sequence();
    const { timeline } = this;
    timeline.evaluatedTo(0);
    for (const { from, to } of timeline.pending()) {
      const row = { sequence: fresh, tokens: timeline.ids.slice(from, to), count: 0, sampling: defaultSampling };
      await model.inner.sample([row as SampleRow], signal);
    }
    this.#inner = fresh;
    this.#generation = model.generation;
    return fresh;
  }

  fork(): Sequence {
    // What is not on the present device has nothing to share: its fork comes from its ids as well.
    return new RecoveringSequence(this.#model, this.timeline.fork(), this.#current?.fork(), this.#generation);
  }

  rewind(length: number): void {
    if (length >= this.timeline.length) return;
    this.timeline.rewind(length);
    this.#current?.rewind(length);
  }

  close(): void {
    this.#current?.close();
  }
}
