// Streams a checkpoint's tensors into a model's memory, packed for the kernels. One piece of one tensor is held at a time.
import { type Checkpoint, keyValueWidth, queryWidth } from "@doge-lm/core";
import { TensorReader } from "@doge-lm/core/backend-kit";
import { MATRIX_BYTES } from "./descriptor.ts";
import type { Tiles } from "./features.ts";
import type { Heap } from "./heap.ts";
import type { Exports } from "./instantiate.ts";
import { type LayerPlan, type Layout, type MatrixPlan, roundUp, type TablePlan } from "./layout.ts";
import { writeMatrix } from "./records.ts";

/** Reads every tensor of `checkpoint`; errors are core's ("invalid-weights", "aborted", those of the files). */
export async function loadWeights(
  heap: Heap,
  layout: Layout,
  exports: Packers,
  checkpoint: Checkpoint,
  signal?: AbortSignal,
): Promise<void> {
  const { config } = layout;
  const loader = new Loader(
    heap,
    new Packer(heap, exports, layout.pagesAt, layout.tiles),
    new TensorReader(checkpoint, "wasm", signal),
  );
  await loader.matrix(layout.embedding, ["model.embed_tokens"], [config.vocabSize]);
  for (const [number, layer] of layout.layers.entries())
    await loadLayer(loader, layout, layer, `model.layers.${number}`);
  await loader.vector(layout.norm, "model.norm.weight");
  if (!config.tied) await loader.matrix(layout.head, ["lm_head"], [config.vocabSize]);
}

async function loadLayer(loader: Loader, { config }: Layout, layer: LayerPlan, prefix: string): Promise<void> {
  const attention = `${prefix}.self_attn`;
  const mlp = `${prefix}.mlp`;
  const keys = keyValueWidth(config);
  const { hiddenSize, intermediateSize } = config;
  await loader.vector(layer.inputNorm, `${prefix}.input_layernorm.weight`);
  await loader.matrix(
    layer.qkv,
    [`${attention}.q_proj`, `${attention}.k_proj`, `${attention}.v_proj`],
    [queryWidth(config), keys, keys],
  );
  if (config.qkNorm) {
    await loader.vector(layer.queryNorm, `${attention}.q_norm.weight`);
    await loader.vector(layer.keyNorm, `${attention}.k_norm.weight`);
  }
  await loader.vector(layer.A, `${attention}.A`);
  await loader.matrix(layer.delta, [`${attention}.dt_proj`], [config.biasHeads]);
  await loader.matrix(layer.output, [`${attention}.o_proj`], [hiddenSize]);
  await loader.vector(layer.inputGate, `${prefix}.input_residual`);
  await loader.vector(layer.postNorm, `${prefix}.post_attention_layernorm.weight`);
  await loader.matrix(layer.gateUp, [`${mlp}.gate_proj`, `${mlp}.up_proj`], [intermediateSize, intermediateSize]);
  await loader.matrix(layer.down, [`${mlp}.down_proj`], [hiddenSize]);
  if (layer.router !== null && layer.expertsDown !== null && layer.expertsUp !== null) {
    await loader.matrix(layer.router, [`${mlp}.router_gate`], [layer.router.outer]);
    await loader.table(layer.expertsDown, `${mlp}.down_embed.weight`);
    await loader.table(layer.expertsUp, `${mlp}.up_embed.weight`);
  }
  await loader.vector(layer.postGate, `${prefix}.post_attention_residual`);
}

/** Puts tensors where the layout has them. */
class Loader {
  readonly #heap: Heap;
  readonly #packer: Packer;
  readonly #reader: TensorReader;

  constructor(heap: Heap, packer: Packer, reader: TensorReader) {
    this.#heap = heap;
    this.#packer = packer;
    this.#reader = reader;
  }

  async vector(at: number, name: string): Promise<void> {
    for await (const { offset, data } of this.#reader.pieces(name)) {
      this.#heap.floats.set(data, at / 4 + offset);
    }
  }

  /** Linear layers with the same input, one below the other in one matrix: `rows` outputs of each. */
  async matrix(plan: MatrixPlan, names: readonly string[], rows: readonly number[]): Promise<void> {
    let first = 0;
    for (const [index, name] of names.entries()) {
      for await (const { row, data } of this.#reader.rows(`${name}.weight`, plan.inner)) {
        this.#packer.matrix(plan, first + row, data);
      }
      if (plan.bias !== 0) await this.vector(plan.bias + first * 4, `${name}.bias`);
      first += rows[index]!;
    }
  }

  async table(plan: TablePlan, name: string): Promise<void> {
    for await (const { row, data } of this.#reader.rows(name, plan.columns)) this.#packer.table(plan, row, data);
  }
}

type Packers = Pick<Exports, "pack" | "packTable">;

/** Hands rows to the kernels that round and pack them, over a stretch of memory that nothing else uses meanwhile. */
export class Packer {
  readonly #heap: Heap;
  readonly #exports: Packers;
  readonly #at: number;
  readonly #tiles: Tiles;

  constructor(heap: Heap, exports: Packers, at: number, tiles: Tiles) {
    this.#heap = heap;
    this.#exports = exports;
    this.#at = roundUp(at, 64);
    this.#tiles = tiles;
  }

  /** Rows from `first` on of a matrix whose panels hold zeros. */
  matrix(plan: MatrixPlan, first: number, data: Float32Array): void {
    const from = this.#hand(data);
    const record = this.#at + SPARE;
    writeMatrix(this.#heap, record, plan, this.#tiles);
    this.#exports.pack(record, first, data.length / plan.inner, from, this.#at);
  }

  table({ at, dtype, columns }: TablePlan, first: number, data: Float32Array): void {
    const from = this.#hand(data);
    this.#exports.packTable(at, dtype, columns, first, data.length / columns, from, this.#at);
  }

  #hand(data: Float32Array): number {
    const from = roundUp(this.#at + SPARE + MATRIX_BYTES, 64);
    this.#heap.reserve(from + data.byteLength, "Loading");
    this.#heap.floats.set(data, from / 4);
    return from;
  }
}

/** Scratch of the packing kernels. */
const SPARE = 128;
