// What the author of a backend says of it: what it cannot do, how to count its crossings, its kernels one by one.
import type { Capabilities, Provider, Sampling } from "@doge-lm/core";
import type { OpenFixture } from "./fixtures.ts";

/** Counts what crosses between host and device since the last reset. */
export interface CrossingCounter {
  reset(): void;
  /** Entries into the device: calls of WASM exports that compute (of each thread, when several compute together), queue submits,
   *  launching C functions. */
  calls(): number;
  /** Bytes brought back: mapped, copied out, or read from the device's memory. */
  bytesOut?(): number;
}
export interface CrossingNotes {
  /** A provider of its own, whose every backend is counted by `counter`. */
  readonly provider: Provider;
  readonly counter: CrossingCounter;
  /** Entries that a chunk of n tokens may cost, where it is not one: CUDA launches one graph per token. */
  readonly perChunk?: ((tokens: number) => number) | undefined;
}

export type Numbers = Float32Array;
type Result = Numbers | Promise<Numbers>;

/** Matrices are row by row. A kernel that a package leaves out is not tested. */
export interface Kernels {
  /** x (rows, width), weight (width): y = weight * x / sqrt(mean(x^2) + epsilon), per row. */
  rmsnorm?(x: Numbers, weight: Numbers, epsilon: number): Result;
  /** x (rows, inner), weight (outer, inner), bias (outer) or null: y (rows, outer) = x · weightᵀ + bias. */
  matmul?(x: Numbers, weight: Numbers, bias: Numbers | null, rows: number, inner: number, outer: number): Result;
  /** x (heads, headDim) turned to `position` with default RoPE of base theta: pairs (i, i + headDim / 2). */
  rope?(x: Numbers, headDim: number, position: number, theta: number): Result;
  /** silu(gate) * up, elementwise. */
  swiglu?(gate: Numbers, up: Numbers): Result;
  /** One query head q (headDim) over keys and values (count, headDim), scores q·k / sqrt(headDim) + bias: y (headDim). */
  attention?(q: Numbers, keys: Numbers, values: Numbers, bias: Numbers, headDim: number): Result;
  /** Core's draw(). */
  draw?(
    logits: Numbers,
    ids: Int32Array,
    position: number,
    sampling: Sampling,
    allowed?: Uint32Array,
  ): number | Promise<number>;
}

/** A check by its name, or a whole ring, and why. */
export interface Note {
  readonly test: string;
  readonly reason: string;
}
/** What a backend's author says of it. Lists cannot rot: an entry that names no check fails, and so does a `failing` one that passes. */
export interface Notes {
  /** Never will work: skipped. */
  readonly unsupported?: readonly Note[] | undefined;
  /** Does not work yet: run, and expected to fail. */
  readonly failing?: readonly Note[] | undefined;
  /** How to count crossings between host and device. */
  readonly crossings?: CrossingNotes | undefined;
  /** Kernels as functions over plain arrays, compared with their definitions. */
  readonly kernels?: Kernels | undefined;
  /** Where fixtures come from; default: this package's folder on disk. */
  readonly fixtures?: OpenFixture | undefined;
}

/** What is under test, as far as it is known before anything is opened. */
export interface Subject {
  readonly provider: Provider;
  readonly can: Capabilities;
  readonly notes: Notes;
}
