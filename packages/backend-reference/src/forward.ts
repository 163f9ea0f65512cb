// The forward pass in the order of docs/model.md: which kernel runs on what. It knows the model and does no arithmetic.
//
// Kernels add up in JavaScript's double precision, one sum after the other, and round to f32 where they write: what they
// write is what every device stores, while the sums are more exact than any device's, so this package is the measure for
// the others and not one more opinion.
import type { Config, Routing } from "@doge-lm/core";
import { keyValueWidth, queryWidth } from "@doge-lm/core";
import type { Breath } from "@doge-lm/core/backend-kit";
import { attention } from "./kernels/attention.ts";
import { embed } from "./kernels/embed.ts";
import { experts } from "./kernels/experts.ts";
import { matmul } from "./kernels/matmul.ts";
import { rmsnorm } from "./kernels/rmsnorm.ts";
import { angles, rope } from "./kernels/rope.ts";
import { swiglu } from "./kernels/swiglu.ts";
import type { Recorder } from "./recorder.ts";
import type { KeptKeys, State } from "./state.ts";
import type { Layer, Linear, Weights } from "./weights.ts";

/** Tokens taken through half a layer between two looks at the clock: about 30 ms on the largest published model. */
const SLICE = 4;

/**
 * Evaluate the tokens of one span on top of `state`, layer by layer.
 *
 * @param ids (tokens), the whole span: under "reference" routing a mixture of experts routes over exactly these
 * @param position of ids[0]; `state` holds exactly the tokens before it
 * @returns (tokens, hidden) after the final norm
 */
export async function forward(
  config: Config,
  weights: Weights,
  routing: Routing,
  state: State,
  ids: Int32Array,
  position: number,
  breath: Breath,
  recorder: Recorder | null,
): Promise<Float32Array> {
  const tokens = ids.length;
  const hidden = config.hiddenSize;
  const epsilon = config.normEpsilon;
  const stream = new Float32Array(tokens * hidden); // the residual stream, (tokens, hidden)
  const update = new Float32Array(tokens * hidden); // what the last sublayer adds to it, (tokens, hidden)
  const normed = new Float32Array(tokens * hidden); // (tokens, hidden)
  const rows = (tensor: Float32Array, from: number, to: number) => tensor.subarray(from * hidden, to * hidden);

  embed(stream, weights.embedding, ids, tokens, hidden);
  recorder?.record("embedding", position, hidden, stream);

  // The gated residual of a sublayer is done by the norm after it: the gate waits here.
  let gate: Float32Array | null = null;
  for (const [number, layer] of weights.layers.entries()) {
    const name = `layers.${number}`;
    const router = layer.experts === null ? null : new Float32Array(tokens * 2 * config.experts!.side); // (tokens, 2 · side)
    for (let from = 0; from < tokens; from += SLICE) {
      const to = Math.min(tokens, from + SLICE);
      const [x, added, h] = [rows(stream, from, to), rows(update, from, to), rows(normed, from, to)];
      rmsnorm(h, x, gate, gate && added, layer.inputNorm, to - from, hidden, epsilon);
      if (number > 0) recorder?.record(`layers.${number - 1}.residual`, position + from, hidden, x);
      attend(config, layer, state.layers[number]!, added, h, position + from, recorder, name);
      recorder?.record(`${name}.attention`, position + from, hidden, added);

      rmsnorm(h, x, layer.inputGate, added, layer.postNorm, to - from, hidden, epsilon);
      if (router !== null) {
        const width = 2 * config.experts!.side;
        const part = router.subarray(from * width, to * width);
        matmul(part, h, layer.experts!.router, null, to - from, hidden, width);
        recorder?.record(`${name}.router`, position + from, width, part);
      }
      await breath.take();
    }
    // The router's scores of the whole span exist only now: "reference" routing reads those of other tokens.
    for (let from = 0; from < tokens; from += SLICE) {
      const to = Math.min(tokens, from + SLICE);
      const [added, h] = [rows(update, from, to), rows(normed, from, to)];
      feedForward(config, layer, added, h);
      if (router !== null) chooseExperts(config, layer, routing, added, h, router, from, tokens);
      recorder?.record(`${name}.mlp`, position + from, hidden, added);
      await breath.take();
    }
    gate = layer.postGate;
  }
  rmsnorm(normed, stream, gate, gate && update, weights.norm, tokens, hidden, epsilon);
  recorder?.record(`layers.${weights.layers.length - 1}.residual`, position, hidden, stream);
  return normed;
}

