// A checkpoint's tensors on the device. The buffers are made first, so that a model that does not fit is refused before a weight
// is read; then tensors stream into them, one piece of one tensor at a time.
import {
  type Checkpoint,
  type Config,
  type DType,
  floats,
  keyValueWidth,
  queryWidth,
  trace,
  tracing,
} from "@doge-lm/core";
import type { Gpu } from "./device.ts";
import { outputsPerGroup } from "./kernels/matmul.ts";
import { Matrix } from "./matrix.ts";
import { breathe } from "./pace.ts";

/** Places, in numbers, of a layer's small tensors in its `vectors`. */
interface VectorPlan {
  readonly at: { readonly [name: string]: number };
  readonly count: number;
}
interface LayerWeights {
  readonly vectors: GPUBuffer;
  readonly qkv: Matrix;
  readonly output: Matrix;
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
  readonly experts: { readonly router: Matrix; readonly down: Matrix; readonly up: Matrix } | null;
}
export interface Weights {
  readonly embedding: Matrix;
  readonly head: Matrix;
  readonly layers: readonly LayerWeights[];
  readonly vectorPlan: VectorPlan;
  /** The final norm. */
  readonly norm: GPUBuffer;
}

/** Strides of activations: padded, so that a row begins at a whole vector and a whole block. */
export const strideOf = (width: number): number => Math.ceil(width / 32) * 32;

function planVectors(config: Config): VectorPlan {
  const { hiddenSize, intermediateSize, headDim, biasHeads, attentionBias, mlpBias } = config;
  const at: Record<string, number> = {};
  let count = 0;
  const add = (name: string, length: number) => {
    at[name] = count;
    count += Math.ceil(length / 4) * 4;
  };
  add("input_layernorm.weight", hiddenSize);
  if (config.qkNorm) {
    add("self_attn.q_norm.weight", headDim);
    add("self_attn.k_norm.weight", headDim);
  }
  add("self_attn.A", biasHeads);
  add("self_attn.dt_proj.weight", biasHeads * keyValueWidth(config));
  add("input_residual", hiddenSize);
  add("post_attention_layernorm.weight", hiddenSize);
  add("post_attention_residual", hiddenSize);
  if (attentionBias) {
    // One behind the other without a gap: the three are one matrix.
    const widths = [queryWidth(config), keyValueWidth(config), keyValueWidth(config)];
    ["q", "k", "v"].forEach((name, index) => {
      at[`self_attn.${name}_proj.bias`] = count;
      count += widths[index]!;
    });
    count = Math.ceil(count / 4) * 4;
    add("self_attn.dt_proj.bias", biasHeads);
    add("self_attn.o_proj.bias", hiddenSize);
  }
  if (mlpBias) {
    add("mlp.gate_proj.bias", intermediateSize);
    add("mlp.up_proj.bias", intermediateSize);
    add("mlp.down_proj.bias", hiddenSize);
  }
  return { at, count };
}

/** Buffers for the weights of a model, still empty. Called inside Gpu.allocate(). */
export function makeWeights(gpu: Gpu, own: (buffer: GPUBuffer) => GPUBuffer, config: Config, dtype: DType): Weights {
  const { hiddenSize, intermediateSize, vocabSize, experts } = config;
  const perGroup = outputsPerGroup(gpu.variant);
  const matrix = (name: string, rows: number, inner: number, as: DType = dtype) =>
    new Matrix(gpu, own, { name, dtype: as, rows, inner, perGroup });
  const vectorPlan = planVectors(config);
  const queries = queryWidth(config);
  const embedding = matrix("embed_tokens", vocabSize, hiddenSize);
  return {
    embedding,
    head: config.tied ? embedding : matrix("lm_head", vocabSize, hiddenSize),
    vectorPlan,
    norm: own(gpu.storage("norm", Math.ceil(hiddenSize / 4) * 16)),
    layers: Array.from({ length: config.layers }, (_, layer) => {
      const at = `layers.${layer}`;
      return {
        vectors: own(gpu.storage(`${at}.vectors`, vectorPlan.count * 4)),
        qkv: matrix(`${at}.qkv_proj`, queries + 2 * keyValueWidth(config), hiddenSize),
        output: matrix(`${at}.o_proj`, hiddenSize, queries),
        gate: matrix(`${at}.gate_proj`, intermediateSize, hiddenSize),
        up: matrix(`${at}.up_proj`, intermediateSize, hiddenSize),
        down: matrix(`${at}.down_proj`, hiddenSize, intermediateSize),
        experts:
          experts === null
            ? null
            : {
                router: matrix(`${at}.router_gate`, 2 * experts.side, hiddenSize, "f32"),
                down: matrix(`${at}.down_embed`, experts.count, hiddenSize),
                up: matrix(`${at}.up_embed`, experts.count, hiddenSize),
              },
      };
    }),
  };
}

