// A checkpoint: tensors by canonical name (docs/model.md), read piece by piece.
import type { Config } from "./config.ts";

export interface TensorInfo {
  readonly dtype: "F32" | "F16" | "BF16";
  readonly shape: readonly number[];
}
/** A file, a Blob, a mapped file, HTTP ranges or a trainer's state: never all in memory unless its owner wants so. */
export interface Checkpoint {
  readonly config: Config;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** What a person should know: an inconclusive probe, ignored keys. Whole sentences. */
  readonly warnings?: readonly string[] | undefined;
  /** Bytes [from, to) of one tensor; any order. Wrapping this is how progress is counted. */
  read(name: string, from: number, to: number, signal?: AbortSignal): Promise<Uint8Array>;
}
