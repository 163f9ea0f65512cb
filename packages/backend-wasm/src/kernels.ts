// The kernels one by one, over plain arrays: for their tests and benchmarks. Every call lays out a small memory of its own.
import type { Config, DType, Sampling } from "@doge-lm/core";
import { DogeError } from "@doge-lm/core";
import { writeRotaryAngles } from "@doge-lm/core/backend-kit";
import * as D from "./descriptor.ts";
import { type Binary, chooseBinary, type Tiles } from "./features.ts";
import { Heap } from "./heap.ts";
import { type Assets, compile, type Exports, instantiate } from "./instantiate.ts";
import { writeDrawing } from "./job.ts";
import { type CacheDType, INPUT_BLOCK_BYTES, type MatrixPlan, panelBytes, planMemory, roundUp } from "./layout.ts";
import { HeapPages } from "./pages.ts";
import { writeMatrix, writeModel } from "./records.ts";
import { Packer } from "./weights.ts";

type Numbers = Float32Array<ArrayBuffer>;

/** Matrices are row by row. */
export interface WasmKernels {
  /** x (rows, width), weight (width): weight · x / sqrt(mean(x²) + epsilon), by rows. */
  rmsnorm(x: Float32Array, weight: Float32Array, epsilon: number): Numbers;
  /** x (rows, inner), weight (outer, inner), bias (outer) or null: x · weightᵀ + bias, (rows, outer). */
  matmul(
    x: Float32Array,
    weight: Float32Array,
    bias: Float32Array | null,
    rows: number,
    inner: number,
    outer: number,
  ): Numbers;
  /** The same, with the weights held in another dtype. */
  matmulAs(dtype: DType, wide: boolean, fused?: boolean): WasmKernels["matmul"];
  /** x (heads, headDim) turned to `position`, with default RoPE of base theta. */
  rope(x: Float32Array, headDim: number, position: number, theta: number): Numbers;
  /** silu(gate) · up. */
  swiglu(gate: Float32Array, up: Float32Array): Numbers;
  /** One query head (headDim) over keys and values (count, headDim), with a bias (count): (headDim). Or several heads. */
  attention(
    query: Float32Array,
    keys: Float32Array,
    values: Float32Array,
    bias: Float32Array,
    headDim: number,
  ): Numbers;
  /** The same, with keys and values held in another dtype: q8 in the relaxed binary only. */
  attentionAs(cache: CacheDType, wide: boolean, fused?: boolean): WasmKernels["attention"];
  /** core's draw(). */
  draw(logits: Float32Array, ids: Int32Array, position: number, sampling: Sampling, allowed?: Uint32Array): number;
}

/** The kernels of a binary, over a memory that threads may share when it is `shared`. Errors: "unavailable". */
export async function openKernels(
  options: { binary?: Binary; shared?: boolean; assets?: Assets } = {},
): Promise<WasmKernels> {
  const choice = chooseBinary(options.binary);
  if ("why" in choice) throw new DogeError("unavailable", choice.why, { scope: "wasm" });
  const { shared = false } = options;
  return kernelsOf(await compile(shared ? `${choice.binary}Shared` : choice.binary, options.assets), shared);
}

/** The kernels of a compiled binary. */
export async function kernelsOf(module: WebAssembly.Module, shared: boolean): Promise<WasmKernels> {
  const heap = new Heap(D.STATIC_BYTES, "The kernels", { shared });
  const exports = await instantiate(module, heap.memory);
  return {
    rmsnorm: (x, weight, epsilon) => rmsnorm(new Bench(heap), exports, x, weight, epsilon),
    matmul: (...matrix) => matmul(new Bench(heap), exports, { dtype: "f32", wide: false, fused: false }, ...matrix),
    matmulAs:
      (dtype, wide, fused = false) =>
      (...matrix) =>
        matmul(new Bench(heap), exports, { dtype, wide, fused }, ...matrix),
    rope: (x, headDim, position, theta) => rope(new Bench(heap), exports, x, headDim, position, theta),
    swiglu(gate, up) {
      const bench = new Bench(heap);
      const [gateAt, upAt] = [bench.put(gate), bench.put(up)];
      exports.swiglu(gateAt, gateAt, upAt, 1, gate.length, 0);
      return bench.get(gateAt, gate.length);
    },
    attention: (...heads) => attention(heap, exports, "f32", { wide: false, fused: false }, ...heads),
    attentionAs:
      (cache, wide, fused = false) =>
      (...heads) =>
        attention(heap, exports, cache, { wide, fused }, ...heads),
    draw: (logits, ids, position, sampling, allowed) => draw(heap, exports, logits, ids, position, sampling, allowed),
  };
}

const rowBytes = (columns: number): number => roundUp(columns, D.PANEL) * 4;

/** Arrays one behind the other from the start of the memory on; rows padded with zeros to 16 numbers. */
class Bench {
  readonly heap: Heap;
  #end = D.STATIC_BYTES;

  constructor(heap: Heap) {
    this.heap = heap;
  }

