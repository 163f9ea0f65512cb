// The forward pass, over addresses, in the order of docs/model.md: which kernel runs on what. It knows the model and does no
// arithmetic. Every function here takes a tile: tokens [from, from + count) of the job's current group.
import {
  JOB_BIAS_OUT, JOB_NORMED, JOB_ROUTER, JOB_ROUTER_STRIDE, JOB_STREAM, JOB_TOKENS, JOB_TOKENS_AT, JOB_UPDATE,
  JOB_VALUE_OUT, LAYER_A, LAYER_BYTES, LAYER_DELTA, LAYER_DOWN, LAYER_GATE_UP, LAYER_INPUT_GATE, LAYER_INPUT_NORM,
  LAYER_KEY_NORM, LAYER_OUTPUT, LAYER_POST_GATE, LAYER_POST_NORM, LAYER_QKV, LAYER_QUERY_NORM, LAYER_ROUTER,
  MODEL_BIAS_HEADS, MODEL_DELTA, MODEL_DELTA_STRIDE, MODEL_EMBEDDING, MODEL_EPSILON, MODEL_EXPERTS, MODEL_GATE_UP,
  MODEL_GATE_UP_STRIDE, MODEL_HEAD_DIM, MODEL_HEADS, MODEL_HIDDEN, MODEL_HIDDEN_STRIDE, MODEL_INTERMEDIATE,
  MODEL_KV_HEADS, MODEL_LAYERS_AT, MODEL_MIXED, MODEL_MIXED_STRIDE, MODEL_QKV, MODEL_QKV_STRIDE, MODEL_QUANTIZED,
  MODEL_ROPE, MODEL_SIDE, ROW_PAGES, ROW_REACH, TOKEN_BYTES, TOKEN_ID, TOKEN_POSITION, TOKEN_ROW,
} from "../src/descriptor";
import { attention, biases, keep } from "./kernels/attention";
import { embed } from "./kernels/embed";
import { experts } from "./kernels/experts";
import { matmul } from "./kernels/matmul";
import { rmsnorm, rmsnormHead } from "./kernels/rmsnorm";
import { rope } from "./kernels/rope";
import { swiglu } from "./kernels/swiglu";

/** Address of the record of a layer. */
// @ts-ignore: decorator
@inline
function layerAt(model: usize, layer: i32): usize {
  return load<usize>(model, MODEL_LAYERS_AT) + <usize>layer * LAYER_BYTES;
}

/** The gate on the stream that the first norm of `layer` applies for the layer before it, or 0. */
// @ts-ignore: decorator
@inline
export function gateBefore(model: usize, layer: i32): usize {
  return layer > 0 ? load<usize>(layerAt(model, layer - 1), LAYER_POST_GATE) : 0;
}

/** stream (tile, hidden) = the embeddings of the tile's tokens. */
export function embedTile(model: usize, job: usize, tokens: usize, from: i32, count: i32): void {
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  let out = load<usize>(job, JOB_STREAM) + <usize>from * stride;
  for (let index = from; index < from + count; index++) {
    embed(out, model + MODEL_EMBEDDING, load<i32>(tokens + <usize>index * TOKEN_BYTES, TOKEN_ID));
    out += stride;
  }
}

