// What a model holds on the device beside its weights: pages of keys, and the numbers of tokens on their way through the layers.
import { type Config, type DType, keyValueWidth, queryWidth } from "@doge-lm/core";
import type { Gpu } from "./device.ts";
import { PAGE } from "./kernels/page.ts";
import { addendsOf, slicesOf, sliceVectors } from "./kernels/slice-plan.ts";
import { strideOf } from "./weights.ts";

/** The cache of one layer. */
export interface LayerCache {
  readonly keys: GPUBuffer;
  readonly values: GPUBuffer;
  readonly meta: GPUBuffer;
}

/** Bytes of one page of one layer, with keys and values in f32 or `half` of that. */
export function pageBytes(config: Config, half: boolean): { keys: number; values: number; meta: number } {
  const { kvHeads, headDim, biasHeads } = config;
  const bytes = half ? 2 : 4;
  return {
    keys: kvHeads * Math.ceil(headDim / 4) * PAGE * 4 * bytes,
    values: kvHeads * Math.ceil(headDim / 4) * PAGE * 4 * bytes,
    meta: (biasHeads + 2 * kvHeads) * PAGE * 4,
  };
}

/** Buffers that hold a group of tokens on its way through the layers. */
export interface Activations {
  readonly tokens: number;
  /** Behind all tokens, where steps of a single text go through slices, the first one's cosines and sines, and the addends that its stream
   *  may come in. */
  readonly stream: GPUBuffer;
  /** Behind all tokens, in the same case, what slices find. */
  readonly qkv: GPUBuffer;
  readonly mixed: GPUBuffer;
  readonly gated: GPUBuffer;
  readonly router: GPUBuffer | null;
  readonly chosen: GPUBuffer | null;
  readonly hidden: GPUBuffer;
}

/** Numbers of one token in `qkv`: queries, keys, values, and behind them its biases. */
export const qkvStride = (config: Config): number =>
  strideOf(queryWidth(config) + 2 * keyValueWidth(config) + config.biasHeads);

/** Bytes that one token takes in the widest of the activations. */
export function widestActivation(config: Config): number {
  const { hiddenSize, intermediateSize, experts } = config;
  const widths = [hiddenSize, qkvStride(config), queryWidth(config), intermediateSize];
  if (experts !== null) widths.push(2 * experts.side, 2 * experts.perToken);
  return 4 * strideOf(Math.max(...widths));
}

/** Numbers behind all tokens, for the steps of a single text. */
export interface Behind {
  readonly stream: number;
  readonly qkv: number;
}

export function numbersBehind(gpu: Gpu, config: Config, dtype: DType): Behind {
  const slices = slicesOf(gpu, config, dtype);
  if (slices === 0) return { stream: 0, qkv: 0 };
  return {
    stream: config.headDim + addendsOf(gpu, config, dtype) * strideOf(config.hiddenSize),
    qkv: 4 * sliceVectors(config, slices),
  };
}

export function makeActivations(
  gpu: Gpu,
  own: (buffer: GPUBuffer) => GPUBuffer,
  config: Config,
  tokens: number,
  behind: Behind,
): Activations {
  const { hiddenSize, intermediateSize, experts } = config;
  const make = (name: string, width: number, behind = 0) =>
    own(gpu.storage(`${name} of ${tokens} tokens`, (tokens * width + behind) * 4));
  return {
    tokens,
    stream: make("stream", strideOf(hiddenSize), behind.stream),
    qkv: make("queries, keys and values", qkvStride(config), behind.qkv),
    mixed: make("attention", strideOf(queryWidth(config))),
    gated: make("feed-forward", strideOf(intermediateSize)),
    router: experts === null ? null : make("router", 2 * experts.side),
    chosen: experts === null ? null : make("chosen experts", 2 * experts.perToken),
    hidden: make("hidden states", strideOf(hiddenSize)),
  };
}
