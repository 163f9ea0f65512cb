// THE CONTRACT. Types only: all that a backend implements and a caller needs. Semantics S1 to S5: docs/contract.md.
import type { Floats, Tokens } from "./arrays.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { Config } from "./config.ts";
import type { Example, TrainOptions } from "./training.ts";

export type { Floats, Tokens } from "./arrays.ts";

/** How weights are held, converted while loading. q8 and q4 are the numbers core's quantize() gives, on every backend.
 *  Under f32 the arithmetic and the cache are f32; the others may round activations and keep a narrower cache (never narrower biases). */
export type DType = "f32" | "bf16" | "q8" | "q4";
export type Routing = "reference" | "per-token";

/** What a backend can do on this machine. Plain data: print it, compare it, gate tests on it. */
export interface Capabilities {
  /** For people: "wasm simd128 x8", "NVIDIA H200". */
  readonly device: string;
  readonly dtypes: readonly DType[];
  /** Whether models have a trainer(). */
  readonly trains: boolean;
  /** CPU threads that a call uses; none: 1, or not a CPU. */
  readonly threads?: number | undefined;
  readonly details?: Details | undefined;
  /** What keeps it from its best here, each a whole sentence with the way out. */
  readonly warnings?: readonly string[] | undefined;
}
/** Facts for reports, that no program may need. Of a device: binary ("relaxed"), revectorized, processor ("gpu" where it is not
 *  this machine's CPU). Of a model: kvDtype ("bf16": how keys and values are held), weightBytes (what the weights take as held). */
export type Details = Readonly<Record<string, string | number | boolean>>;
/** Absence is an answer, with a reason a person can act on. A throw is a fault: it should have worked. */
export type Availability =
  | ({ readonly available: true } & Capabilities)
  | { readonly available: false; readonly code: string; readonly why: string };

/** What a backend package's factory returns: wasm(options), cuda(options). Making one touches nothing. */
export interface Provider {
  /** The short name of the backend: "wasm". */
  readonly name: string;
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
  /** Default "f32". */
  readonly dtype?: DType | undefined;
  /** Mixture of experts only; default "reference". */
  readonly routing?: Routing | undefined;
  /** Longest sequence; default the config's maximum. */
  readonly context?: number | undefined;
  /** Tokens of all sequences together; default at least one context. */
  readonly room?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Weights resident on a device. A verb takes several rows and reads the weights once for all of them. Calls, forks, rewinds
 *  and closes take effect in the order made; none needs awaiting. A call happens whole or, when it rejects, not at all; those
 *  made behind it before it rejected, on its sequences or on theirs, reject with "superseded", and after a close "closed". */
export interface Model {
  readonly config: Config;
  readonly dtype: DType;
  /** How tokens are routed to experts; "per-token" when dense. */
  readonly routing: Routing;
  /** Tokens one sequence may hold. */
  readonly context: number;
  readonly details?: Details | undefined;
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
  /** Each sequence at most once in a call. */
  readonly sequence: Sequence;
  /** May be empty, except on an empty sequence: go on from the last token. */
  readonly tokens: Tokens;
}
export interface SampleRow extends Row {
  /** Ids to draw at most; 0: only append. */
  readonly count: number;
  readonly sampling: Sampling;
  /** Ids that may be drawn, for every draw of this call: bit id & 31 of word id >> 5; none: all. */
  readonly allowed?: Uint32Array<ArrayBuffer> | undefined;
  /** 0: ln p of each id drawn too; k <= 20: and the k most likely at its place. */
  readonly alternatives?: number | undefined;
}
/** Fewer ids than `count`: a stop id (the last one here, or earlier), nothing allowed, or the context is full. */
export interface Drawn {
  readonly ids: Tokens;
  /** ln p of each id, as score() gives them: before penalty, temperature and filters; empty unless asked. */
  readonly logprobs: Floats;
  /** (ids.length, alternatives), most likely first; empty unless asked. */
  readonly topIds: Tokens;
  readonly topLogprobs: Floats;
}
/** How to draw. A draw depends on its logits, this, what is allowed, the tokens before it and its position: nothing else. */
export interface Sampling {
  /** Divides the logits; 0: the most likely token, the lowest id on a tie. */
  readonly temperature: number;
  /** Keep the k most likely; 0: all. */
  readonly topK: number;
  /** Keep the most likely until their sum reaches this; 1: all. */
  readonly topP: number;
  /** Drop tokens under minP times the most likely. */
  readonly minP: number;
  /** Divides positive logits, multiplies negative ones, of every id in the sequence; 1: none. */
  readonly repetitionPenalty: number;
  /** An unsigned 32-bit integer. */
  readonly seed: number;
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
