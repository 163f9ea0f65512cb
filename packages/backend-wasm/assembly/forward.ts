// The forward pass, over addresses, in the order of docs/model.md: which kernel runs on what, and which thread has which part of
// it. It knows the model and does no arithmetic. Every function here takes a tile: tokens [from, from + count) of the job's
// current group; all threads call it, and meet at its barriers.
//
// `few`: the group has FEW tokens or less. Each thread then has the residual stream and its norms to itself, all of them the same
// to the bit; that leaves five barriers in a layer. Otherwise the stream is shared, and a thread norms the tokens that are its.
//
// `unread`: of the last layer of a prompt, the first tokens of the tile whose results nobody reads. Their keys and values are kept, and
// that is all there is to do for them.
import {
  DTYPE_Q8, FEW, JOB_BIAS_OUT, JOB_NORMED, JOB_OWN, JOB_OWN_BYTES, JOB_ROUTER, JOB_ROUTER_STRIDE, JOB_STREAM, JOB_THREADS, JOB_TOKENS,
  JOB_TOKENS_AT, JOB_UPDATE, JOB_VALUE_OUT, LAYER_A, LAYER_BYTES, LAYER_DELTA, LAYER_DOWN, LAYER_GATE_UP, LAYER_INPUT_GATE,
  LAYER_INPUT_NORM, LAYER_KEY_NORM, LAYER_OUTPUT, LAYER_POST_GATE, LAYER_POST_NORM, LAYER_QKV, LAYER_QUERY_NORM, LAYER_ROUTER,
  MATRIX_DTYPE, MATRIX_INNER, MATRIX_PANELS, MODEL_BIAS_HEADS, MODEL_DELTA, MODEL_DELTA_STRIDE, MODEL_EMBEDDING, MODEL_EPSILON,
  MODEL_EXPERTS, MODEL_GATE_UP, MODEL_GATE_UP_STRIDE, MODEL_HEAD_DIM, MODEL_HEADS, MODEL_HIDDEN, MODEL_HIDDEN_STRIDE,
  MODEL_INTERMEDIATE, MODEL_KV_HEADS, MODEL_LAYERS_AT, MODEL_MIXED, MODEL_MIXED_STRIDE, MODEL_QKV, MODEL_QKV_STRIDE,
  MODEL_QUANTIZED, MODEL_QUANTIZED_OWN, MODEL_ROPE, MODEL_SIDE, PANEL, ROW_PAGES, ROW_REACH, TOKEN_BYTES, TOKEN_ID,
  TOKEN_POSITION, TOKEN_ROW,
} from "../src/descriptor";
import { attendPages, attention, gather } from "./kernels/attention";
import { embed } from "./kernels/embed";
import { experts } from "./kernels/experts";
import { inputStride, quantizeRows } from "./kernels/inputs";
import { biases, keep } from "./kernels/keep";
import { matmulPanels } from "./kernels/matmul";
import { rmsnorm, rmsnormHead } from "./kernels/rmsnorm";
import { rope } from "./kernels/rope";
import { swiglu } from "./kernels/swiglu";
import { barrier, nextPart, partsOf, share } from "./team";

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

/** The residual stream from token `from` of the group on. */
// @ts-ignore: decorator
@inline
export function streamOf(model: usize, job: usize, thread: i32, from: i32, few: bool): usize {
  const start = few ? load<usize>(job, JOB_OWN) + <usize>thread * load<usize>(job, JOB_OWN_BYTES) : load<usize>(job, JOB_STREAM);
  return start + <usize>from * load<usize>(model, MODEL_HIDDEN_STRIDE);
}

/** The norm of the stream from token `from` of the group on: what the matrices read. */
// @ts-ignore: decorator
@inline
export function normedOf(model: usize, job: usize, thread: i32, from: i32, few: bool): usize {
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  if (few) return streamOf(model, job, thread, from, true) + <usize>FEW * stride;
  return load<usize>(job, JOB_NORMED) + <usize>from * stride;
}