/** Reads every tensor of `checkpoint`; errors are core's ("invalid-weights", "aborted", those of the files). */
export async function fillWeights(
  gpu: Gpu,
  weights: Weights,
  checkpoint: Checkpoint,
  signal?: AbortSignal,
): Promise<void> {
  const { config } = checkpoint;
  const reader = new Reader(gpu, checkpoint, signal);
  await reader.matrix(weights.embedding, 0, "model.embed_tokens");
  const queries = queryWidth(config);
  const keys = keyValueWidth(config);
  for (const [number, layer] of weights.layers.entries()) {
    const at = `model.layers.${number}`;
    for (const [name, place] of Object.entries(weights.vectorPlan.at)) {
      await reader.vector(layer.vectors, place, `${at}.${name}`);
    }
    await reader.matrix(layer.qkv, 0, `${at}.self_attn.q_proj`);
    await reader.matrix(layer.qkv, queries, `${at}.self_attn.k_proj`);
    await reader.matrix(layer.qkv, queries + keys, `${at}.self_attn.v_proj`);
    await reader.matrix(layer.output, 0, `${at}.self_attn.o_proj`);
    await reader.matrix(layer.gate, 0, `${at}.mlp.gate_proj`);
    await reader.matrix(layer.up, 0, `${at}.mlp.up_proj`);
    await reader.matrix(layer.down, 0, `${at}.mlp.down_proj`);
    if (layer.experts === null) continue;
    await reader.matrix(layer.experts.router, 0, `${at}.mlp.router_gate`);
    await reader.matrix(layer.experts.down, 0, `${at}.mlp.down_embed`);
    await reader.matrix(layer.experts.up, 0, `${at}.mlp.up_embed`);
  }
  await reader.vector(weights.norm, 0, "model.norm.weight");
  if (!config.tied) await reader.matrix(weights.head, 0, "lm_head");
}

/** Longest stretch of packing without letting other work run. */
const BREATH_MS = 25;

class Reader {
  readonly #gpu: Gpu;
  readonly #checkpoint: Checkpoint;
  readonly #signal: AbortSignal | undefined;
  #breathed = performance.now();

  constructor(gpu: Gpu, checkpoint: Checkpoint, signal: AbortSignal | undefined) {
    this.#gpu = gpu;
    this.#checkpoint = checkpoint;
    this.#signal = signal;
  }

  async vector(buffer: GPUBuffer, at: number, name: string): Promise<void> {
    for await (const { offset, data } of this.#pieces(name)) {
      this.#gpu.device.queue.writeBuffer(buffer, (at + offset) * 4, data);
    }
  }

  /** Whole rows: pieces are cut anywhere, so the rest of one waits for the next. */
  async matrix(matrix: Matrix, first: number, name: string): Promise<void> {
    let rest = new Float32Array(0);
    let row = first;
    for await (const { data } of this.#pieces(`${name}.weight`)) {
      let all: Float32Array<ArrayBuffer> = data;
      if (rest.length > 0) {
        all = new Float32Array(rest.length + data.length);
        all.set(rest);
        all.set(data, rest.length);
      }
      const whole = Math.floor(all.length / matrix.inner);
      if (whole > 0) matrix.write(row, all.subarray(0, whole * matrix.inner));
      row += whole;
      rest = all.slice(whole * matrix.inner);
    }
  }

  /** A tensor in core's pieces, with a look at the signal and the device between them. */
  async *#pieces(name: string): AsyncGenerator<{ offset: number; data: Float32Array<ArrayBuffer> }> {
    for await (const piece of floats(this.#checkpoint, name, this.#signal)) {
      yield piece;
      this.#gpu.assertAlive();
      if (tracing()) trace({ scope: "webgpu", kind: "upload", name, bytes: piece.data.byteLength });
      if (performance.now() - this.#breathed < BREATH_MS) continue;
      await breathe(this.#signal);
      this.#breathed = performance.now();
    }
  }
}