  take(bytes: number): number {
    const address = this.#end;
    this.#end = roundUp(address + bytes, 64);
    this.heap.reserve(this.#end, "A kernel");
    this.heap.bytes.fill(0, address, this.#end);
    return address;
  }

  put(data: Float32Array, columns = data.length): number {
    const rows = data.length / columns;
    const at = this.take(rows * rowBytes(columns) + 64); // kernels may load, and never use, a vector beyond the last number
    for (let row = 0; row < rows; row++) {
      this.heap.floats.set(data.subarray(row * columns, (row + 1) * columns), (at + row * rowBytes(columns)) / 4);
    }
    return at;
  }

  get(at: number, length: number, columns = length): Numbers {
    const data = new Float32Array(length);
    for (let row = 0; row * columns < length; row++) {
      const from = (at + row * rowBytes(columns)) / 4;
      data.set(this.heap.floats.subarray(from, from + columns), row * columns);
    }
    return data;
  }
}

function rmsnorm(bench: Bench, exports: Exports, x: Float32Array, weight: Float32Array, epsilon: number): Numbers {
  const width = weight.length;
  const [at, weightAt] = [bench.put(x, width), bench.put(weight)];
  exports.rmsnorm(at, at, 0, 0, weightAt, x.length / width, width, rowBytes(width), epsilon);
  return bench.get(at, x.length, width);
}

function matmul(
  bench: Bench,
  exports: Exports,
  { dtype, ...tiles }: Tiles & { dtype: DType },
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array | null,
  rows: number,
  inner: number,
  outer: number,
): Numbers {
  const panels = Math.ceil(outer / D.PANEL);
  const plan: MatrixPlan = {
    dtype,
    weights: bench.take(panels * panelBytes(dtype, inner)),
    bias: bias === null ? 0 : bench.put(bias),
    ...{ inner, outer, panels },
  };
  const record = bench.take(D.MATRIX_BYTES);
  const from = bench.put(x, inner);
  const scratch = bench.take(rows * Math.ceil(inner / D.BLOCK) * INPUT_BLOCK_BYTES);
  const to = bench.take(rows * rowBytes(outer));
  new Packer(bench.heap, exports, bench.take(0), tiles).matrix(plan, 0, weight);
  writeMatrix(bench.heap, record, plan, tiles);
  exports.matmul(to, from, record, rows, rowBytes(inner), rowBytes(outer), scratch);
  return bench.get(to, rows * outer, outer);
}

function rope(
  bench: Bench,
  exports: Exports,
  x: Float32Array,
  headDim: number,
  position: number,
  theta: number,
): Numbers {
  const at = bench.put(x);
  const angles = bench.take((position + 1) * headDim * 4);
  const config = { ...oneHead, headDim, rope: { type: "default", theta, factor: 1 } } as const;
  writeRotaryAngles(bench.heap.floats.subarray(angles / 4), config, position + 1);
  exports.rope(at, angles + position * headDim * 4, x.length / headDim, headDim);
  return bench.get(at, x.length);
}

/** A model as small as can be, for kernels that read a model's record. */
const oneHead: Config = {
  generation: "legacy",
  vocabSize: 1,
  hiddenSize: 1,
  intermediateSize: 1,
  layers: 1,
  heads: 1,
  kvHeads: 1,
  headDim: 2,
  normEpsilon: 1e-6,
  maxPositions: 1,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: false,
  biasHeads: 1,
  window: null,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: null,
  eosIds: [],
  padId: null,
};

function attention(
  heap: Heap,
  exports: Exports,
  cache: CacheDType,
  tiles: Tiles,
  query: Float32Array,
  keys: Float32Array,
  values: Float32Array,
  bias: Float32Array,
  headDim: number,
): Numbers {
  const count = bias.length;
  const heads = query.length / headDim;
  const layout = planMemory({ ...oneHead, headDim, heads }, "f32", cache, count, count, 1, tiles);
  const lists = layout.heapAt;
  const out = lists + 4 * count;
  const inputs = roundUp(out + (query.length + 4) * 4, 64);
  heap.reserve(inputs + Math.max(headDim * 2, query.length) * 4 + 64, "A kernel");
  writeModel(heap, layout);
  const pages = new HeapPages(heap, layout);
  for (let page = 0; page * D.PAGE_SLOTS < count; page++) {
    pages.clear(page);
    heap.words[lists / 4 + page] = pages.address(page);
  }
  const biasAt = roundUp(inputs + headDim * 8, 4);
  for (let slot = 0; slot < count; slot++) {
    const row = (data: Float32Array) => data.subarray(slot * headDim, (slot + 1) * headDim);
    heap.floats.set(row(keys), inputs / 4);
    heap.floats.set(row(values), inputs / 4 + headDim);
    heap.floats[biasAt / 4] = bias[slot]!;
    exports.keep(layout.model, 0, lists, 0, slot, inputs, inputs + headDim * 4, biasAt, 0, 1);
  }
  heap.floats.set(query, inputs / 4);
  exports.attention(out, 0, inputs, 0, layout.model, 0, lists, 0, count - 1, 1, 0, 1);
  return heap.floats.slice(out / 4, out / 4 + query.length);
}

function draw(
  heap: Heap,
  exports: Exports,
  logits: Float32Array,
  ids: Int32Array,
  position: number,
  sampling: Sampling,
  allowed: Uint32Array | undefined,
): number {
  const vocabulary = logits.length;
  const layout = planMemory({ ...oneHead, vocabSize: vocabulary }, "f32", "f32", 1, 1);
  const record = layout.heapAt;
  const bits = roundUp(vocabulary, 32) / 8;
  const [mask, seen] = [roundUp(record + D.ROW_BYTES, 64), roundUp(record + D.ROW_BYTES, 64) + bits];
  const stops = seen + bits;
  heap.reserve(stops + 4 * sampling.stop.length, "A kernel");
  writeModel(heap, layout);
  heap.floats.set(logits, layout.scratch.logits / 4);
  heap.bytes.fill(0, record, record + D.ROW_BYTES);
  const none = { ids: 0, logprobs: 0, topIds: 0, topLogprobs: 0 };
  const plan = { ...none, record, allowed: allowed === undefined ? 0 : mask, seen, stops };
  const own = allowed === undefined ? undefined : new Uint32Array(allowed);
  writeDrawing(heap, plan, { sampling, allowed: own }, ids, vocabulary);
  heap.words[(record + D.ROW_POSITION) / 4] = position;
  return exports.draw(layout.scratch.logits, layout.model, record);
}
