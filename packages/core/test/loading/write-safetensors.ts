// Writes safetensors files and whole models for tests: right ones, and with `header` wrong ones of any kind.
import type { Config, Files } from "../../src/index.ts";
import { filesFrom, tensorShapes } from "../../src/index.ts";
import { elements } from "../../src/loading/weights.ts";

export interface TensorData {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export const f32 = (shape: readonly number[], values: Float32Array | readonly number[]): TensorData => ({
  dtype: "F32",
  shape,
  bytes: new Uint8Array(Float32Array.from(values).buffer),
});

/** A file with this header text (its length word right unless given) and these data bytes. */
export function rawSafetensors(header: string | Uint8Array, data = new Uint8Array(0), length?: bigint): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

/** A well-formed safetensors file with the tensors in this order. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, TensorData>,
  metadata?: Record<string, string>,
): Uint8Array {
  const header: [string, unknown][] = metadata === undefined ? [] : [["__metadata__", metadata]];
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header.push([name, { dtype, shape, data_offsets: [offset, offset + bytes.length] }]);
    offset += bytes.length;
  }
  const data = new Uint8Array(offset);
  offset = 0;
  for (const { bytes } of tensors.values()) {
    data.set(bytes, offset);
    offset += bytes.length;
  }
  // Not through an object: "__proto__" is a tensor name like any other.
  const text = `{${header.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`;
  return rawSafetensors(text.padEnd(Math.ceil(text.length / 8) * 8), data);
}

/** Seeded normal values (mulberry32, Box-Muller). */
export function normals(count: number, deviation: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  return Float32Array.from(
    { length: count },
    () => deviation * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

export const tinyConfig: Config = {
  generation: "native",
  vocabSize: 24,
  hiddenSize: 16,
  intermediateSize: 20,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 4,
  normEpsilon: 1e-6,
  maxPositions: 64,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: true,
  biasHeads: 2,
  window: 32,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: 0,
  eosIds: [1],
  padId: 2,
};
export const tinyLegacy: Config = { ...tinyConfig, generation: "legacy", qkNorm: false, biasHeads: 4, window: null };
export const tinyExperts = { count: 16, perToken: 4, side: 4, normalize: false, indexing: "expert" } as const;

/** Random tensors for a config. */
export function randomTensors(config: Config, seed = 1): Map<string, TensorData> {
  return new Map(
    Array.from(tensorShapes(config), ([name, shape], index) => [
      name,
      f32(shape, normals(elements(shape), 0.02, seed * 1000 + index)),
    ]),
  );
}

/** The config.json that transformers 5 would write for a config. */
export function configJson(config: Config, changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    model_type: "doge",
    architectures: ["DogeForCausalLM"],
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    hidden_act: "silu",
    rms_norm_eps: config.normEpsilon,
    max_position_embeddings: config.maxPositions,
    keep_window_size: config.window ?? 2048,
    rope_parameters: { rope_type: config.rope.type, rope_theta: config.rope.theta, factor: config.rope.factor },
    attention_bias: config.attentionBias,
    mlp_bias: config.mlpBias,
    tie_word_embeddings: config.tied,
    is_moe: config.experts !== null,
    ...(config.experts === null
      ? {}
      : { num_experts: config.experts.count, num_experts_per_tok: config.experts.perToken }),
    bos_token_id: config.bosId,
    eos_token_id: config.eosIds[0],
    pad_token_id: config.padId,
    ...changes,
  };
}

export const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** A model in memory: a config.json and one weights file. */
export function modelFiles(
  config: Config,
  options: { readonly config?: Record<string, unknown>; readonly tensors?: ReadonlyMap<string, TensorData> } = {},
): Files {
  return filesFrom({
    "config.json": json(configJson(config, options.config)),
    "model.safetensors": writeSafetensors(options.tensors ?? randomTensors({ ...config })),
  });
}
