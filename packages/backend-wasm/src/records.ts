// Writes the records by which the kernels find a model in the memory (descriptor.ts has their fields).
import * as D from "./descriptor.ts";
import type { Tiles } from "./features.ts";
import type { Heap } from "./heap.ts";
import { costs, DTYPES, type Layout, type MatrixPlan, UNIT } from "./layout.ts";

/** Writes the record of a matrix. */
export function writeMatrix({ data }: Pick<Heap, "data">, at: number, plan: MatrixPlan, tiles: Tiles): void {
  data.setUint32(at + D.MATRIX_WEIGHTS, plan.weights, true);
  data.setUint32(at + D.MATRIX_DTYPE, DTYPES[plan.dtype], true);
  data.setUint32(at + D.MATRIX_BIAS, plan.bias, true);
  data.setUint32(at + D.MATRIX_INNER, plan.inner, true);
  data.setUint32(at + D.MATRIX_PANELS, plan.panels, true);
  data.setUint32(at + D.MATRIX_WIDE, tiles.wide ? 1 : 0, true);
  data.setUint32(at + D.MATRIX_FUSED, tiles.fused ? 1 : 0, true);
}

/** Writes the layers' records, and the model's for each thread. */
export function writeModel(heap: Heap, layout: Layout): void {
  const { data } = heap;
  const word = (at: number, value: number) => data.setUint32(at, value, true);
  const matrix = (at: number, plan: MatrixPlan) => writeMatrix(heap, at, plan, layout.tiles);
  layout.layers.forEach((layer, number) => {
    const at = layout.layersAt + number * D.LAYER_BYTES;
    matrix(at + D.LAYER_QKV, layer.qkv);
    matrix(at + D.LAYER_OUTPUT, layer.output);
    matrix(at + D.LAYER_DELTA, layer.delta);
    matrix(at + D.LAYER_GATE_UP, layer.gateUp);
    matrix(at + D.LAYER_DOWN, layer.down);
    if (layer.router !== null) matrix(at + D.LAYER_ROUTER, layer.router);
    word(at + D.LAYER_INPUT_NORM, layer.inputNorm);
    word(at + D.LAYER_INPUT_GATE, layer.inputGate);
    word(at + D.LAYER_POST_NORM, layer.postNorm);
    word(at + D.LAYER_POST_GATE, layer.postGate);
    word(at + D.LAYER_QUERY_NORM, layer.queryNorm);
    word(at + D.LAYER_KEY_NORM, layer.keyNorm);
    word(at + D.LAYER_A, layer.A);
    word(at + D.LAYER_EXPERTS_DOWN, layer.expertsDown?.at ?? 0);
    word(at + D.LAYER_EXPERTS_UP, layer.expertsUp?.at ?? 0);
  });
  for (let thread = 0; thread < layout.threads; thread++) writeThread(heap, layout, thread);
}

