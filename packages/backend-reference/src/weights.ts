// The weights of a model by their part in it, read tensor by tensor from a checkpoint.
//
// Every tensor is held as f32. Under bf16, q8 and q4 the matrices hold exactly the numbers those forms can say (core's
// quantisation, undone again), so this package computes what every backend computes with such weights, only more exactly.
import type { Checkpoint, DType } from "@doge-lm/core";
import {
  dequantizeQ4,
  dequantizeQ8,
  fromBf16,
  keyValueWidth,
  quantizable,
  quantizeQ4,
  quantizeQ8,
  queryWidth,
  readTensor,
  toBf16,
} from "@doge-lm/core";
import { Breath } from "@doge-lm/core/backend-kit";

/** y = weight · x + bias; weight (outer, inner). */
export interface Linear {
  readonly weight: Float32Array;
  readonly bias: Float32Array | null;
  readonly inner: number;
  readonly outer: number;
}

export interface Layer {
  readonly inputNorm: Float32Array; //  (hidden)
  readonly inputGate: Float32Array; //  (hidden)
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly queryNorm: Float32Array | null; // (headDim)
  readonly keyNorm: Float32Array | null; //   (headDim)
  /** dt_proj: from a key's values over all heads to its biases. */
  readonly delta: Linear;
  readonly A: Float32Array; //          (biasHeads)
  readonly postNorm: Float32Array; //   (hidden)
  readonly postGate: Float32Array; //   (hidden)
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
  readonly experts: {
    readonly router: Float32Array; //   (2 · side, hidden)
    readonly down: Float32Array; //     (experts, hidden)
    readonly up: Float32Array; //       (experts, hidden)
  } | null;
}

export interface Weights {
  readonly embedding: Float32Array; // (vocabulary, hidden)
  readonly layers: readonly Layer[];
  readonly norm: Float32Array; //      (hidden)
  readonly head: Float32Array; //      (vocabulary, hidden); the embedding itself when tied
}

/** Reads every tensor of `checkpoint`; errors are core's ("invalid-weights", "aborted", those of the files). */
export async function loadWeights(checkpoint: Checkpoint, dtype: DType, signal?: AbortSignal): Promise<Weights> {
  const { config } = checkpoint;
  const { hiddenSize, intermediateSize, biasHeads } = config;

  const breath = new Breath(signal, "reference");
  const read = async (name: string): Promise<Float32Array> => {
    await breath.take();
    const values = await readTensor(checkpoint, name, signal);
    return quantizable(name) ? rounded(values, checkpoint.tensors.get(name)!.shape.at(-1)!, dtype) : values;
  };
  const linear = async (name: string, inner: number, outer: number, biased: boolean): Promise<Linear> => ({
    weight: await read(`${name}.weight`),
    bias: biased ? await read(`${name}.bias`) : null,
    inner,
    outer,
  });
  const layer = async (prefix: string): Promise<Layer> => {
    const attention = `${prefix}.self_attn`;
    const mlp = `${prefix}.mlp`;
    const [queries, keys] = [queryWidth(config), keyValueWidth(config)];
    return {
      inputNorm: await read(`${prefix}.input_layernorm.weight`),
      inputGate: await read(`${prefix}.input_residual`),
      query: await linear(`${attention}.q_proj`, hiddenSize, queries, config.attentionBias),
      key: await linear(`${attention}.k_proj`, hiddenSize, keys, config.attentionBias),
      value: await linear(`${attention}.v_proj`, hiddenSize, keys, config.attentionBias),
      output: await linear(`${attention}.o_proj`, queries, hiddenSize, config.attentionBias),
      queryNorm: config.qkNorm ? await read(`${attention}.q_norm.weight`) : null,
      keyNorm: config.qkNorm ? await read(`${attention}.k_norm.weight`) : null,
      delta: await linear(`${attention}.dt_proj`, keys, biasHeads, config.attentionBias),
      A: await read(`${attention}.A`),
      postNorm: await read(`${prefix}.post_attention_layernorm.weight`),
      postGate: await read(`${prefix}.post_attention_residual`),
      gate: await linear(`${mlp}.gate_proj`, hiddenSize, intermediateSize, config.mlpBias),
      up: await linear(`${mlp}.up_proj`, hiddenSize, intermediateSize, config.mlpBias),
      down: await linear(`${mlp}.down_proj`, intermediateSize, hiddenSize, config.mlpBias),
      experts:
        config.experts === null
          ? null
          : {
              router: await read(`${mlp}.router_gate.weight`),
              down: await read(`${mlp}.down_embed.weight`),
              up: await read(`${mlp}.up_embed.weight`),
            },
    };
  };

  const embedding = await read("model.embed_tokens.weight");
  const layers: Layer[] = [];
  for (let number = 0; number < config.layers; number++) layers.push(await layer(`model.layers.${number}`));
  const norm = await read("model.norm.weight");
  const head = config.tied ? embedding : await read("lm_head.weight");
  return { embedding, layers, norm, head };
}

/** The numbers nearest to `values` that `dtype` can say, in its own blocks along rows of `columns`. */
function rounded(values: Float32Array, columns: number, dtype: DType): Float32Array {
  if (dtype === "bf16") return fromBf16(toBf16(values));
  if (dtype === "q8") return dequantizeQ8(quantizeQ8(values, columns), columns);
  if (dtype === "q4") return dequantizeQ4(quantizeQ4(values, columns), columns);
  return values;
}
