// A backend that outlives its device: when the device is lost, another is opened, the weights are loaded again, and sequences are
// evaluated anew from their ids, which are all that a sequence is. The call that met the loss then runs once more; draws keep no
// state, so it gives what it would have given. Backends hold none of this: they say "device-lost" and are done.
import type {
  Backend,
  Capabilities,
  Drawn,
  Floats,
  LoadOptions,
  Model,
  Provider,
  Row,
  SampleRow,
  Sequence,
  Tensor,
} from "./backend.ts";
import { checked } from "./checked.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { isDogeError } from "./errors.ts";
import { defaultSampling } from "./sampling.ts";
import { Timeline } from "./timeline.ts";

/** A checkpoint that can be had again when the files of this one are closed. */
export interface LastingCheckpoint extends Checkpoint {
  reopen(): Promise<Checkpoint & { close(): Promise<void> }>;
}

/** More losses than this within the span, and the fault is not one that passes. */
const MOST_LOSSES = 2;
const SPAN_MS = 5 * 60_000;

export interface RecoveryOptions {
  /** Told of every loss that is being survived: why, in the words of the error. */
  readonly onLoss?: ((error: unknown) => void) | undefined;
  /** Milliseconds; default performance.now. */
  readonly now?: (() => number) | undefined;
}

/** A provider whose backends survive the loss of their device, at most twice in five minutes; then "device-lost" comes through.
 *  A device that somebody destroyed on purpose (an error with the cause reason "destroyed") is not brought back. Its models do not
 *  train: what a trainer changed cannot be loaded again. */
export function recovering(provider: Provider, options: RecoveryOptions = {}): Provider {
  return {
    name: provider.name,
    probe: () => provider.probe(),
    open: async (signal) => checked(new RecoveringBackend(provider, await provider.open(signal), options)),
  };
}

/** Whether an error, or one of its causes, says that the device was destroyed on purpose. */
function wasDestroyed(error: unknown): boolean {
  for (let at = error; typeof at === "object" && at !== null; at = (at as { cause?: unknown }).cause) {
    if ((at as { reason?: unknown }).reason === "destroyed") return true;
  }
  return false;
}

class RecoveringBackend implements Backend {
  readonly name: string;
  readonly can: Capabilities;
  /** Grows with every device: a model of an earlier one is loaded again before it is used. */
  generation = 0;
  readonly #provider: Provider;
  readonly #options: RecoveryOptions;
  #inner: Backend;
  #losses: number[] = [];

  constructor(provider: Provider, inner: Backend, options: RecoveryOptions) {
    this.#provider = provider;
    this.#inner = inner;
    this.#options = options;
    this.name = inner.name;
    this.can = { ...inner.can, trains: false };
  }

  get inner(): Backend {
    return this.#inner;
  }

  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    const model = await this.surviving(() => this.#inner.load(checkpoint, options));
    return new RecoveringModel(this, model, checkpoint, options);
  }

  /** `work`, and once more on another device when the first is lost meanwhile. Errors: those of `work`; "device-lost" when it is
   *  not to be survived. */
  async surviving<T>(work: () => Promise<T>): Promise<T> {
    const { generation } = this;
    try {
      return await work();
    } catch (error) {
      if (!isDogeError(error, "device-lost")) throw error;
      // Another model of this backend may have met the same loss before.
      if (this.generation === generation) await this.#replace(error);
      return work();
    }
  }

  async #replace(error: unknown): Promise<void> {
    const now = (this.#options.now ?? (() => performance.now()))();
    this.#losses = this.#losses.filter((at) => now - at < SPAN_MS);
    if (wasDestroyed(error) || this.#losses.length >= MOST_LOSSES) throw error;
    this.#losses.push(now);
    this.#options.onLoss?.(error);
    await this.#inner.close().catch(() => {});
    try {
      this.#inner = await this.#provider.open();
    } catch {
      throw error; // no other device: what happened is that this one was lost
    }
    this.generation++;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

class RecoveringModel implements Model {
  readonly config: Model["config"];
  readonly dtype: Model["dtype"];
  readonly routing: Model["routing"];
  readonly context: number;
  readonly backend: RecoveringBackend;
  readonly #checkpoint: Checkpoint;
  readonly #options: LoadOptions;
  #inner: Model;
  #generation: number;

  constructor(backend: RecoveringBackend, inner: Model, checkpoint: Checkpoint, options: LoadOptions) {
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

  get inner(): Model {
    return this.#inner;
  }
  get generation(): number {
    return this.#generation;
  }

  sequence(): Sequence {
    return new RecoveringSequence(this, new Timeline(this.routing), this.#inner.sequence());
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
    const result = await this.backend.surviving(async () => {
      await this.#reload(signal);
      const inner = [];
      for (const row of rows)
        inner.push({ ...row, sequence: await (row.sequence as RecoveringSequence).ready(signal) });
      return work(inner);
    });
    for (const { sequence, tokens } of rows) timelineOf(sequence).append(tokens);
    return result;
  }

  /** On a new device: the weights once more. */
  async #reload(signal: AbortSignal | undefined): Promise<void> {
    if (this.#generation === this.backend.generation) return;
    const { generation, inner } = this.backend;
    const options = { ...this.#options, signal };
    const lasting = this.#checkpoint as Partial<LastingCheckpoint>;
    if (lasting.reopen === undefined) this.#inner = await inner.load(this.#checkpoint, options);
    else {
      const again = await lasting.reopen();
      try {
        this.#inner = await inner.load(again, options);
      } finally {
        await again.close();
      }
    }
    this.#generation = generation;
  }
}

const timelineOf = (sequence: Sequence): Timeline => (sequence as RecoveringSequence).timeline;

class RecoveringSequence implements Sequence {
  readonly timeline: Timeline;
  readonly #model: RecoveringModel;
  #inner: Sequence;
  #generation: number;

  constructor(model: RecoveringModel, timeline: Timeline, inner: Sequence, generation = model.generation) {
    this.#model = model;
    this.timeline = timeline;
    this.#inner = inner;
    this.#generation = generation;
  }

  get length(): number {
    return this.timeline.length;
  }

  /** The sequence on the present device: its ids are appended in the calls in which they once came. */
  async ready(signal: AbortSignal | undefined): Promise<Sequence> {
    const model = this.#model;
    if (this.#generation === model.generation) return this.#inner;
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
    const current = this.#generation === this.#model.generation;
    // What is not on the present device yet has nothing to share: its fork comes from its ids as well.
    const inner = current ? this.#inner.fork() : this.#inner;
    return new RecoveringSequence(this.#model, this.timeline.fork(), inner, this.#generation);
  }

  rewind(length: number): void {
    if (length >= this.timeline.length) return;
    this.timeline.rewind(length);
    if (this.#generation === this.#model.generation) this.#inner.rewind(length);
  }

  close(): void {
    if (this.#generation === this.#model.generation) this.#inner.close();
  }
}
