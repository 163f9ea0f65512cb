// Streams a checkpoint's tensors into a model's memory, packed for the kernels. One piece of one tensor is held at a time.
import { type Checkpoint, type Floats, floats, keyValueWidth, queryWidth, trace, tracing } from "@doge-lm/core";
import { MATRIX_BYTES } from "./descriptor.ts";
import type { Heap } from "./heap.ts";
import type { Exports } from "./instantiate.ts";
import { type LayerPlan, type Layout, type MatrixPlan, roundUp, type TablePlan, writeMatrix } from "./layout.ts";
import { breathe } from "./pace.ts";

/** Longest stretch of packing without letting other work run. */
const BREATH_MS = 25;

/** Reads every tensor of `checkpoint`; errors are core's ("invalid-weights", "aborted", those of the files). */
export async function loadWeights(
  heap: Heap,
  layout: Layout,
  exports: Packers,
  checkpoint: Checkpoint,
  signal?: AbortSignal,
): Promise<void> {
  const { config } = layout;
  const reader = new Reader(heap, new Packer(heap, exports, layout.pagesAt), checkpoint, signal);
  await reader.matrix(layout.embedding, ["model.embed_tokens"], [config.vocabSize]);
  for (const [number, layer] of layout.layers.entries())
    await loadLayer(reader, layout, layer, `model.layers.${number}`);
  await reader.vector(layout.norm, "model.norm.weight");
  if (!config.tied) await reader.matrix(layout.head, ["lm_head"], [config.vocabSize]);
}

async function loadLayer(reader: Reader, { config }: Layout, layer: LayerPlan, prefix: string): Promise<void> {
  const attention = `${prefix}.self_attn`;
  const mlp = `${prefix}.mlp`;
  const keys = keyValueWidth(config);
  const { hiddenSize, intermediateSize } = config;
  await reader.vector(layer.inputNorm, `${prefix}.input_layernorm.weight`);
  await reader.matrix(
    layer.qkv,
    [`${attention}.q_proj`, `${attention}.k_proj`, `${attention}.v_proj`],
    [queryWidth(config), keys, keys],
  );
  if (config.qkNorm) {
    await reader.vector(layer.queryNorm, `${attention}.q_norm.weight`);
    await reader.vector(layer.keyNorm, `${attention}.k_norm.weight`);
  }
  await reader.vector(layer.A, `${attention}.A`);
  await reader.matrix(layer.delta, [`${attention}.dt_proj`], [config.biasHeads]);
  await reader.matrix(layer.output, [`${attention}.o_proj`], [hiddenSize]);
  await reader.vector(layer.inputGate, `${prefix}.input_residual`);
  await reader.vector(layer.postNorm, `${prefix}.post_attention_layernorm.weight`);
  await reader.matrix(layer.gateUp, [`${mlp}.gate_proj`, `${mlp}.up_proj`], [intermediateSize, intermediateSize]);
  await reader.matrix(layer.down, [`${mlp}.down_proj`], [hiddenSize]);
  if (layer.router !== null && layer.expertsDown !== null && layer.expertsUp !== null) {
    await reader.matrix(layer.router, [`${mlp}.router_gate`], [layer.router.outer]);
    await reader.table(layer.expertsDown, `${mlp}.down_embed.weight`);
    await reader.table(layer.expertsUp, `${mlp}.up_embed.weight`);
  }
  await reader.vector(layer.postGate, `${prefix}.post_attention_residual`);
}

class Reader {
  readonly #heap: Heap;
  readonly #packer: Packer;
  readonly #checkpoint: Checkpoint;
  readonly #signal: AbortSignal | undefined;
  #breathed = performance.now();

  constructor(heap: Heap, packer: Packer, checkpoint: Checkpoint, signal: AbortSignal | undefined) {
    this.#heap = heap;
    this.#packer = packer;
    this.#checkpoint = checkpoint;
    this.#signal = signal;
  }

  async vector(at: number, name: string): Promise<void> {
    for await (const { offset, data } of this.#pieces(name)) {
      this.#heap.floats.set(data, at / 4 + offset);
    }
  }

  /** Linear layers with the same input, one below the other in one matrix: `rows` outputs of each. */
  async matrix(plan: MatrixPlan, names: readonly string[], rows: readonly number[]): Promise<void> {
    let first = 0;
    for (const [index, name] of names.entries()) {
      for await (const { row, data } of this.#rows(`${name}.weight`, plan.inner)) {
        this.#packer.matrix(plan, first + row, data);
      }
      if (plan.bias !== 0) await this.vector(plan.bias + first * 4, `${name}.bias`);
      first += rows[index]!;
    }
  }

  async table(plan: TablePlan, name: string): Promise<void> {
    for await (const { row, data } of this.#rows(name, plan.columns)) this.#packer.table(plan, row, data);
  }

  /** A tensor in core's pieces, with a look at the signal between them even when nothing ever waits for a file. */
  async *#pieces(name: string): AsyncGenerator<{ offset: number; data: Floats }> {
    for await (const piece of floats(this.#checkpoint, name, this.#signal)) {
      yield piece;
      if (tracing()) trace({ scope: "wasm", kind: "upload", name, bytes: piece.data.byteLength });
      if (performance.now() - this.#breathed < BREATH_MS) continue;
      await breathe(this.#signal);
      this.#breathed = performance.now();
    }
  }

  /** A tensor in whole rows: pieces are cut anywhere, so the rest of one waits for the next. */
  async *#rows(name: string, columns: number): AsyncGenerator<{ row: number; data: Float32Array }> {
    let rest = new Float32Array(0);
    let row = 0;
    for await (const { data } of this.#pieces(name)) {
      let all = data;
      if (rest.length > 0) {
        all = new Float32Array(rest.length + data.length);
        all.set(rest);
        all.set(data, rest.length);
      }
      const whole = Math.floor(all.length / columns);
      if (whole > 0) yield { row, data: all.subarray(0, whole * columns) };
      row += whole;
      rest = all.slice(whole * columns);
    }
  }
}

type Packers = Pick<Exports, "pack" | "packTable">;

/** Hands rows to the kernels that round and pack them, over a stretch of memory that nothing else uses meanwhile. */
export class Packer {
  readonly #heap: Heap;
  readonly #exports: Packers;
  readonly #at: number;

  constructor(heap: Heap, exports: Packers, at: number) {
    this.#heap = heap;
    this.#exports = exports;
    this.#at = roundUp(at, 64);
  }

  /** Rows from `first` on of a matrix whose panels hold zeros. */
  matrix(plan: MatrixPlan, first: number, data: Float32Array): void {
    const from = this.#hand(data);
    const record = this.#at + SPARE;
    writeMatrix(this.#heap, record, plan, false);
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