/** The attention sublayer of a slice: out = o_proj(attention(...)) of the normed rows. */
function attend(
  config: Config,
  layer: Layer,
  kept: readonly KeptKeys[],
  out: Float32Array,
  normed: Float32Array,
  position: number,
  recorder: Recorder | null,
  name: string,
): void {
  const { heads, kvHeads, biasHeads, headDim, normEpsilon } = config;
  const rows = normed.length / config.hiddenSize;
  const query = linear(normed, layer.query, rows); // (rows, heads, headDim)
  const key = linear(normed, layer.key, rows); //     (rows, kvHeads, headDim)
  const value = linear(normed, layer.value, rows); // (rows, kvHeads, headDim)
  const delta = linear(value, layer.delta, rows); //  (rows, biasHeads)
  if (layer.queryNorm !== null && layer.keyNorm !== null) {
    rmsnorm(query, query, null, null, layer.queryNorm, rows * heads, headDim, normEpsilon);
    rmsnorm(key, key, null, null, layer.keyNorm, rows * kvHeads, headDim, normEpsilon);
  }
  const cosine = new Float32Array((rows * headDim) / 2);
  const sine = new Float32Array((rows * headDim) / 2);
  angles(cosine, sine, position, rows, headDim, config.rope, config.maxPositions);
  rope(query, cosine, sine, rows, heads, headDim);
  rope(key, cosine, sine, rows, kvHeads, headDim);

  const mixed = new Float32Array(rows * heads * headDim); // (rows, heads, headDim)
  const bias = new Float32Array(rows * biasHeads); //        (rows, biasHeads)
  attention(mixed, bias, query, key, value, delta, layer.A, kept, position, rows, heads, kvHeads, biasHeads, headDim);
  out.set(linear(mixed, layer.output, rows));
  recorder?.record(`${name}.query`, position, queryWidth(config), query);
  recorder?.record(`${name}.key`, position, keyValueWidth(config), key);
  recorder?.record(`${name}.value`, position, keyValueWidth(config), value);
  recorder?.record(`${name}.bias`, position, biasHeads, bias);
}

/** The dense feed-forward of a slice: out = down(silu(gate(h)) ⊙ up(h)). */
function feedForward(config: Config, layer: Layer, out: Float32Array, normed: Float32Array): void {
  const rows = normed.length / config.hiddenSize;
  const gated = linear(normed, layer.gate, rows); // (rows, intermediate)
  const up = linear(normed, layer.up, rows); //      (rows, intermediate)
  swiglu(gated, gated, up, rows, config.intermediateSize);
  out.set(linear(gated, layer.down, rows));
}

/** Add the routed experts of a slice, whose row 0 is token `first` of the `tokens` routed together. */
function chooseExperts(
  config: Config,
  layer: Layer,
  routing: Routing,
  out: Float32Array,
  normed: Float32Array,
  router: Float32Array,
  first: number,
  tokens: number,
): void {
  const { side, perToken, normalize, indexing } = config.experts!;
  const { down, up } = layer.experts!;
  const [stride, split] = routing === "per-token" ? [2, 1] : [1, tokens];
  const hidden = config.hiddenSize;
  const rows = normed.length / hidden;
  experts(
    out,
    normed,
    router,
    down,
    up,
    first,
    stride,
    split,
    rows,
    hidden,
    side,
    perToken,
    normalize,
    indexing === "grid",
  );
}

/** Logits of hidden rows: (rows, vocabulary). */
export function logitsOf(config: Config, weights: Weights, hidden: Float32Array): Float32Array<ArrayBuffer> {
  const rows = hidden.length / config.hiddenSize;
  const logits = new Float32Array(rows * config.vocabSize);
  matmul(logits, hidden, weights.head, null, rows, config.hiddenSize, config.vocabSize);
  return logits;
}

/** A linear map into a fresh array of (rows, outer). */
function linear(x: Float32Array, map: Linear, rows: number): Float32Array {
  const out = new Float32Array(rows * map.outer);
  matmul(out, x, map.weight, map.bias, rows, map.inner, map.outer);
  return out;
}