/** The rows as matmulPanels takes them. They are whole; with more than a few, each thread rounds its part and all meet. */
export function prepare(model: usize, job: usize, thread: i32, few: bool, x: usize, matrix: usize, rows: i32, stride: usize): usize {
  if (load<i32>(matrix, MATRIX_DTYPE) < DTYPE_Q8) return 0;
  if (few) {
    const own = load<usize>(model, MODEL_QUANTIZED_OWN);
    quantizeRows(own, x, matrix, stride, 0, rows);
    return own;
  }
  const threads = load<i32>(job, JOB_THREADS);
  const quantized = load<usize>(model, MODEL_QUANTIZED);
  quantizeRows(quantized, x, matrix, stride, share(rows, thread, threads), share(rows, thread + 1, threads));
  barrier(job);
  return quantized;
}

/** A thread's parts of out = weight · x + bias, for all rows. x is whole; out is behind the next barrier. */
function linear(
  model: usize, job: usize, thread: i32, few: bool, out: usize, x: usize, matrix: usize, rows: i32, xStride: usize,
  outStride: usize,
): void {
  const parts = partsOf(job, few);
  const panels = load<i32>(matrix, MATRIX_PANELS);
  const quantized = prepare(model, job, thread, few, x, matrix, rows, xStride);
  for (let part = nextPart(job, thread, few, -1); part >= 0; part = nextPart(job, thread, few, part)) {
    matmulPanels(out, x, matrix, rows, xStride, outStride, quantized, share(panels, part, parts), share(panels, part + 1, parts));
  }
}

/** linear() to queries, keys and values: of the first `unread` rows to keys and values alone, by the panels that hold any of them. */
function linearQKV(
  model: usize, job: usize, thread: i32, few: bool, out: usize, x: usize, matrix: usize, rows: i32, unread: i32, xStride: usize,
  outStride: usize,
): void {
  const parts = partsOf(job, few);
  const panels = load<i32>(matrix, MATRIX_PANELS);
  const keys = load<i32>(model, MODEL_HEADS) * load<i32>(model, MODEL_HEAD_DIM) / PANEL;
  const quantized = prepare(model, job, thread, few, x, matrix, rows, xStride);
  const skipped = <usize>unread;
  const readOut = out + skipped * outStride;
  const readX = x + skipped * xStride;
  const readQuantized = quantized + skipped * inputStride(load<i32>(matrix, MATRIX_DTYPE), load<i32>(matrix, MATRIX_INNER));
  for (let part = nextPart(job, thread, few, -1); part >= 0; part = nextPart(job, thread, few, part)) {
    const from = share(panels, part, parts);
    const to = share(panels, part + 1, parts);
    if (unread > 0) matmulPanels(out, x, matrix, unread, xStride, outStride, quantized, max(from, keys), to);
    if (unread < rows) matmulPanels(readOut, readX, matrix, rows - unread, xStride, outStride, readQuantized, from, to);
  }
}

