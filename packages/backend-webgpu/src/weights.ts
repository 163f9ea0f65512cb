// A checkpoint's tensors on the device. The buffers are made first, so that a model that does not fit is refused before a weight
// is read; then tensors stream into them, one piece of one tensor at a time.
import { type Checkpoint, type Config, type DType, keyValueWidth, queryWidth } from "@doge-lm/core";
import { TensorReader } from "@doge-lm/core/backend-kit";
import type { Gpu } from "./device.ts";
import { outputsPerGroup } from "./kernels/matmul.ts";
import { Matrix } from "./matrix.ts";

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
  const loader = new Loader(gpu, new TensorReader(checkpoint, "webgpu", signal), signal);
  await loader.matrix(weights.embedding, 0, "model.embed_tokens");
  const queries = queryWidth(config);
  const keys = keyValueWidth(config);
  for (const [number, layer] of weights.layers.entries()) {
    const at = `model.layers.${number}`;
    for (const [name, place] of Object.entries(weights.vectorPlan.at)) {
      await loader.vector(layer.vectors, place, `${at}.${name}`);
    }
    await loader.matrix(layer.qkv, 0, `${at}.self_attn.q_proj`);
    await loader.matrix(layer.qkv, queries, `${at}.self_attn.k_proj`);
    await loader.matrix(layer.qkv, queries + keys, `${at}.self_attn.v_proj`);
    await loader.matrix(layer.output, 0, `${at}.self_attn.o_proj`);
    await loader.matrix(layer.gate, 0, `${at}.mlp.gate_proj`);
    await loader.matrix(layer.up, 0, `${at}.mlp.up_proj`);
    await loader.matrix(layer.down, 0, `${at}.mlp.down_proj`);
    if (layer.experts === null) continue;
    await loader.matrix(layer.experts.router, 0, `${at}.mlp.router_gate`);
    await loader.matrix(layer.experts.down, 0, `${at}.mlp.down_embed`);
    await loader.matrix(layer.experts.up, 0, `${at}.mlp.up_embed`);
  }
  await loader.vector(weights.norm, 0, "model.norm.weight");
  if (!config.tied) await loader.matrix(weights.head, 0, "lm_head");
  loader.submit();
}

/** What a device may hold twice while weights arrive: bytes written before an empty submit, and before that is waited for. What is
 *  written lies beside its buffer until a submit behind it is done: wgpu (Firefox, Deno) makes none by itself. */
const UNSUBMITTED = 2 ** 24;
const UNFINISHED = 2 ** 26;

/** Writes tensors into their buffers. */
class Loader {
  readonly #gpu: Gpu;
  readonly #reader: TensorReader;
  readonly #signal: AbortSignal | undefined;
  #unsubmitted = 0;
  #unfinished = 0;

  constructor(gpu: Gpu, reader: TensorReader, signal: AbortSignal | undefined) {
    this.#gpu = gpu;
    this.#reader = reader;
    this.#signal = signal;
  }

  submit(): void {
    this.#gpu.device.queue.submit([]);
    this.#unsubmitted = 0;
  }

  /** So many bytes were written. */
  async #wrote(bytes: number): Promise<void> {
    this.#gpu.assertAlive();
    this.#unsubmitted += bytes;
    this.#unfinished += bytes;
    if (this.#unsubmitted < UNSUBMITTED) return;
    this.submit();
    if (this.#unfinished < UNFINISHED) return;
    await this.#gpu.finished(this.#signal);
    this.#unfinished = 0;
  }

  async vector(buffer: GPUBuffer, at: number, name: string): Promise<void> {
    for await (const { offset, data } of this.#reader.pieces(name)) {
      this.#gpu.device.queue.writeBuffer(buffer, (at + offset) * 4, data);
      await this.#wrote(data.byteLength);
    }
  }

  /** `name` from row `first` of a matrix on. */
  async matrix(matrix: Matrix, first: number, name: string): Promise<void> {
    for await (const { row, data } of this.#reader.rows(`${name}.weight`, matrix.inner)) {
      await this.#wrote(matrix.write(first + row, data));
    }
  }
}
