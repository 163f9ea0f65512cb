// Plans the memory of a model: weights, tables, scratch, pages of keys. The only file that knows addresses; the records it
// writes for the kernels are those of descriptor.ts.
//
//   | module's constants | model | layers | weights | rope | scratch | pages of keys in use | the job of a call ... |
//   0                    64 KiB                                       layout.pagesAt, grows as they are used
import { type Config, keyValueWidth, queryWidth } from "@doge-lm/core";
import * as D from "./descriptor.ts";
import type { Heap } from "./heap.ts";

/** Most multiply-adds of one unit of work: about 15 ms, so that an abort is noticed in time. */
const UNIT = 60e6;
/** Pages beyond those the room asks for: sequences that end in the middle of a page need one more each. */
const SLACK_PAGES = 32;

export interface MatrixPlan {
  readonly weights: number;
  /** 0: f32. */
  readonly scales: number;
  /** 0: none. */
  readonly bias: number;
  readonly inner: number;
  readonly outer: number;
  readonly panels: number;
}

/** A table whose rows are read one at a time: the experts. */
export interface TablePlan {
  readonly values: number;
  /** 0: f32. */
  readonly scales: number;
  readonly columns: number;
}

export interface LayerPlan {
  readonly qkv: MatrixPlan;
  readonly output: MatrixPlan;
  readonly delta: MatrixPlan;
  readonly gateUp: MatrixPlan;
  readonly down: MatrixPlan;
  readonly router: MatrixPlan | null;
  readonly inputNorm: number;
  readonly inputGate: number;
  readonly postNorm: number;
  readonly postGate: number;
  readonly queryNorm: number;
  readonly keyNorm: number;
  readonly A: number;
  readonly expertsDown: TablePlan | null;
  readonly expertsUp: TablePlan | null;
}

/** One layer's part of a page: offsets in bytes (assembly/kernels/attention.ts draws it). */
interface PagePlan {
  readonly layerBytes: number;
  readonly values: number;
  readonly biases: number;
  readonly positions: number;
  readonly evicted: number;
  readonly valueStride: number;
  readonly bytes: number;
}

export interface Layout {
  readonly config: Config;
  readonly context: number;
  readonly quantized: boolean;
  /** Threads that compute together, each with a record of the model and some scratch of its own. */
  readonly threads: number;
  readonly model: number;
  readonly layersAt: number;
  readonly layers: readonly LayerPlan[];
  readonly embedding: MatrixPlan;
  /** The embedding itself when tied. */
  readonly head: MatrixPlan;
  readonly norm: number;
  readonly rope: number;
  readonly hiddenStride: number;
  readonly routerStride: number;
  /** Most tokens taken through half a layer at a time. */
  readonly tile: number;
  readonly page: PagePlan;
  readonly pagesAt: number;
  readonly pages: number;
  /** Where the pages end when all of them are in use. */
  readonly heapAt: number;
  readonly scratch: Scratch;
}

interface Scratch {
  readonly qkv: number;
  readonly qkvStride: number;
  readonly delta: number;
  readonly deltaStride: number;
  readonly mixed: number;
  readonly mixedStride: number;
  readonly gateUp: number;
  readonly gateUpStride: number;
  readonly scores: number;
  readonly quantized: number;
  readonly quantizedOwn: number;
  readonly normed: number;
  readonly logits: number;
  readonly logitsStride: number;
  readonly choice: number;
  readonly histogram: number;
  readonly draw: number;
  /** Bytes from a thread's own scratch to the next thread's. */
  readonly own: {
    readonly delta: number;
    readonly scores: number;
    readonly quantizedOwn: number;
    readonly choice: number;
  };
}

export const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;
/** Bytes of a row of f32, padded to a whole number of panels. */
const rowBytes = (columns: number): number => roundUp(columns, D.PANEL) * 4;

/** Slots that a sequence of `length` tokens takes. */
export const slotsOf = (config: Config, length: number): number =>
  config.window === null ? length : Math.min(length, config.window + D.JOURNAL);

/** Hands out addresses one after the other, 64 bytes apart at least: a cache line. */
class Bump {
  at: number;

  constructor(from: number) {
    this.at = roundUp(from, 64);
  }

  take(bytes: number): number {
    const address = this.at;
    this.at = roundUp(address + bytes, 64);
    return address;
  }

  vector(columns: number): number {
    return this.take(rowBytes(columns));
  }

  matrix(inner: number, outer: number, biased: boolean, quantized: boolean): MatrixPlan {
    const panels = Math.ceil(outer / D.PANEL);
    const bytes = quantized ? Math.ceil(inner / 4) * 4 : inner * 4;
    return {
      weights: this.take(panels * D.PANEL * bytes),
      scales: quantized ? this.take(panels * D.PANEL * 4 * Math.ceil(inner / D.BLOCK)) : 0,
      bias: biased ? this.take(panels * D.PANEL * 4) : 0,
      inner,
      outer,
      panels,
    };
  }

