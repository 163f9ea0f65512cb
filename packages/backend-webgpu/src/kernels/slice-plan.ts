// Which steps of a single text go through slices (slices.ts) and mlp (mlp.ts), over how many teams, and what room these need.
import { type Config, type DType, keyValueWidth, queryWidth } from "@doge-lm/core";
import type { Gpu } from "../device.ts";
import { matrixBytes } from "../matrix.ts";
import { formats } from "./formats.ts";
import { MERGE_WIDTHS, MOST_BIASES } from "./merge.ts";
import { WIDTH } from "./mlp.ts";
import { WIDEST_STREAM } from "./project.ts";

/** Teams that share the keys of a head: fewer where there are many heads, for each reads the weights of its query. 0: steps of a single
 *  text go as those of several. A software adapter has no team. */
export function slicesOf(gpu: Gpu, config: Config, dtype: DType): number {
  const rows = queryWidth(config) + 2 * keyValueWidth(config);
  const fits =
    !gpu.variant.serial &&
    config.window === null &&
    config.headDim % 4 === 0 &&
    config.biasHeads <= MOST_BIASES &&
    config.hiddenSize <= WIDEST_STREAM &&
    queryWidth(config) <= MERGE_WIDTHS.at(-1)! &&
    matrixBytes(formats[dtype], rows, config.hiddenSize).all <= gpu.bindingLimit;
  if (!fits) return 0;
  return config.heads > 6 ? 4 : 8;
}

/** Most addends, each of which is a register of whoever reads a number of the stream. */
const MOST_ADDENDS = 64;

/** Teams that share the feed-forward of such a step: addends of the stream behind it. 0: it is two dispatches. */
export function addendsOf(gpu: Gpu, config: Config, dtype: DType): number {
  const { hiddenSize, intermediateSize } = config;
  const bytes = (rows: number, inner: number) => matrixBytes(formats[dtype], rows, inner).all;
  const fits =
    slicesOf(gpu, config, dtype) > 0 &&
    config.experts === null &&
    config.layers > 1 &&
    intermediateSize <= MOST_ADDENDS * WIDTH &&
    Math.max(bytes(intermediateSize, hiddenSize), bytes(hiddenSize, intermediateSize)) <= gpu.bindingLimit;
  return fits ? Math.ceil(intermediateSize / WIDTH) : 0;
}

/** Vectors of what a token's slices leave: for each head and slice the weighted sum of values, then the greatest score and the sum of
 *  weights. */
export const sliceVectors = ({ heads, headDim }: Pick<Config, "heads" | "headDim">, slices: number): number =>
  heads * slices * (headDim / 4 + 1);

/** Teams of a token: of slices, and of its own keys and values. */
export const sliceTeams = ({ heads, kvHeads }: Pick<Config, "heads" | "kvHeads">, slices: number): number =>
  heads * slices + 2 * kvHeads;

/** The least memory of a merge that holds all heads. */
export const mergeWidthOf = (config: Config): number => MERGE_WIDTHS.find((width) => queryWidth(config) <= width)!;

/** Lanes are dealt to heads of 32, 64, 128 or 256 numbers. */
export const widestOf = (headDim: number): number => Math.max(32, 2 ** Math.ceil(Math.log2(headDim)));
