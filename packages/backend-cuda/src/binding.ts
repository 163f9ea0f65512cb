// The compiled half as JavaScript sees it: the functions of native/addon.cc, which are those of native/doge.h.
import { createRequire } from "node:module";
import type { Drawn, Floats, Tokens } from "@doge-lm/core";

declare const kind: unique symbol;
/** What the native side holds; only ever handed back to it. */
type Handle<Kind extends string> = { readonly [kind]: Kind };
export type DeviceHandle = Handle<"device">;
export type ModelHandle = Handle<"model">;
export type SequenceHandle = Handle<"sequence">;

export const FORWARD = 0;
export const SCORE = 1;
export const SAMPLE = 2;
export const INSPECT = 3;
/** Inspect, layers included. */
export const INSPECT_INSIDE = 4;

/** One row of a call, as native/addon.cc reads it. */
export interface NativeRow {
  readonly sequence: SequenceHandle;
  readonly tokens: Tokens;
  readonly count?: number;
  /** -1: no log-probabilities. */
  readonly alternatives?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
  readonly stop?: Tokens;
  readonly allowed?: Uint32Array | undefined;
}

interface NativeTensor {
  readonly shape: readonly number[];
  readonly data: Floats;
}

/** What a probe of the driver says (native/probe.cu). */
export interface NativeProbe {
  readonly available: boolean;
  readonly reason: string;
  readonly why: string;
  readonly name: string;
  readonly driver: number;
  readonly runtime: number;
  readonly capability: number;
}

/** Functions throw an Error whose `code` is one of the contract's; `run` rejects with one. */
export interface Binding {
  readonly abi: number;
  probe(device: number, driver?: string): NativeProbe;
  open(device: number): DeviceHandle;
  closeDevice(device: DeviceHandle): void;
  /** doge_counts of native/doge.h, in its order. */
  counts(device: DeviceHandle): Float64Array;
  /** Most bytes read, and multiply-adds in f32 and on tensor cores, in a second: doge_device_rates. */
  rates(device: DeviceHandle, bytes: number, effort: number): Float64Array;
  create(device: DeviceHandle, config: Float64Array): ModelHandle;
  write(model: ModelHandle, name: string, values: Floats): void;
  ready(model: ModelHandle): void;
  closeModel(model: ModelHandle): void;
  /** What the weights take as held. */
  bytes(model: ModelHandle): number;
  room(model: ModelHandle): number;
  abort(model: ModelHandle): void;
  sequence(model: ModelHandle): SequenceHandle;
  fork(sequence: SequenceHandle): SequenceHandle;
  rewind(sequence: SequenceHandle, length: number): void;
  closeSequence(sequence: SequenceHandle): void;
  length(sequence: SequenceHandle): number;
  run(
    model: ModelHandle,
    verb: typeof FORWARD | typeof SCORE,
    vocabulary: number,
    rows: readonly NativeRow[],
  ): Promise<Floats[]>;
  run(model: ModelHandle, verb: typeof SAMPLE, vocabulary: number, rows: readonly NativeRow[]): Promise<Drawn[]>;
  run(
    model: ModelHandle,
    verb: typeof INSPECT | typeof INSPECT_INSIDE,
    vocabulary: number,
    rows: readonly NativeRow[],
  ): Promise<Record<string, NativeTensor>[]>;
}

/** Single kernels over plain arrays, matrices row by row: for tests. Each but draw writes into its second argument. */
export interface BindingWithKernels extends Binding {
  kernelRmsnorm(device: DeviceHandle, out: Float32Array, x: Float32Array, weight: Float32Array, epsilon: number): void;
  /** `dtype` as in doge.h. */
  kernelMatmul(
    device: DeviceHandle,
    out: Float32Array,
    x: Float32Array,
    weight: Float32Array,
    bias: Float32Array | null,
    rows: number,
    inner: number,
    outer: number,
    dtype: number,
  ): void;
  kernelRope(device: DeviceHandle, x: Float32Array, headDim: number, position: number, theta: number): void;
  kernelSwiglu(device: DeviceHandle, out: Float32Array, gate: Float32Array, up: Float32Array): void;
  kernelAttention(
    device: DeviceHandle,
    out: Float32Array,
    query: Float32Array,
    keys: Float32Array,
    values: Float32Array,
    bias: Float32Array,
  ): void;
  /** Each of bias.length tokens over itself and those before it; `dtype` as in doge.h. */
  kernelAttentionText(
    device: DeviceHandle,
    out: Float32Array,
    queries: Float32Array,
    keys: Float32Array,
    values: Float32Array,
    bias: Float32Array,
    dtype: number,
  ): void;
  /** `registers`: 8 of each of 32 lanes. */
  kernelFragments(
    device: DeviceHandle,
    d: Float32Array,
    registers: Uint32Array,
    a: Float32Array,
    b: Float32Array,
  ): void;
  kernelDraw(device: DeviceHandle, logits: Float32Array, position: number, row: Omit<NativeRow, "sequence">): number;
}

/** The version of native/doge.h that this package speaks. */
export const ABI = 2;

/** Loads a compiled binding. @throws what the system says when it cannot be loaded. */
export function loadBinding(path: string): Binding {
  return createRequire(import.meta.url)(path) as Binding;
}