  table(rows: number, columns: number, quantized: boolean): TablePlan {
    const blocks = Math.ceil(columns / D.BLOCK);
    return {
      values: this.take(rows * (quantized ? blocks * D.BLOCK : rowBytes(columns))),
      scales: quantized ? this.take(rows * blocks * 4) : 0,
      columns,
    };
  }
}

/** Where everything of a model stands. It needs `layout.pagesAt` bytes before its first call, and `layout.heapAt` when full. */
export function planMemory(config: Config, quantized: boolean, context: number, room: number, threads = 1): Layout {
  const { hiddenSize, intermediateSize, vocabSize, biasHeads, experts, headDim } = config;
  const queries = queryWidth(config);
  const keys = keyValueWidth(config);
  const bump = new Bump(D.STATIC_BYTES);
  const model = bump.take(threads * D.MODEL_BYTES);
  const layersAt = bump.take(config.layers * D.LAYER_BYTES);
  const embedding = bump.matrix(hiddenSize, vocabSize, false, quantized);
  const layers = Array.from(
    { length: config.layers },
    (): LayerPlan => ({
      inputNorm: bump.vector(hiddenSize),
      inputGate: bump.vector(hiddenSize),
      qkv: bump.matrix(hiddenSize, queries + 2 * keys, config.attentionBias, quantized),
      queryNorm: config.qkNorm ? bump.vector(headDim) : 0,
      keyNorm: config.qkNorm ? bump.vector(headDim) : 0,
      delta: bump.matrix(keys, biasHeads, config.attentionBias, false),
      A: bump.vector(biasHeads),
      output: bump.matrix(queries, hiddenSize, config.attentionBias, quantized),
      postNorm: bump.vector(hiddenSize),
      postGate: bump.vector(hiddenSize),
      gateUp: bump.matrix(hiddenSize, 2 * intermediateSize, config.mlpBias, quantized),
      down: bump.matrix(intermediateSize, hiddenSize, config.mlpBias, quantized),
      router: experts && bump.matrix(hiddenSize, 2 * experts.side, false, false),
      expertsDown: experts && bump.table(experts.count, hiddenSize, quantized),
      expertsUp: experts && bump.table(experts.count, hiddenSize, quantized),
    }),
  );
  const norm = bump.vector(hiddenSize);
  const head = config.tied ? embedding : bump.matrix(hiddenSize, vocabSize, false, quantized);
  const rope = bump.take(context * 2 * (headDim >> 1) * 4);
  const tile = tileOf(config, context);
  const scratch = planScratch(bump, config, context, tile, threads);
  const page = planPage(config);
  const pagesAt = roundUp(bump.at, 4096);
  const pages = Math.ceil(room / D.PANEL) + SLACK_PAGES;
  return {
    ...{
      config,
      context,
      quantized,
      threads,
      model,
      layersAt,
      layers,
      embedding,
      head,
      norm,
      rope,
      tile,
      scratch,
      page,
      pagesAt,
      pages,
    },
    hiddenStride: rowBytes(hiddenSize),
    routerStride: experts === null ? 0 : rowBytes(2 * experts.side),
    heapAt: pagesAt + pages * page.bytes,
  };
}

/** Multiply-adds of one token in a layer. */
function costs(config: Config): { attention: number; key: number; feedForward: number } {
  const { hiddenSize, intermediateSize, experts } = config;
  const queries = queryWidth(config);
  const keys = keyValueWidth(config);
  const router = experts === null ? 0 : 2 * experts.side * hiddenSize;
  return {
    attention: hiddenSize * (2 * queries + 2 * keys) + keys * config.biasHeads + router,
    key: 2 * queries,
    feedForward: 3 * hiddenSize * intermediateSize + (experts === null ? 0 : 2 * experts.perToken * hiddenSize),
  };
}

function tileOf(config: Config, context: number): number {
  const cost = costs(config);
  const heaviest = Math.max(cost.attention + cost.key * slotsOf(config, context), cost.feedForward);
  return Math.max(4, Math.min(D.JOURNAL, 4 * Math.floor(UNIT / heaviest / 4)));
}

