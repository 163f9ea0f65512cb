// A slice of a model: so many of its layers with their share of the vocabulary, of the same widths, with seeded weights that are made
// as fast as they are read. What a token costs in it says what one costs in the whole.
import type { Checkpoint, TensorInfo } from "../checkpoint.ts";
import type { Config, Experts } from "../config.ts";
import { toBf16 } from "../loading/number-formats.ts";
import { elements, tensorShapes } from "../loading/weights.ts";
import { uniform } from "../seeded.ts";

/** Experts of a slice at most: a token takes as many as in the model, out of fewer that are quicker to make. */
const mostExperts = 256;
/** Weights are put together from as many values, 64 KiB, again and again: what they are does not matter to speed. */
const poolSize = 1 << 15;

/** The config of `layers` layers of `config`, with as much of its vocabulary for each as the model has, and room for `context` tokens. */
export function sliceOf(config: Config, layers: number, context: number): Config {
  const vocabSize = Math.max(64, Math.ceil((config.vocabSize * layers) / config.layers));
  const ids = { bosId: null, eosIds: [], padId: null };
  return { ...config, ...ids, layers, vocabSize, maxPositions: context, experts: fewer(config.experts) };
}

function fewer(experts: Experts | null): Experts | null {
  if (experts === null || experts.count <= mostExperts || experts.perToken > mostExperts) return experts;
  return { ...experts, count: mostExperts, side: Math.sqrt(mostExperts) };
}

/** A checkpoint of such a config in bf16. Norms and gates are near 1 and the rest is small, so that all numbers stay in bounds. */
export function sliceCheckpoint(config: Config): Checkpoint {
  const values = Float32Array.from({ length: poolSize }, uniform());
  const small = bytesOf(values.map((value) => value * 0.05));
  const nearOne = bytesOf(values.map((value) => 1 + value * 0.05));
  const shapes = tensorShapes(config);
  return {
    config,
    tensors: new Map(Array.from(shapes, ([name, shape]): [string, TensorInfo] => [name, { dtype: "BF16", shape }])),
    async read(name, from, to, signal) {
      signal?.throwIfAborted();
      const pool = /norm\.weight$|_residual$/.test(name) ? nearOne : small;
      const bytes = new Uint8Array(to - from);
      for (let at = from; at < to; ) {
        const start = at % pool.length;
        const count = Math.min(to - at, pool.length - start);
        bytes.set(pool.subarray(start, start + count), at - from);
        at += count;
      }
      return bytes;
    },
  };
}

const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(toBf16(values).buffer);

/** Weights that a token reads of a dense model of this config: all but the embedding's rows of other tokens. */
export function weightsRead(config: Config): number {
  let count = 0;
  for (const [name, shape] of tensorShapes(config)) {
    const table = name === "model.embed_tokens.weight" && !config.tied;
    const experts = /(down|up)_embed\.weight$/.test(name);
    if (!table && !experts) count += elements(shape);
  }
  return count;
}