/** The attention half of a layer, up to the norm of the other half and, in a mixture of experts, the router's scores. */
export function attentionHalf(model: usize, job: usize, tokens: usize, layer: i32, from: i32, count: i32): void {
  const weights = layerAt(model, layer);
  const heads = load<i32>(model, MODEL_HEADS);
  const kvHeads = load<i32>(model, MODEL_KV_HEADS);
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const biasHeads = load<i32>(model, MODEL_BIAS_HEADS);
  const hidden = load<i32>(model, MODEL_HIDDEN);
  const epsilon = load<f32>(model, MODEL_EPSILON);
  const quantized = load<usize>(model, MODEL_QUANTIZED);
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const stream = load<usize>(job, JOB_STREAM) + <usize>from * stride; // (count, hidden)
  const update = load<usize>(job, JOB_UPDATE) + <usize>from * stride; // (count, hidden)
  const normed = load<usize>(job, JOB_NORMED) + <usize>from * stride; // (count, hidden)
  rmsnorm(
    normed, stream, gateBefore(model, layer), update, load<usize>(weights, LAYER_INPUT_NORM), count, hidden, stride, epsilon,
  );

  const queries = load<usize>(model, MODEL_QKV); // (count, heads + 2 · kvHeads, headDim)
  const qkvStride = load<usize>(model, MODEL_QKV_STRIDE);
  const keys = queries + ((<usize>heads * headDim) << 2);
  const values = keys + ((<usize>kvHeads * headDim) << 2);
  const deltas = load<usize>(model, MODEL_DELTA); // (count, biasHeads): dt_proj of the values, then the biases
  const deltaStride = load<usize>(model, MODEL_DELTA_STRIDE);
  matmul(queries, normed, weights + LAYER_QKV, count, stride, qkvStride, quantized);
  matmul(deltas, values, weights + LAYER_DELTA, count, qkvStride, deltaStride, quantized);

  const mixed = load<usize>(model, MODEL_MIXED); // (count, heads, headDim)
  const mixedStride = load<usize>(model, MODEL_MIXED_STRIDE);
  const queryNorm = load<usize>(weights, LAYER_QUERY_NORM);
  const keyNorm = load<usize>(weights, LAYER_KEY_NORM);
  for (let index = 0; index < count; index++) {
    const token = tokens + <usize>(from + index) * TOKEN_BYTES;
    const row = load<usize>(token, TOKEN_ROW);
    const position = load<i32>(token, TOKEN_POSITION);
    const at = <usize>index * qkvStride;
    if (queryNorm) {
      for (let head = 0; head < heads; head++) {
        rmsnormHead(queries + at + ((<usize>head * headDim) << 2), queryNorm, headDim, epsilon);
      }
      for (let head = 0; head < kvHeads; head++) {
        rmsnormHead(keys + at + ((<usize>head * headDim) << 2), keyNorm, headDim, epsilon);
      }
    }
    const angles = load<usize>(model, MODEL_ROPE) + ((<usize>position * (headDim & ~1)) << 2);
    rope(queries + at, angles, heads + kvHeads, headDim); // the keys stand behind the queries
    const bias = deltas + <usize>index * deltaStride;
    biases(bias, load<usize>(weights, LAYER_A), biasHeads);
    keep(
      model, layer, load<usize>(row, ROW_PAGES), load<i32>(row, ROW_REACH), position, keys + at, values + at, bias,
    );
    if (load<usize>(job, JOB_BIAS_OUT)) show(job, tokens, layer, from + index, bias, biasHeads, values + at, kvHeads * headDim);
  }
  for (let index = 0; index < count; index++) {
    const token = tokens + <usize>(from + index) * TOKEN_BYTES;
    const row = load<usize>(token, TOKEN_ROW);
    attention(
      mixed + <usize>index * mixedStride, queries + <usize>index * qkvStride, model, layer, load<usize>(row, ROW_PAGES),
      load<i32>(row, ROW_REACH), load<i32>(token, TOKEN_POSITION),
    );
  }
  matmul(update, mixed, weights + LAYER_OUTPUT, count, mixedStride, stride, quantized);

  rmsnorm(
    normed, stream, load<usize>(weights, LAYER_INPUT_GATE), update, load<usize>(weights, LAYER_POST_NORM), count, hidden, stride,
    epsilon,
  );
  if (load<i32>(model, MODEL_EXPERTS)) {
    const routerStride = load<usize>(job, JOB_ROUTER_STRIDE);
    const router = load<usize>(job, JOB_ROUTER) + <usize>from * routerStride; // (count, 2 · side)
    matmul(router, normed, weights + LAYER_ROUTER, count, stride, routerStride, quantized);
  }
}

/** Copies for inspect: biases (layers, tokens, biasHeads) and values (layers, tokens, width). */
function show(
  job: usize, tokens: usize, layer: i32, index: i32, bias: usize, biasHeads: i32, value: usize, width: i32,
): void {
  const first = <i32>((tokens - load<usize>(job, JOB_TOKENS_AT)) / TOKEN_BYTES);
  const place = <usize>(layer * load<i32>(job, JOB_TOKENS) + first + index);
  memory.copy(load<usize>(job, JOB_BIAS_OUT) + ((place * biasHeads) << 2), bias, <usize>biasHeads << 2);
  memory.copy(load<usize>(job, JOB_VALUE_OUT) + ((place * width) << 2), value, <usize>width << 2);
}

/** The feed-forward half: update = down(silu(gate(h)) ⊙ up(h)), plus the routed experts.
 *
 *  `span` tokens are routed together ("reference": the router's output is read as two flat halves, so that a token reads the
 *  scores of others); 0: each token reads its own. */
export function feedForwardHalf(model: usize, job: usize, layer: i32, from: i32, count: i32, span: i32): void {
  const weights = layerAt(model, layer);
  const intermediate = load<i32>(model, MODEL_INTERMEDIATE);
  const quantized = load<usize>(model, MODEL_QUANTIZED);
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const update = load<usize>(job, JOB_UPDATE) + <usize>from * stride; // (count, hidden)
  const normed = load<usize>(job, JOB_NORMED) + <usize>from * stride; // (count, hidden)
  const gate = load<usize>(model, MODEL_GATE_UP); // (count, 2, intermediate)
  const gateStride = load<usize>(model, MODEL_GATE_UP_STRIDE);
  matmul(gate, normed, weights + LAYER_GATE_UP, count, stride, gateStride, quantized);
  swiglu(gate, gate, gate + (<usize>intermediate << 2), count, intermediate, gateStride);
  matmul(update, gate, weights + LAYER_DOWN, count, gateStride, stride, quantized);

  if (!load<i32>(model, MODEL_EXPERTS)) return;
  const router = load<usize>(job, JOB_ROUTER);
  const routerStride = load<usize>(job, JOB_ROUTER_STRIDE);
  const half = <usize>load<i32>(model, MODEL_SIDE) << 2;
  for (let index = 0; index < count; index++) {
    // Flat row r of the router's output is half r mod 2 of token r / 2.
    const first = span ? from + index : 2 * (from + index);
    const second = span ? first + span : first + 1;
    experts(
      update + <usize>index * stride, normed + <usize>index * stride, model, weights,
      router + <usize>(first >> 1) * routerStride + <usize>(first & 1) * half,
      router + <usize>(second >> 1) * routerStride + <usize>(second & 1) * half,
    );
  }
}