/** The attention half of a layer, up to the norm of the other half and, in a mixture of experts, the router's scores. */
export function attentionHalf(
  model: usize, job: usize, thread: i32, tokens: usize, layer: i32, from: i32, count: i32, unread: i32, few: bool,
): void {
  const threads = load<i32>(job, JOB_THREADS);
  const weights = layerAt(model, layer);
  const hidden = load<i32>(model, MODEL_HIDDEN);
  const epsilon = load<f32>(model, MODEL_EPSILON);
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const stream = streamOf(model, job, thread, from, few); // (count, hidden)
  const normed = normedOf(model, job, thread, from, few); // (count, hidden)
  const update = load<usize>(job, JOB_UPDATE) + <usize>from * stride; // (count, hidden)
  // The tokens whose norms are this thread's.
  const first = few ? 0 : share(count, thread, threads);
  const own = few ? count : share(count, thread + 1, threads) - first;
  const at = <usize>first * stride;
  if (layer == 0) {
    for (let index = first; index < first + own; index++) {
      const id = load<i32>(tokens + <usize>(from + index) * TOKEN_BYTES, TOKEN_ID);
      embed(stream + <usize>index * stride, model + MODEL_EMBEDDING, id);
    }
  }
  rmsnorm(
    normed + at, stream + at, gateBefore(model, layer), update + at, load<usize>(weights, LAYER_INPUT_NORM), own, hidden, stride,
    epsilon,
  );
  if (!few) barrier(job);

  const queries = load<usize>(model, MODEL_QKV); // (count, heads + 2 · kvHeads, headDim)
  const queryStride = load<usize>(model, MODEL_QKV_STRIDE);
  linearQKV(model, job, thread, few, queries, normed, weights + LAYER_QKV, count, unread, stride, queryStride);
  barrier(job);
  heads(model, job, thread, tokens, layer, from, count, unread);
  barrier(job);
  if (unread == count) return;
  const mixed = load<usize>(model, MODEL_MIXED); // (count, heads, headDim)
  const mixedStride = load<usize>(model, MODEL_MIXED_STRIDE);
  const skipped = <usize>unread * stride;
  linear(
    model, job, thread, few, update + skipped, mixed + <usize>unread * mixedStride, weights + LAYER_OUTPUT, count - unread, mixedStride,
    stride,
  );
  barrier(job);

  const firstRead = max(first, unread);
  const readAt = <usize>firstRead * stride;
  rmsnorm(
    normed + readAt, stream + readAt, load<usize>(weights, LAYER_INPUT_GATE), update + readAt, load<usize>(weights, LAYER_POST_NORM),
    first + own - firstRead, hidden, stride, epsilon,
  );
  if (!few) barrier(job);
  if (load<i32>(model, MODEL_EXPERTS)) {
    const routerStride = load<usize>(job, JOB_ROUTER_STRIDE);
    const router = load<usize>(job, JOB_ROUTER) + <usize>from * routerStride; // (count, 2 · side)
    linear(
      model, job, thread, few, router + <usize>unread * routerStride, normed + skipped, weights + LAYER_ROUTER, count - unread, stride,
      routerStride,
    );
    if (!few) barrier(job);
  }
}

/** Keys and values of the tile into the cache, then what its queries read there. A key/value head is one thread's for all of the
 *  tile, since a window evicts in the order of tokens; where the heads do not come out even, attention is dealt out by the token, and
 *  that of one token by its pages. */
function heads(model: usize, job: usize, thread: i32, tokens: usize, layer: i32, from: i32, count: i32, unread: i32): void {
  const threads = load<i32>(job, JOB_THREADS);
  const kvHeads = load<i32>(model, MODEL_KV_HEADS);
  const first = share(kvHeads, thread, threads);
  const end = share(kvHeads, thread + 1, threads);
  if (first < end) keepHeads(model, job, tokens, layer, from, count, first, end);
  if (unread == count) return;
  if (kvHeads % threads == 0) {
    attend(model, tokens, layer, from, unread, count - unread, first, end);
    return;
  }
  if (count == 1) {
    attendTogether(model, job, thread, tokens + <usize>from * TOKEN_BYTES, layer, first, end);
    return;
  }
  barrier(job);
  for (let item = unread * kvHeads + thread; item < count * kvHeads; item += threads) {
    const head = item % kvHeads;
    attend(model, tokens, layer, from, item / kvHeads, 1, head, head + 1);
  }
}

/** What one token reads, with its pages dealt out to all threads; key/value heads [first, end) are this thread's otherwise. */
function attendTogether(model: usize, job: usize, thread: i32, token: usize, layer: i32, first: i32, end: i32): void {
  const threads = load<i32>(job, JOB_THREADS);
  const heads = load<i32>(model, MODEL_HEADS);
  const row = load<usize>(token, TOKEN_ROW);
  const position = load<i32>(token, TOKEN_POSITION);
  const reach = load<i32>(row, ROW_REACH);
  const queries = load<usize>(model, MODEL_QKV);
  turnQueries(queries, model, layer, position, first, end);
  barrier(job);
  attendPages(queries, model, layer, load<usize>(row, ROW_PAGES), reach, position, thread, threads);
  barrier(job);
  gather(load<usize>(model, MODEL_MIXED), model, reach, position, share(heads, thread, threads), share(heads, thread + 1, threads));
}

