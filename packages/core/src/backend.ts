// THE CONTRACT. Types only: all that a backend implements and a caller needs. Semantics S1 to S5: docs/contract.md.
import type { Checkpoint } from "./checkpoint.ts";
import type { Config } from "./config.ts";
import type { Example, TrainOptions } from "./training.ts";

/** Arrays passed in are read before the call returns; arrays returned are the caller's, never views of a device's memory. */
export type Tokens = Int32Array<ArrayBuffer>;
export type Floats = Float32Array<ArrayBuffer>;
/** How weights are held, converted while loading. q8 and q4 are the numbers core's quantize() gives, on every backend.
 *  Under f32 the arithmetic and the cache are f32; the others may round activations and keep a bf16 cache (never bf16 biases). */
export type DType = "f32" | "bf16" | "q8" | "q4";
export type Routing = "reference" | "per-token";

/** What a backend can do on this machine. Plain data: print it, compare it, gate tests on it. */
export interface Capabilities {
  readonly device: string; // "wasm simd128 x8", "NVIDIA H200"
  readonly dtypes: readonly DType[];
  readonly trains: boolean; // models have a trainer()
  readonly threads?: number | undefined; // CPU threads that a call uses; none: 1, or not a CPU
  readonly warnings?: readonly string[] | undefined; // what keeps it from its best here, each with the way out
}
/** Absence is an answer, with a reason a person can act on. A throw is a fault: it should have worked. */
export type Availability =
  | ({ readonly available: true } & Capabilities)
  | { readonly available: false; readonly code: string; readonly why: string };

/** What a backend package's factory returns: wasm(options), cuda(options). Making one touches nothing. */
export interface Provider {
  readonly name: string; // "wasm"
  probe(): Promise<Availability>;
  /** Rejects with probe's code and why when not available. */
  open(signal?: AbortSignal): Promise<Backend>;
}
/** Once anything rejects with "device-lost" the backend and all it made are dead: every call says so, only close() works. */
export interface Backend {
  readonly name: string;
  readonly can: Capabilities;
  /** Put the weights on the device. They cross once, here, a piece at a time. */
  load(checkpoint: Checkpoint, options?: LoadOptions): Promise<Model>;
  close(): Promise<void>;
}
export interface LoadOptions {
  readonly dtype?: DType | undefined; // default "f32"
  readonly routing?: Routing | undefined; // mixture of experts only; default "reference"
  readonly context?: number | undefined; // longest sequence; default the config's maximum
  readonly room?: number | undefined; // tokens of all sequences together; default at least one context
  readonly signal?: AbortSignal | undefined;
}

/** Weights resident on a device. A verb takes several rows and reads the weights once for all of them. Calls, forks, rewinds
 *  and closes take effect in the order made; none needs awaiting. A call happens whole or, when it rejects, not at all; those
 *  made behind it before it rejected, on its sequences or on theirs, reject with "superseded", and after a close "closed". */
export interface Model {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing; // "per-token" when dense
  readonly context: number; // tokens one sequence may hold
  /** Tokens that still fit, all sequences together, shared pasts once; as of the last call resolved. A guide for
   *  admission: a call that does not fit rejects with "no-room" before anything runs. */
  readonly room: number;
  /** A new, empty sequence. */
  sequence(): Sequence;
  /** Append each row's tokens; the logits that follow its last one. */
  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]>;
  /** Append; ln p of every appended token given all before it (0 for a sequence's first). Logits stay put. */
  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]>;
  /** Append, then draw up to `count` more on the device. Only what was drawn comes back. */
  sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]>;
  /** Append and look inside, however slowly: per row the named tensors, shaped as docs/model.md says. "hidden" and "logits",
   *  of every appended token, always; others, such as "layers.3.bias", where the backend has them; the rest is left out. */
  inspect(rows: readonly Row[], names: readonly string[], signal?: AbortSignal): Promise<ReadonlyMap<string, Tensor>[]>;
  /** Train these very weights, loaded as f32; `state` is what an earlier trainer saved, on any backend. */
  trainer?(options: TrainOptions, state?: Checkpoint): Promise<Trainer>;
  close(): void;
}
/** Tokens and their cache. */
export interface Sequence {
  /** Tokens as of the last call resolved: every one passed in or returned. */
  readonly length: number;
  /** A second sequence with the same past, shared until either changes it. */
  fork(): Sequence;
  /** Forget all but the first `length` tokens; nothing, when there are no more. */
  rewind(length: number): void;
  close(): void;
}
export interface Row {
  readonly sequence: Sequence; // at most once in a call
  readonly tokens: Tokens; // may be empty, except on an empty sequence: go on from the last token
}
export interface SampleRow extends Row {
  readonly count: number; // 0: only append
  readonly sampling: Sampling;
  readonly allowed?: Uint32Array<ArrayBuffer> | undefined; // bit id & 31 of word id >> 5, for every draw of this call; none: all
  readonly alternatives?: number | undefined; // 0: ln p of each id drawn too; k <= 20: and the k most likely
}
/** Fewer ids than `count`: a stop id (the last one here, or earlier), nothing allowed, or the context is full. */
export interface Drawn {
  readonly ids: Tokens;
  readonly logprobs: Floats; // as score() gives them: before penalty, temperature and filters; empty unless asked
  readonly topIds: Tokens; // ids.length x alternatives, most likely first; empty unless asked
  readonly topLogprobs: Floats;
}
/** How to draw. A draw depends on its logits, this, what is allowed, the tokens before it and its position: nothing else. */
export interface Sampling {
  readonly temperature: number; // 0: the most likely token, the lowest id on a tie
  readonly topK: number; // 0: all
  readonly topP: number; // 1: all
  readonly minP: number; // drop tokens under minP times the most likely
  readonly repetitionPenalty: number; // 1: none; on every id in the sequence
  readonly seed: number; // an unsigned 32-bit integer
  /** Ids that end the text. The one met is returned and holds: rows without tokens then draw nothing, until tokens are
   *  appended or it is rewound. */
  readonly stop: readonly number[];
}
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Floats;
}
/** Gradients and moments beside the model's weights, on the device. Its calls queue with the model's. */
export interface Trainer {
  /** Add the gradient of -Σ weight · ln p; Σ weight · ln p of each example. A rejection drops all since the last update. */
  accumulate(examples: readonly Example[], signal?: AbortSignal): Promise<Floats>;
  /** One optimizer step; the gradient's norm before clipping. Sequences made before it then reject with "stale". */
  update(rate: number): Promise<number>;
  /** Weights, moments and step count: load() reads the weights of it, trainer() resumes from it. */
  save(): Promise<Checkpoint>;
  close(): void;
}