function planScratch(bump: Bump, config: Config, context: number, tile: number, threads: number): Scratch {
  const { hiddenSize, intermediateSize, experts } = config;
  const queries = queryWidth(config);
  const keys = keyValueWidth(config);
  const rows = Math.max(tile, D.HEAD_ROWS);
  const blocks = Math.ceil(Math.max(hiddenSize, intermediateSize, queries) / D.BLOCK);
  const qkvStride = rowBytes(queries + 2 * keys);
  const deltaStride = rowBytes(config.biasHeads);
  const mixedStride = rowBytes(queries);
  const gateUpStride = rowBytes(2 * intermediateSize);
  const logitsStride = rowBytes(config.vocabSize);
  const own = {
    delta: roundUp(tile * deltaStride, 64),
    scores: roundUp(rowBytes(slotsOf(config, context)), 64),
    quantizedOwn: roundUp(D.FEW * blocks * (D.BLOCK * 2 + 4), 64),
    choice: experts === null ? 0 : roundUp((2 * experts.side + 3 * experts.perToken) * 4, 64),
  };
  return {
    own,
    qkv: bump.take(tile * qkvStride),
    qkvStride,
    delta: bump.take(threads * own.delta),
    deltaStride,
    mixed: bump.take(tile * mixedStride),
    mixedStride,
    gateUp: bump.take(tile * gateUpStride),
    gateUpStride,
    scores: bump.take(threads * own.scores),
    quantized: bump.take(rows * blocks * (D.BLOCK * 2 + 4)),
    quantizedOwn: bump.take(threads * own.quantizedOwn),
    normed: bump.take(D.HEAD_ROWS * rowBytes(hiddenSize)),
    logits: bump.take(D.HEAD_ROWS * logitsStride),
    logitsStride,
    choice: experts === null ? 0 : bump.take(threads * own.choice),
    histogram: bump.take(2048 * 12),
    draw: bump.take(2 * logitsStride),
  };
}

function planPage(config: Config): PagePlan {
  const { kvHeads, headDim, biasHeads } = config;
  const valueStride = roundUp(headDim, 4) * 4;
  const values = roundUp(kvHeads * headDim * D.PANEL * 4, 64);
  const biases = values + kvHeads * D.PANEL * valueStride;
  const positions = biases + biasHeads * D.PANEL * 4;
  const meta = config.window === null ? 0 : kvHeads * D.PANEL * 4;
  const layerBytes = positions + 2 * meta;
  return {
    ...{ layerBytes, values, biases, positions, evicted: positions + meta, valueStride },
    bytes: layerBytes * config.layers,
  };
}

/** Writes the record of a matrix. */
export function writeMatrix({ data }: Pick<Heap, "data">, at: number, plan: MatrixPlan): void {
  data.setUint32(at + D.MATRIX_WEIGHTS, plan.weights, true);
  data.setUint32(at + D.MATRIX_SCALES, plan.scales, true);
  data.setUint32(at + D.MATRIX_BIAS, plan.bias, true);
  data.setUint32(at + D.MATRIX_INNER, plan.inner, true);
  data.setUint32(at + D.MATRIX_PANELS, plan.panels, true);
}

/** Writes the layers' records, and the model's for each thread. */
export function writeModel(heap: Heap, layout: Layout): void {
  const { data } = heap;
  const word = (at: number, value: number) => data.setUint32(at, value, true);
  const matrix = (at: number, plan: MatrixPlan) => writeMatrix(heap, at, plan);
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
    word(at + D.LAYER_EXPERTS_DOWN, layer.expertsDown?.values ?? 0);
    word(at + D.LAYER_EXPERTS_UP, layer.expertsUp?.values ?? 0);
    word(at + D.LAYER_EXPERTS_DOWN_SCALES, layer.expertsDown?.scales ?? 0);
    word(at + D.LAYER_EXPERTS_UP_SCALES, layer.expertsUp?.scales ?? 0);
  });
  for (let thread = 0; thread < layout.threads; thread++) writeThread(heap, layout, thread);
}

/** The record of the model that `thread` reads. */
function writeThread({ data }: Heap, layout: Layout, thread: number): void {
  const { config, scratch, page } = layout;
  const { experts } = config;
  const word = (at: number, value: number) => data.setUint32(at, value, true);
  const matrix = (at: number, plan: MatrixPlan) => writeMatrix({ data }, at, plan);
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
  word(at + D.MODEL_VALUE_STRIDE, page.valueStride);
  word(at + D.MODEL_QKV, scratch.qkv);
  word(at + D.MODEL_QKV_STRIDE, scratch.qkvStride);
  word(at + D.MODEL_DELTA, scratch.delta + thread * scratch.own.delta);
  word(at + D.MODEL_DELTA_STRIDE, scratch.deltaStride);
  word(at + D.MODEL_MIXED, scratch.mixed);
  word(at + D.MODEL_MIXED_STRIDE, scratch.mixedStride);
  word(at + D.MODEL_GATE_UP, scratch.gateUp);
  word(at + D.MODEL_GATE_UP_STRIDE, scratch.gateUpStride);
  word(at + D.MODEL_SCORES, scratch.scores + thread * scratch.own.scores);
  word(at + D.MODEL_QUANTIZED, scratch.quantized);
  word(at + D.MODEL_QUANTIZED_OWN, scratch.quantizedOwn + thread * scratch.own.quantizedOwn);
  word(at + D.MODEL_NORMED, scratch.normed);
  word(at + D.MODEL_LOGITS, scratch.logits);
  word(at + D.MODEL_CHOICE, scratch.choice + thread * scratch.own.choice);
  word(at + D.MODEL_HISTOGRAM, scratch.histogram);
  word(at + D.MODEL_DRAW, scratch.draw);
}