/** The record of the model that `thread` reads. */
function writeThread({ data }: Heap, layout: Layout, thread: number): void {
  const { config, scratch, page } = layout;
  const { experts } = config;
  const word = (at: number, value: number) => data.setUint32(at, value, true);
  const matrix = (at: number, plan: MatrixPlan) => writeMatrix({ data }, at, plan, layout.tiles);
  const at = layout.model + thread * D.MODEL_BYTES;
  word(at + D.MODEL_LAYERS, config.layers);
  word(at + D.MODEL_LAYERS_AT, layout.layersAt);
  word(at + D.MODEL_HIDDEN, config.hiddenSize);
  word(at + D.MODEL_HIDDEN_STRIDE, layout.hiddenStride);
  word(at + D.MODEL_INTERMEDIATE, config.intermediateSize);
  word(at + D.MODEL_VOCABULARY, config.vocabSize);
  word(at + D.MODEL_LOGITS_STRIDE, scratch.logitsStride);
  word(at + D.MODEL_HEADS, config.heads);
  word(at + D.MODEL_KV_HEADS, config.kvHeads);
  word(at + D.MODEL_HEAD_DIM, config.headDim);
  word(at + D.MODEL_BIAS_HEADS, config.biasHeads);
  word(at + D.MODEL_WINDOW, config.window ?? 0);
  data.setFloat32(at + D.MODEL_EPSILON, config.normEpsilon, true);
  word(at + D.MODEL_EXPERTS_DTYPE, DTYPES[layout.dtype]);
  word(at + D.MODEL_EXPERTS, experts?.count ?? 0);
  word(at + D.MODEL_PER_TOKEN, experts?.perToken ?? 0);
  word(at + D.MODEL_SIDE, experts?.side ?? 0);
  word(at + D.MODEL_NORMALIZE, experts?.normalize ? 1 : 0);
  word(at + D.MODEL_GRID, experts?.indexing === "grid" ? 1 : 0);
  word(at + D.MODEL_ROPE, layout.rope);
  matrix(at + D.MODEL_EMBEDDING, layout.embedding);
  matrix(at + D.MODEL_HEAD, layout.head);
  word(at + D.MODEL_NORM, layout.norm);
  word(at + D.MODEL_TILE, layout.tile);
  const panel = D.PANEL * config.hiddenSize;
  word(at + D.MODEL_HEAD_PANELS, Math.max(1, Math.floor(UNIT / D.HEAD_ROWS / panel)));
  const cost = costs(config);
  data.setFloat64(at + D.MODEL_COST_ATTENTION, cost.attention, true);
  data.setFloat64(at + D.MODEL_COST_KEY, cost.key, true);
  data.setFloat64(at + D.MODEL_COST_MLP, cost.feedForward, true);
  data.setFloat64(at + D.MODEL_COST_PANEL, panel, true);
  word(at + D.MODEL_PAGE_LAYER, page.layerBytes);
  word(at + D.MODEL_PAGE_VALUES, page.values);
  word(at + D.MODEL_PAGE_BIASES, page.biases);
  word(at + D.MODEL_PAGE_POSITIONS, page.positions);
  word(at + D.MODEL_PAGE_EVICTED, page.evicted);
  word(at + D.MODEL_PAGE_HEAP, page.evicted + page.meta);
  word(at + D.MODEL_PAGE_RING, page.evicted + 2 * page.meta);
  word(at + D.MODEL_PAGE_MARK, page.evicted + 3 * page.meta);
  word(at + D.MODEL_PAGE_HEAD, page.headBytes);
  word(at + D.MODEL_CACHE, DTYPES[page.dtype]);
  word(at + D.MODEL_QKV, scratch.qkv);
  word(at + D.MODEL_QKV_STRIDE, scratch.qkvStride);
  word(at + D.MODEL_DELTA, scratch.delta + thread * scratch.own.delta);
  word(at + D.MODEL_DELTA_STRIDE, scratch.deltaStride);
  word(at + D.MODEL_MIXED, scratch.mixed);
  word(at + D.MODEL_MIXED_STRIDE, scratch.mixedStride);
  word(at + D.MODEL_GATE_UP, scratch.gateUp);
  word(at + D.MODEL_GATE_UP_STRIDE, scratch.gateUpStride);
  word(at + D.MODEL_SCORES, scratch.scores + thread * scratch.own.scores);
  word(at + D.MODEL_PARTS, scratch.parts);
  word(at + D.MODEL_QUANTIZED, scratch.quantized);
  word(at + D.MODEL_QUANTIZED_OWN, scratch.quantizedOwn + thread * scratch.own.quantizedOwn);
  word(at + D.MODEL_NORMED, scratch.normed);
  word(at + D.MODEL_LOGITS, scratch.logits);
  word(at + D.MODEL_CHOICE, scratch.choice + thread * scratch.own.choice);
  word(at + D.MODEL_HISTOGRAM, scratch.histogram);
  word(at + D.MODEL_DRAW, scratch.draw);
}