/** Norm and rotation of the query heads of key/value heads [first, end) of one token, in place. */
function turnQueries(query: usize, model: usize, layer: i32, position: i32, first: i32, end: i32): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const group = load<i32>(model, MODEL_HEADS) / load<i32>(model, MODEL_KV_HEADS);
  const queryNorm = load<usize>(layerAt(model, layer), LAYER_QUERY_NORM);
  if (queryNorm) {
    for (let head = first * group; head < end * group; head++) {
      rmsnormHead(query + ((<usize>head * headDim) << 2), queryNorm, headDim, load<f32>(model, MODEL_EPSILON));
    }
  }
  rope(query + ((<usize>first * group * headDim) << 2), anglesAt(model, position), (end - first) * group, headDim);
}

/** Into the cache: keys and values of key/value heads [first, end). */
function keepHeads(
  model: usize, job: usize, tokens: usize, layer: i32, from: i32, count: i32, first: i32, end: i32,
): void {
  const weights = layerAt(model, layer);
  const kvHeads = load<i32>(model, MODEL_KV_HEADS);
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const headBytes = <usize>headDim << 2;
  const biasHeads = load<i32>(model, MODEL_BIAS_HEADS);
  const stride = load<usize>(model, MODEL_QKV_STRIDE);
  const keys = load<usize>(model, MODEL_QKV) + <usize>load<i32>(model, MODEL_HEADS) * headBytes;
  const values = keys + <usize>kvHeads * headBytes;
  const delta = weights + LAYER_DELTA;
  const deltas = load<usize>(model, MODEL_DELTA); // (count, biasHeads): dt_proj of the values, then the biases
  const deltaStride = load<usize>(model, MODEL_DELTA_STRIDE);
  const keyNorm = load<usize>(weights, LAYER_KEY_NORM);
  matmulPanels(deltas, values, delta, count, stride, deltaStride, 0, 0, load<i32>(delta, MATRIX_PANELS));
  for (let index = 0; index < count; index++) {
    const token = tokens + <usize>(from + index) * TOKEN_BYTES;
    const row = load<usize>(token, TOKEN_ROW);
    const position = load<i32>(token, TOKEN_POSITION);
    const key = keys + <usize>index * stride;
    const value = values + <usize>index * stride;
    if (keyNorm) {
      for (let head = first; head < end; head++) {
        rmsnormHead(key + <usize>head * headBytes, keyNorm, headDim, load<f32>(model, MODEL_EPSILON));
      }
    }
    rope(key + <usize>first * headBytes, anglesAt(model, position), end - first, headDim);
    const bias = deltas + <usize>index * deltaStride;
    biases(bias, load<usize>(weights, LAYER_A), biasHeads);
    keep(model, layer, load<usize>(row, ROW_PAGES), load<i32>(row, ROW_REACH), position, key, value, bias, first, end);
    if (load<usize>(job, JOB_BIAS_OUT) && first == 0) {
      show(job, tokens, layer, from + index, bias, biasHeads, value, kvHeads * headDim);
    }
  }
}

/** What the query heads of key/value heads [first, end) read for tokens [index, index + count) of the tile: those of a sequence
 *  that follow one another together. */
function attend(
  model: usize, tokens: usize, layer: i32, from: i32, index: i32, count: i32, first: i32, end: i32,
): void {
  const stride = load<usize>(model, MODEL_QKV_STRIDE);
  const mixedStride = load<usize>(model, MODEL_MIXED_STRIDE);
  const stop = index + count;
  while (index < stop) {
    const token = tokens + <usize>(from + index) * TOKEN_BYTES;
    const row = load<usize>(token, TOKEN_ROW);
    const position = load<i32>(token, TOKEN_POSITION);
    const queries = load<usize>(model, MODEL_QKV) + <usize>index * stride;
    const mixed = load<usize>(model, MODEL_MIXED) + <usize>index * mixedStride;
    let run = 0;
    for (; index + run < stop; run++) {
      const next = token + <usize>run * TOKEN_BYTES;
      if (load<usize>(next, TOKEN_ROW) != row || load<i32>(next, TOKEN_POSITION) != position + run) break;
      turnQueries(queries + <usize>run * stride, model, layer, position + run, first, end);
    }
    attention(
      mixed, mixedStride, queries, stride, model, layer, load<usize>(row, ROW_PAGES), load<i32>(row, ROW_REACH), position, run,
      first, end,
    );
    index += run;
  }
}

