// Plans the memory of a model: weights, tables, scratch, pages of keys. The only file that decides on addresses; records.ts
// tells them to the kernels.
//
//   | module's constants | model | layers | weights | rope | scratch | pages of keys in use | the job of a call ... |
//   0                    64 KiB                                       layout.pagesAt, grows as they are used
import { type Config, type DType, keyValueWidth, queryWidth } from "@doge-lm/core";
import { slotsFor } from "@doge-lm/core/backend-kit";
import * as D from "./descriptor.ts";
import type { Binary, Tiles } from "./features.ts";

/** Most multiply-adds of one unit of work: about 15 ms, so that an abort is noticed in time. */
export const UNIT = 200e6;
/** Pages beyond those the room asks for: sequences that end in the middle of a page need one more each. They are addresses only,
 *  until they are used. */
const SLACK_PAGES = 128;

export const DTYPES = {
  f32: D.DTYPE_F32,
  bf16: D.DTYPE_BF16,
  q8: D.DTYPE_Q8,
  q4: D.DTYPE_Q4,
} as const satisfies Record<DType, number>;

/** How keys and values are held (assembly/kernels/cache.ts). */
export type CacheDType = Exclude<DType, "q4">;

/** The same for weights of `dtype`: q8 and q4 have bytes where the binary multiplies bytes. */
export function cacheDType(dtype: DType, binary: Binary): CacheDType {
  if (dtype === "f32") return "f32";
  return dtype === "bf16" || binary === "simd" ? "bf16" : "q8";
}

export interface MatrixPlan {
  readonly dtype: DType;
  readonly weights: number;
  /** 0: none. */
  readonly bias: number;
  readonly inner: number;
  readonly outer: number;
  readonly panels: number;
}

/** A table whose rows are read one at a time: the experts. */
export interface TablePlan {
  readonly dtype: number;
  readonly at: number;
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
  /** Bytes of each array that a window needs, positions and evicted the first of five; 0 without one. */
  readonly meta: number;
  /** Of the keys and values of a key/value head; its values begin at `values` in them. */
  readonly headBytes: number;
  /** How keys and values are held. */
  readonly dtype: CacheDType;
  readonly bytes: number;
}

export interface Layout {
  readonly config: Config;
  readonly context: number;
  readonly dtype: DType;
  /** Bytes of all weights as held, padding of panels included. */
  readonly weightBytes: number;
  /** Threads that compute together, each with a record of the model and some scratch of its own. */
  readonly threads: number;
  /** The tiles that matrices are multiplied in. */
  readonly tiles: Tiles;
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
  readonly parts: number;
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
/** Bytes from a row of a tile to the next, never a multiple of 512: a panel of all rows is written together, and at such
 *  distances they would take the same few lines of the caches. */
const rowStride = (columns: number): number => rowBytes(columns) + (rowBytes(columns) % 512 === 0 ? 64 : 0);

/** Slots that a sequence of `length` tokens takes. */
const slotsOf = ({ window }: Config, length: number): number => slotsFor({ window, journal: D.JOURNAL }, length);

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

  matrix(inner: number, outer: number, biased: boolean, dtype: DType): MatrixPlan {
    const panels = Math.ceil(outer / D.PANEL);
    return {
      dtype,
      weights: this.take(panels * panelBytes(dtype, inner)),
      bias: biased ? this.take(panels * D.PANEL * 4) : 0,
      inner,
      outer,
      panels,
    };
  }

  table(rows: number, columns: number, dtype: DType): TablePlan {
    const blocks = Math.ceil(columns / D.BLOCK);
    const bytes = {
      f32: rowBytes(columns),
      bf16: rowBytes(columns) / 2,
      q8: blocks * (D.BLOCK + 4),
      q4: blocks * (D.BLOCK / 2 + 4),
    }[dtype];
    // A row is read in whole vectors.
    return { dtype: DTYPES[dtype], at: this.take(rows * bytes + 16), columns };
  }
}

/** Bytes of a panel of 16 outputs. */
export function panelBytes(dtype: DType, inner: number): number {
  const blocks = Math.ceil(inner / D.BLOCK);
  const scales = D.PANEL * 4;
  return {
    f32: D.PANEL * inner * 4,
    bf16: D.PANEL * Math.ceil(inner / 2) * 4,
    q8: blocks * (D.PANEL * D.BLOCK + scales) + roundUp(blocks * 4, 64),
    q4: blocks * ((D.PANEL * D.BLOCK) / 2 + scales),
  }[dtype];
}

/** Most bytes that a block of rounded inputs takes (assembly/kernels/inputs.ts). */
export const INPUT_BLOCK_BYTES = D.BLOCK * 2 + 8;

