// What a token costs by the model's shape alone: bytes that must be read and multiply-adds that must be made. A backend that
// does more, by padding or by reading twice, is further from the ceiling for it.
import { type Config, type DType, keyValueWidth, queryWidth, tensorShapes, weightBytes } from "@doge-lm/core";

export interface Work {
  /** Weights that a step reads, however many rows share it. */
  readonly weightBytes: number;
  /** Keys, values and biases that one token at `context` reads. */
  stateBytes(context: number): number;
  /** Multiply-adds with weights, per token: without, and of, the LM head. */
  readonly layerMacs: number;
  readonly headMacs: number;
  /** Multiply-adds of one token's attention over `context` keys. */
  attentionMacs(context: number): number;
  /** The same of a prompt of `length` tokens, each over those before it. */
  promptAttentionMacs(length: number): number;
  /** Trained numbers. */
  readonly parameters: number;
}

/** `held`: bytes of all weights where the backend tells; else as core lays them out. */
export function workOf(config: Config, dtype: DType, keyBytes: number, held?: number): Work {
  const { experts, layers } = config;
  let all = 0;
  let read = 0;
  let macs = 0;
  let head = 0;
  let parameters = 0;
  for (const [name, shape] of tensorShapes(config)) {
    const count = shape.reduce((product, dimension) => product * dimension, 1);
    const bytes = weightBytes(name, shape, dtype);
    parameters += count;
    all += bytes;
    // An embedding that is not the head too is one row per token; of the experts, those chosen.
    const chosen = /_embed\.weight$/.test(name) && experts !== null ? experts.perToken / experts.count : 1;
    const embedding = name === "model.embed_tokens.weight";
    const share = embedding && !config.tied ? 0 : chosen;
    read += bytes * share;
    if (shape.length < 2 || share === 0) continue;
    if (embedding || name === "lm_head.weight") head += count;
    else macs += count * share;
  }
  const { window } = config;
  const seen = (context: number): number => Math.min(context, window ?? context);
  const attentionMacs = (context: number): number => 2 * layers * queryWidth(config) * seen(context);
  return {
    weightBytes: held === undefined ? read : read * (held / all),
    stateBytes: (context) => layers * seen(context) * (2 * keyValueWidth(config) * keyBytes + 4 * config.biasHeads),
    layerMacs: macs,
    headMacs: head,
    attentionMacs,
    promptAttentionMacs(length) {
      let sum = 0;
      for (let context = 1; context <= length; context++) sum += attentionMacs(context);
      return sum;
    },
    parameters,
  };
}