/** The angles of a position: f32 (2, headDim / 2). */
// @ts-ignore: decorator
@inline
function anglesAt(model: usize, position: i32): usize {
  return load<usize>(model, MODEL_ROPE) + ((<usize>position * (load<i32>(model, MODEL_HEAD_DIM) & ~1)) << 2);
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
export function feedForwardHalf(
  model: usize, job: usize, thread: i32, layer: i32, from: i32, count: i32, span: i32, few: bool,
): void {
  const threads = load<i32>(job, JOB_THREADS);
  const weights = layerAt(model, layer);
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const update = load<usize>(job, JOB_UPDATE) + <usize>from * stride; // (count, hidden)
  const normed = normedOf(model, job, thread, from, few); // (count, hidden)
  const gate = load<usize>(model, MODEL_GATE_UP); // (count, 2, intermediate)
  gateUp(model, job, thread, few, gate, normed, weights + LAYER_GATE_UP, count);
  barrier(job);
  linear(model, job, thread, few, update, gate, weights + LAYER_DOWN, count, load<usize>(model, MODEL_GATE_UP_STRIDE), stride);
  barrier(job);

  if (!load<i32>(model, MODEL_EXPERTS)) return;
  const router = load<usize>(job, JOB_ROUTER);
  const routerStride = load<usize>(job, JOB_ROUTER_STRIDE);
  const half = <usize>load<i32>(model, MODEL_SIDE) << 2;
  for (let index = thread; index < count; index += threads) {
    // Flat row r of the router's output is half r mod 2 of token r / 2.
    const first = span ? from + index : 2 * (from + index);
    const second = span ? first + span : first + 1;
    experts(
      update + <usize>index * stride, normed + <usize>index * stride, model, weights,
      router + <usize>(first >> 1) * routerStride + <usize>(first & 1) * half,
      router + <usize>(second >> 1) * routerStride + <usize>(second & 1) * half,
    );
  }
  barrier(job);
}

/** gate = silu(gate(x)) ⊙ up(x). Where both begin with a panel, a thread has the same panels of either, and no need to wait. */
function gateUp(
  model: usize, job: usize, thread: i32, few: bool, gate: usize, x: usize, matrix: usize, count: i32,
): void {
  const threads = load<i32>(job, JOB_THREADS);
  const intermediate = load<i32>(model, MODEL_INTERMEDIATE);
  const xStride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const stride = load<usize>(model, MODEL_GATE_UP_STRIDE);
  const up = gate + (<usize>intermediate << 2);
  if (intermediate % PANEL) {
    linear(model, job, thread, few, gate, x, matrix, count, xStride, stride);
    barrier(job);
    const first = share(count, thread, threads);
    const at = <usize>first * stride;
    swiglu(gate + at, gate + at, up + at, share(count, thread + 1, threads) - first, intermediate, stride);
    return;
  }
  const parts = partsOf(job, few);
  const panels = intermediate / PANEL;
  const quantized = prepare(model, job, thread, few, x, matrix, count, xStride);
  for (let part = nextPart(job, thread, few, -1); part >= 0; part = nextPart(job, thread, few, part)) {
    const from = share(panels, part, parts);
    const to = share(panels, part + 1, parts);
    const at = <usize>from * (PANEL * 4);
    matmulPanels(gate, x, matrix, count, xStride, stride, quantized, from, to);
    matmulPanels(gate, x, matrix, count, xStride, stride, quantized, panels + from, panels + to);
    swiglu(gate + at, gate + at, up + at, count, (to - from) * PANEL, stride);
  }
}