/** Where everything of a model stands. It needs `layout.pagesAt` bytes before its first call, and `layout.heapAt` when full. */
export function planMemory(
  config: Config,
  dtype: DType,
  cache: CacheDType,
  context: number,
  room: number,
  threads = 1,
  tiles: Tiles = { wide: false, fused: false },
): Layout {
  const { hiddenSize, intermediateSize, vocabSize, biasHeads, experts, headDim } = config;
  const queries = queryWidth(config);
  const keys = keyValueWidth(config);
  const bump = new Bump(D.STATIC_BYTES);
  const model = bump.take(threads * D.MODEL_BYTES);
  const layersAt = bump.take(config.layers * D.LAYER_BYTES);
  const weightsAt = bump.at;
  const embedding = bump.matrix(hiddenSize, vocabSize, false, dtype);
  const layers = Array.from(
    { length: config.layers },
    (): LayerPlan => ({
      inputNorm: bump.vector(hiddenSize),
      inputGate: bump.vector(hiddenSize),
      qkv: bump.matrix(hiddenSize, queries + 2 * keys, config.attentionBias, dtype),
      queryNorm: config.qkNorm ? bump.vector(headDim) : 0,
      keyNorm: config.qkNorm ? bump.vector(headDim) : 0,
      delta: bump.matrix(keys, biasHeads, config.attentionBias, "f32"),
      A: bump.vector(biasHeads),
      output: bump.matrix(queries, hiddenSize, config.attentionBias, dtype),
      postNorm: bump.vector(hiddenSize),
      postGate: bump.vector(hiddenSize),
      gateUp: bump.matrix(hiddenSize, 2 * intermediateSize, config.mlpBias, dtype),
      down: bump.matrix(intermediateSize, hiddenSize, config.mlpBias, dtype),
      router: experts && bump.matrix(hiddenSize, 2 * experts.side, false, "f32"),
      expertsDown: experts && bump.table(experts.count, hiddenSize, dtype),
      expertsUp: experts && bump.table(experts.count, hiddenSize, dtype),
    }),
  );
  const norm = bump.vector(hiddenSize);
  const head = config.tied ? embedding : bump.matrix(hiddenSize, vocabSize, false, dtype);
  const weightBytes = bump.at - weightsAt;
  const rope = bump.take(context * 2 * (headDim >> 1) * 4);
  const tile = Math.min(D.MOST_TILE, roundUp(context, D.TILE_UNIT));
  const scratch = planScratch(bump, config, context, tile, threads);
  const page = planPage(config, cache);
  const pagesAt = roundUp(bump.at, 4096);
  const pages = Math.ceil(room / D.PAGE_SLOTS) + SLACK_PAGES;
  return {
    ...{
      config,
      context,
      dtype,
      threads,
      tiles,
      model,
      layersAt,
      layers,
      embedding,
      head,
      norm,
      rope,
      weightBytes,
      tile,
      scratch,
      page,
      pagesAt,
      pages,
    },
    hiddenStride: rowStride(hiddenSize),
    routerStride: experts === null ? 0 : rowBytes(2 * experts.side),
    heapAt: pagesAt + pages * page.bytes,
  };
}

/** Multiply-adds of one token in a layer. */
export function costs(config: Config): { attention: number; key: number; feedForward: number } {
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

/** Bytes of what a query head has read so far (assembly/kernels/attention.ts). */
const stateBytes = (config: Config): number => rowBytes(config.headDim) + 64;

function planScratch(bump: Bump, config: Config, context: number, tile: number, threads: number): Scratch {
  const { hiddenSize, intermediateSize, experts } = config;
  const queries = queryWidth(config);
  const keys = keyValueWidth(config);
  const rows = Math.max(tile, D.HEAD_ROWS);
  const blocks = Math.ceil(Math.max(hiddenSize, intermediateSize, queries) / D.BLOCK);
  const qkvStride = rowStride(queries + 2 * keys);
  const deltaStride = rowBytes(config.biasHeads);
  const mixedStride = rowStride(queries);
  const gateUpStride = rowStride(2 * intermediateSize);
  const logitsStride = rowStride(config.vocabSize);
  const attentionRows = Math.max(D.ATTENTION_ROWS, config.heads / config.kvHeads);
  const own = {
    delta: roundUp(tile * deltaStride, 64),
    scores: attentionRows * (rowBytes(config.headDim) + 2 * stateBytes(config) + D.PAGE_SLOTS * 4),
    quantizedOwn: roundUp(D.FEW * blocks * INPUT_BLOCK_BYTES, 64),
    choice:
      experts === null ? 0 : roundUp((roundUp(hiddenSize, D.BLOCK) + 2 * experts.side + 3 * experts.perToken) * 4, 64),
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
    parts:
      threads === 1
        ? 0
        : bump.take(Math.ceil(slotsOf(config, context) / D.PAGE_SLOTS) * config.heads * stateBytes(config)),
    quantized: bump.take(rows * blocks * INPUT_BLOCK_BYTES),
    quantizedOwn: bump.take(threads * own.quantizedOwn),
    normed: bump.take(D.HEAD_ROWS * rowStride(hiddenSize)),
    logits: bump.take(D.HEAD_ROWS * logitsStride),
    logitsStride,
    choice: experts === null ? 0 : bump.take(threads * own.choice),
    histogram: bump.take(2048 * 12),
    draw: bump.take(2 * logitsStride),
  };
}

function planPage({ kvHeads, headDim, biasHeads, window, layers }: Config, dtype: CacheDType): PagePlan {
  const channels = roundUp(headDim, D.PANEL);
  const values = (D.PAGE_SLOTS / D.PANEL) * panelBytes(dtype, headDim);
  // Beside bytes stands a scale for each slot.
  const headBytes =
    values + (dtype === "q8" ? (channels + 4) * D.PAGE_SLOTS : (channels / D.PANEL) * panelBytes(dtype, D.PAGE_SLOTS));
  const biases = kvHeads * headBytes;
  const positions = biases + biasHeads * D.PAGE_SLOTS * 4;
  const meta = window === null ? 0 : kvHeads * D.PAGE_SLOTS * 4;
  const layerBytes = positions + 5 * meta;
  return {
    ...{ layerBytes, values, biases, positions, evicted: positions + meta, meta, headBytes, dtype },
    bytes: layerBytes * layers,
  };
}
