// What work costs, in multiply-adds: by this a submit is filled.
import { type Config, queryWidth } from "@doge-lm/core";
import { qkvStride } from "./activations.ts";

/** What a dispatch costs beside its arithmetic. */
export const DISPATCH_COST = 20_000;

/** Multiply-adds of some tokens in a layer that together see so many keys. */
export function layerCost(config: Config, keys: number, tokens: number): number {
  const { hiddenSize, intermediateSize, heads, headDim } = config;
  const widths = qkvStride(config) + queryWidth(config) + 3 * intermediateSize;
  return 5 * DISPATCH_COST + tokens * hiddenSize * widths + 2 * keys * heads * headDim;
}

/** Of some rows of logits, and the draws or scores behind them. */
export function headCost(config: Config, rows: number): number {
  const { hiddenSize, vocabSize } = config;
  return 2 * DISPATCH_COST + rows * vocabSize * (hiddenSize + 50);
}
