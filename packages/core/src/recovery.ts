// A backend that outlives its device: when the device is lost, another is opened, the weights are loaded again, and sequences are
// evaluated anew from their ids, which are all that a sequence is. The call that met the loss then runs once more; draws keep no
// state, so it gives what it would have given. Where it knows successors it outlives itself too: one of them takes over, once, in the
// same way. Backends hold none of this: they say "device-lost" and are done.
import type {
  Backend,
  Capabilities,
  Details,
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
import { DogeError, type ErrorCode, isDogeError } from "./errors.ts";
import { defaultSampling } from "./sampling.ts";
import { sentenceOf } from "./sentence.ts";
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

/** What was survived: the device was lost and `to` is `from`, opened again; or the backend `to` took over. */
export interface Fallback {
  readonly kind: "reopened" | "replaced";
  readonly from: string;
  readonly to: string;
  readonly error: unknown;
  /** The same as a whole sentence. */
  readonly message: string;
}

/** A backend that may take over. */
export interface Successor {
  readonly provider: Provider;
  /** Too slow to be of use where only memory was short. */
  readonly spare: boolean;
}

interface Survival {
  readonly provider: Provider;
  readonly successors: readonly Successor[];
  readonly now?: (() => number) | undefined;
  readonly onLoss?: ((error: unknown) => void) | undefined;
  readonly onFallback?: ((fallback: Fallback) => void) | undefined;
}

/** A provider whose backends survive the loss of their device, at most twice in five minutes; then "device-lost" comes through.
 *  A device that somebody destroyed on purpose (an error with the cause reason "destroyed") is not brought back. Its models do not
 *  train: what a trainer changed cannot be loaded again. */
export function recovering(provider: Provider, options: RecoveryOptions = {}): Provider {
  return {
    name: provider.name,
    probe: () => provider.probe(),
    open: async (signal) =>
      checked(new RecoveringBackend(await provider.open(signal), { ...options, provider, successors: [] })),
  };
}

/** `backend`, which `provider` opened, surviving as recovering() does; and where that is not enough, or it fails in another way, the
 *  first of the successors that opens takes over. That happens once: what fails after it rejects with "device-lost". */
export function outliving(
  backend: Backend,
  provider: Provider,
  successors: readonly Successor[],
  options: Pick<Survival, "onFallback" | "now"> = {},
): Backend {
  return checked(new RecoveringBackend(backend, { ...options, provider, successors }));
}

/** Whether an error, or one of its causes, says that the device was destroyed on purpose. */
function wasDestroyed(error: unknown): boolean {
  for (let at = error; typeof at === "object" && at !== null; at = (at as { cause?: unknown }).cause) {
    if ((at as { reason?: unknown }).reason === "destroyed") return true;
  }
  return false;
}

/** What a backend that loads a model may say without being at fault, when another may still be able to. */
const refusals: readonly ErrorCode[] = ["out-of-memory", "unsupported", "unsupported-layout", "known-answer"];

class RecoveringBackend implements Backend {
  /** Grows with every device: a model of an earlier one is loaded again before it is used. */
  generation = 0;
  can: Capabilities;
  readonly #survival: Survival;
  readonly #losses: number[] = [];
  readonly #closed = new WeakSet<Backend>();
  #provider: Provider;
  #inner: Backend;
  #loaded = false;
  #replacing: Promise<void> | undefined;
  /** Those that have not been tried. */
  #successors: readonly Successor[];
  /** What was said of the one that failed before the present one took over. */
  #replaced: string | undefined;

  constructor(inner: Backend, survival: Survival) {
    this.#inner = inner;
    this.#survival = survival;
    this.#provider = survival.provider;
    this.#successors = survival.successors;
    this.can = { ...inner.can, trains: false };
  }

  get name(): string {
    return this.#inner.name;
  }
  get inner(): Backend {
    return this.#inner;
  }

  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    // What reading throws is the fault of no backend.
    const reading = noted(checkpoint);
    const model = await this.surviving(
      () => this.#inner.load(reading.checkpoint, options),
      (error) => !reading.faults.has(error) && (this.isFault(error) || this.#isRefusal(error)),
    );
    this.#loaded = true;
    return new RecoveringModel(this, model, checkpoint, options);
  }

  /** `work`, and again on what takes the place of a device or a backend that fails meanwhile. Errors: those of `work`; "device-lost"
   *  when it is not to be survived. */
  async surviving<T>(work: () => Promise<T>, survivable = (error: unknown) => this.isFault(error)): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      const { generation } = this;
      try {
        return await work();
      } catch (error) {
        if (!survivable(error)) throw error;
        // Another model of this backend may have met the same fault, before or now.
        if (this.generation !== generation) continue;
        this.#replacing ??= this.#replace(error, attempt > 0).finally(() => {
          this.#replacing = undefined;
        });
        await this.#replacing;
      }
    }
  }

  /** The device is lost; or, where there are successors, anything that no call should end with. */
  isFault(error: unknown): boolean {
    if (isDogeError(error)) return error.code === "device-lost";
    return this.#survival.successors.length > 0;
  }

  /** It cannot have this model, and another may; the models that it has already stay where they are. */
  #isRefusal(error: unknown): boolean {
    if (this.#loaded || this.#replaced !== undefined || this.#next(error).length === 0) return false;
    return isDogeError(error) && refusals.includes(error.code);
  }

  #next(error: unknown): readonly Successor[] {
    return isDogeError(error, "out-of-memory") ? this.#successors.filter(({ spare }) => !spare) : this.#successors;
  }

  async #replace(error: unknown, again: boolean): Promise<void> {
    if (wasDestroyed(error)) throw error;
    if (isDogeError(error, "device-lost") && !again && (await this.#reopen(error))) return;
    await this.#handOver(error);
  }

  /** The same backend on another device, if that is to be had and not too many were lost. */
  async #reopen(error: unknown): Promise<boolean> {
    const now = (this.#survival.now ?? (() => performance.now()))();
    while (this.#losses.length > 0 && now - this.#losses[0]! >= SPAN_MS) this.#losses.shift();
    if (this.#losses.length >= MOST_LOSSES) return false;
    this.#losses.push(now);
    this.#survival.onLoss?.(error);
    await this.#close(this.#inner);
    const opened = await this.#provider.open().catch(() => undefined);
    if (opened === undefined) return false; // no other device: what happened is that this one was lost
    this.#become(opened, error, "reopened");
    return true;
  }

  /** Another backend takes over: while nothing is loaded, as many as there are; later once. */
  async #handOver(error: unknown): Promise<void> {
    const said = `The backend ${this.#inner.name} failed: ${sentenceOf(error)}`;
    if (this.#replaced !== undefined) {
      throw new DogeError("device-lost", `${this.#replaced} ${said} Load the model again.`, { cause: error });
    }
    for (const successor of this.#next(error)) {
      this.#successors = this.#successors.slice(this.#successors.indexOf(successor) + 1);
      const opened = await successor.provider.open().catch(() => undefined);
      if (opened === undefined) continue;
      void this.#close(this.#inner);
      this.#provider = successor.provider;
      this.#become(opened, error, "replaced");
      if (this.#loaded) this.#replaced = said;
      return;
    }
    if (isDogeError(error)) throw error;
    throw new DogeError("device-lost", `${said} No other backend opens: load the model again.`, { cause: error });
  }

  #become(opened: Backend, error: unknown, kind: Fallback["kind"]): void {
    const from = this.#inner.name;
    const to = opened.name;
    this.#inner = opened;
    this.can = { ...opened.can, trains: false };
    this.generation++;
    const what = kind === "reopened" ? "was opened again" : `${to} (${opened.can.device}) takes over`;
    const kept = this.#loaded ? "; what was said so far is kept" : "";
    const message = `The backend ${from} failed, and ${kind === "reopened" ? "it " : ""}${what}${kept}. The fault: ${sentenceOf(error)}`;
    this.#survival.onFallback?.({ kind, from, to, error, message });
  }

  close(): Promise<void> {
    return this.#closed.has(this.#inner) ? Promise.resolve() : this.#inner.close();
  }

  /** One that failed need not even close well. */
  async #close(backend: Backend): Promise<void> {
    if (this.#closed.has(backend)) return;
    this.#closed.add(backend);
    await backend.close().catch(() => {});
  }
}

/** The checkpoint, and what reading it threw. */
function noted(
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
