// Model: the contract's verbs as calls of doge.h. Everything behind them, sequences and their keys included, is native.
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
import { aborted, trace, tracing } from "@doge-lm/core";
import {
  type Binding,
  FORWARD,
  INSPECT,
  INSPECT_INSIDE,
  type ModelHandle,
  type NativeRow,
  SAMPLE,
  SCORE,
  type SequenceHandle,
} from "./binding.ts";
import { fault } from "./faults.ts";

export interface ModelOptions {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
}

class CudaSequence implements Sequence {
  readonly #binding: Binding;
  readonly handle: SequenceHandle;

  constructor(binding: Binding, handle: SequenceHandle) {
    this.#binding = binding;
    this.handle = handle;
  }

  get length(): number {
    return this.#binding.length(this.handle);
  }

  fork(): Sequence {
    return new CudaSequence(
      this.#binding,
      told(() => this.#binding.fork(this.handle)),
    );
  }

  rewind(length: number): void {
    told(() => this.#binding.rewind(this.handle, length));
  }

  close(): void {
    this.#binding.closeSequence(this.handle);
  }
}

export class CudaModel implements Model {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly details: Details;
  readonly #binding: Binding;
  readonly #handle: ModelHandle;
  #closed = false;

  constructor(binding: Binding, handle: ModelHandle, { config, dtype, routing, context }: ModelOptions) {
    this.#binding = binding;
    this.#handle = handle;
    this.config = config;
    this.dtype = dtype;
    this.routing = routing;
    this.context = context;
    this.details = { kvDtype: dtype === "f32" ? "f32" : "f16", weightBytes: binding.bytes(handle) };
  }

  get room(): number {
    return this.#closed ? 0 : this.#binding.room(this.#handle);
  }

  sequence(): Sequence {
    return new CudaSequence(
      this.#binding,
      told(() => this.#binding.sequence(this.#handle)),
    );
  }

  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("forward", signal, () =>
      this.#binding.run(this.#handle, FORWARD, this.config.vocabSize, rows.map(plain)),
    );
  }

  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("score", signal, () =>
      this.#binding.run(this.#handle, SCORE, this.config.vocabSize, rows.map(plain)),
    );
  }

  sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]> {
    return this.#call("sample", signal, () =>
      this.#binding.run(this.#handle, SAMPLE, this.config.vocabSize, rows.map(drawing)),
    );
  }

  /** Names it has: "hidden", "logits", "layers.N.bias" and "layers.N.value". */
  inspect(
    rows: readonly Row[],
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, Tensor>[]> {
    const verb = names.some((name) => name.startsWith("layers.")) ? INSPECT_INSIDE : INSPECT;
    const wanted = new Set(names);
    return this.#call("inspect", signal, async () => {
      const all = await this.#binding.run(this.#handle, verb, this.config.vocabSize, rows.map(plain));
      return all.map((tensors) => new Map(Object.entries(tensors).filter(([name]) => wanted.has(name))));
    });
  }

  close(): void {
    this.#closed = true;
    this.#binding.closeModel(this.#handle);
  }

  async #call<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (signal?.aborted) throw aborted(signal, "cuda");
    const stop = () => this.#binding.abort(this.#handle);
    const start = performance.now();
    try {
      const running = work();
      signal?.addEventListener("abort", stop, { once: true });
      return await running;
    } catch (error) {
      throw fault(error, signal);
    } finally {
      signal?.removeEventListener("abort", stop);
      if (tracing()) trace({ scope: "cuda", kind: "submit", name, start, duration: performance.now() - start });
    }
  }
}

const handleOf = (sequence: Sequence): SequenceHandle => (sequence as CudaSequence).handle;
const plain = ({ sequence, tokens }: Row): NativeRow => ({ sequence: handleOf(sequence), tokens });

function drawing({ sequence, tokens, count, sampling, allowed, alternatives = -1 }: SampleRow): NativeRow {
  const { stop, ...options } = sampling;
  return {
    sequence: handleOf(sequence),
    tokens,
    count,
    alternatives,
    ...options,
    stop: Int32Array.from(stop),
    allowed,
  };
}

/** `work`, with what it throws as the contract's errors. */
function told<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw fault(error);
  }
}
