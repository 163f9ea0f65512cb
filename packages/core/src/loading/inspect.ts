// What `doge inspect` tells about a checkpoint: plain data, read from the headers alone.

import type { DType } from "../backend.ts";
import type { Checkpoint, TensorInfo } from "../checkpoint.ts";
import type { Config } from "../config.ts";
import { keyValueWidth } from "../config.ts";
import type { FileCheckpoint } from "./open.ts";
import { QUANTIZATION_BLOCK } from "./quantize.ts";
import { elements, quantizable } from "./weights.ts";

export interface CheckpointDescription {
  readonly layout: "NATIVE" | "LEGACY" | "NATIVE-MoE" | "LEGACY-MoE";
  /** Whose layer names the files use; null when the checkpoint is not in files. */
  readonly names: "current" | "old" | "mixed" | null;
  readonly config: Config;
  /** Trained numbers; a tied head counts once. */
  readonly parameters: number;
  /** Of them, how many a token passes through: all, or without the experts not chosen. */
  readonly activeParameters: number;
  readonly tensors: number;
  /** Per number format of the files: tensors and their bytes. */
  readonly stored: { readonly [Format in TensorInfo["dtype"]]?: { readonly tensors: number; readonly bytes: number } };
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  /** Bytes of the files' weights altogether. */
  readonly bytes: number;
  /** Bytes of the weights in memory under each dtype, as quantize.ts lays them out. */
  readonly memory: { readonly [Type in DType]: number };
  readonly state: {
    /** Bytes of one token's keys, values and biases, all layers, f32. */
    readonly bytesPerToken: number;
    /** Tokens after which a sequence's state no longer grows, or null where it always does. */
    readonly boundedAt: number | null;
    /** Bytes of one sequence as long as max_position_embeddings. */
    readonly bytesAtMaximum: number;
  };
  readonly warnings: readonly string[];
}

/** Describe a checkpoint; nothing is read. */
export function describe(checkpoint: Checkpoint): CheckpointDescription {
  const { config, tensors } = checkpoint;
  const { experts } = config;
  const source = "source" in checkpoint ? (checkpoint as FileCheckpoint).source : null;
  const stored: { [Format in TensorInfo["dtype"]]?: { tensors: number; bytes: number } } = {};
  const memory = { f32: 0, bf16: 0, q8: 0, q4: 0 };
  let parameters = 0;
  for (const [name, { dtype, shape }] of tensors) {
    const count = elements(shape);
    parameters += count;
    const format = (stored[dtype] ??= { tensors: 0, bytes: 0 });
    format.tensors++;
    format.bytes += count * (dtype === "F32" ? 4 : 2);
    for (const type of ["f32", "bf16", "q8", "q4"] as const) memory[type] += weightBytes(name, shape, type);
  }
  const idle = experts === null ? 0 : (experts.count - experts.perToken) * 2 * config.hiddenSize * config.layers;
  const bytesPerToken = 4 * config.layers * (2 * keyValueWidth(config) + config.biasHeads);
  return {
    layout: `${config.generation === "native" ? "NATIVE" : "LEGACY"}${experts === null ? "" : "-MoE"}`,
    names: source?.names ?? null,
    config,
    parameters,
    activeParameters: parameters - idle,
    tensors: tensors.size,
    stored,
    files: source?.files ?? [],
    bytes: Object.values(stored).reduce((sum, { bytes }) => sum + bytes, 0),
    memory,
    state: {
      bytesPerToken,
      boundedAt: config.window,
      bytesAtMaximum: bytesPerToken * Math.min(config.maxPositions, config.window ?? config.maxPositions),
    },
    warnings: checkpoint.warnings ?? [],
  };
}

/** Bytes that one tensor takes under a dtype: tensors that quantisation does not touch stay f32. */
export function weightBytes(name: string, shape: readonly number[], dtype: DType): number {
  const count = elements(shape);
  if (dtype === "f32" || !quantizable(name)) return 4 * count;
  if (dtype === "bf16") return 2 * count;
  const columns = shape.at(-1) ?? 1;
  const rows = columns === 0 ? 0 : count / columns;
  const scales = 4 * rows * Math.ceil(columns / QUANTIZATION_BLOCK);
  return scales + (dtype === "q8" ? count : rows * Math.ceil(columns / 2));
}
