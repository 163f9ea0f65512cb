// A model made ready to run: for every dispatch of a forward pass its pipeline and its bind group, made once at load. The token
// loop only names them.
import { type Config, type DType, queryWidth } from "@doge-lm/core";
import { type Activations, type LayerCache, pageBytes, qkvStride } from "./activations.ts";
import type { Gpu } from "./device.ts";
import type { AttentionPart } from "./kernels/attention.ts";
import { type MatmulKind, outputsOf, SPANS, tileOf } from "./kernels/matmul.ts";
import { addendsOf, slicesOf, sliceTeams } from "./kernels/slice-plan.ts";
import { type Matrix, matrixBytes } from "./matrix.ts";
import type { Bound, BoundMatmul } from "./pass.ts";
import type { Pipelines } from "./pipelines.ts";
import { cachesHalf } from "./variant.ts";
import { strideOf, type Weights } from "./weights.ts";

/** A layer's dispatches. */
export interface BoundLayer {
  readonly qkv: readonly BoundMatmul[];
  readonly attention: Readonly<Record<AttentionPart, Bound>>;
  /** A single token; null where it goes as those of many. Its feed-forward is null in the last layer, for all workgroups of the head would
   *  have to add up the stream, and where there are experts. */
  readonly sliced: {
    readonly slices: Bound;
    readonly teams: number;
    readonly output: readonly BoundMatmul[];
    readonly mlp: { readonly bound: Bound; readonly teams: number } | null;
  } | null;
  readonly reset: Bound | null;
  readonly copy: Bound;
  readonly output: readonly BoundMatmul[];
  readonly gated: readonly BoundMatmul[];
  readonly down: readonly BoundMatmul[];
  readonly experts: {
    readonly router: readonly BoundMatmul[];
    readonly choose: Bound;
    readonly down: readonly Bound[];
    readonly up: readonly Bound[];
  } | null;
}

/** What a program is made of. */
export interface ProgramParts {
  readonly gpu: Gpu;
  readonly config: Config;
  readonly dtype: DType;
  readonly weights: Weights;
  readonly pipelines: Pipelines;
  readonly caches: readonly LayerCache[];
  readonly angles: GPUBuffer;
  readonly logits: GPUBuffer;
  readonly activations: Activations;
}

/** What a matmul reads beside its weights, and where its result goes. */
interface MatmulOptions {
  readonly x: GPUBuffer;
  /** How wide x is. */
  readonly xStride: number;
  readonly result: GPUBuffer;
  readonly resultStride: number;
  /** Its stride is given as it is, not as a width. */
  readonly padded?: boolean;
  readonly vectors: GPUBuffer;
  readonly normAt?: number;
  readonly biasAt?: number;
  readonly bias2At?: number;
  readonly gateAt?: number;
  readonly biased?: boolean;
  /** What merge.ts needs: the biases of the cache, and what stands behind the shape. */
  readonly merge?: { readonly meta: GPUBuffer; readonly shape: readonly number[] };
}

/** What the model does with a matmul's result, by what the program calls it. */
const ENDINGS = {
  qkv: "store",
  router: "store",
  residual: "residual",
  merged: "residual",
  gated: "gated",
  head: "head",
} as const satisfies { readonly [name: string]: MatmulKind["ending"] };

const bits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]!;

export class Program {
  readonly layers: readonly BoundLayer[];
  readonly embed: readonly Bound[];
  readonly head: readonly BoundMatmul[];
  readonly #occasional = new Map<string, Bound>();
  readonly #vocabulary: GPUBuffer;
  readonly #parts: ProgramParts;
  readonly #uniforms: GPUBuffer[] = [];

  constructor(parts: ProgramParts) {
    const { config, weights, activations, logits, gpu, angles, pipelines } = parts;
    this.#parts = parts;
    const { hiddenSize } = config;
    this.embed = weights.embedding.parts.map((part) => {
      const shape = this.#uniform([
        ...[weights.embedding.quads, strideOf(hiddenSize) / 4, part.first, part.rows],
        ...[this.#turnAt / 4, pipelines.has("slices") ? config.headDim / 4 : 0],
      ]);
      const scales = part.scales === null ? [] : [part.scales];
      return this.#bind("embed", [activations.stream, part.weights, angles, shape, ...scales]);
    });
    this.head = this.#matmul("head", weights.head, weights.head, {
      ...{ x: activations.stream, xStride: hiddenSize, result: logits, resultStride: config.vocabSize },
      ...{ vectors: weights.norm, normAt: 0 },
    });
    this.#vocabulary = this.#uniform([config.vocabSize]);
    this.layers = weights.layers.map((_, layer) => this.#layer(layer));
    gpu.assertAlive();
  }

  /** A dispatch behind the head: "draw", "draw filtered", "draw told", "draw filtered told", "score", or "rmsnorm" for hidden
   *  states. Bound when a call first needs it, before that call begins. */
  async need(name: string): Promise<void> {
    if (this.#occasional.has(name)) return;
    const { pipelines, weights, activations, logits, config } = this.#parts;
    await pipelines.need([name]);
    const { hiddenSize } = config;
    const buffers =
      name === "rmsnorm"
        ? [
            ...[activations.stream, weights.norm, activations.hidden],
            this.#uniform([hiddenSize, strideOf(hiddenSize), 0, bits(config.normEpsilon)]),
          ]
        : [logits, this.#vocabulary];
    this.#occasional.set(name, this.#bind(name, buffers));
  }

  occasional(name: string): Bound {
    return this.#occasional.get(name)!;
  }

  /** Gives back what it made for itself. */
  destroy(): void {
    for (const buffer of this.#uniforms) buffer.destroy();
  }

  /** Where the angles of a single text's token stand, in numbers of the stream. */
  get #turnAt(): number {
    const { activations, config } = this.#parts;
    return activations.tokens * strideOf(config.hiddenSize);
  }

  /** Where the addends of its stream stand, likewise. */
  get #addendsAt(): number {
    return this.#turnAt + this.#parts.config.headDim;
  }
  get #addends(): number {
    const { gpu, config, dtype } = this.#parts;
    return addendsOf(gpu, config, dtype);
  }

  #layer(layer: number): BoundLayer {
    const { config, weights, activations, caches, angles, pipelines, gpu, dtype } = this.#parts;
    const { hiddenSize, intermediateSize, heads, kvHeads, headDim, biasHeads, normEpsilon, experts } = config;
    const { stream, qkv, mixed, gated } = activations;
    const own = weights.layers[layer]!;
    const { vectors } = own;
    const at = (name: string): number => weights.vectorPlan.at[name] ?? 0;
    const cache = caches[layer]!;
    const page = pageBytes(config, cachesHalf(gpu.variant, dtype));
    const epsilon = bits(normEpsilon);
    const shape = this.#uniform([
      ...[heads, kvHeads, headDim, biasHeads, qkvStride(config), config.window ?? 0, config.qkNorm ? 1 : 0, epsilon],
      ...[at("self_attn.dt_proj.weight"), at("self_attn.dt_proj.bias"), at("self_attn.A")],
      ...[at("self_attn.q_norm.weight"), at("self_attn.k_norm.weight"), config.attentionBias ? 1 : 0],
      strideOf(queryWidth(config)),
    ]);
    const keys = [qkv, cache.keys, cache.values, cache.meta, vectors, angles, shape];
    const output = {
      ...{ result: stream, resultStride: hiddenSize, vectors },
      ...{ gateAt: at("input_residual"), biasAt: at("self_attn.o_proj.bias"), biased: config.attentionBias },
    };
    return {
      qkv: this.#matmul("qkv", own.qkv, own.qkv, {
        ...{ x: stream, xStride: hiddenSize, result: qkv, resultStride: qkvStride(config), padded: true },
        ...{
          vectors,
          normAt: at("input_layernorm.weight"),
          biasAt: at("self_attn.q_proj.bias"),
          biased: config.attentionBias,
        },
      }),
      attention: {
        keep: this.#bind("keep", keys),
        attend: this.#bind("attend", [...keys, mixed]),
        step: this.#bind("step", [...keys, mixed]),
      },
      reset: !pipelines.has("reset") ? null : this.#bind("reset", [cache.meta, this.#uniform([kvHeads, biasHeads])]),
      copy: this.#bind("copy", [
        ...[cache.keys, cache.values, cache.meta],
        this.#uniform([page.keys / 16, page.values / 4, page.meta / 4]),
      ]),
      output: this.#matmul("residual", own.output, own.output, {
        ...output,
        ...{ x: mixed, xStride: queryWidth(config) },
      }),
      sliced: !pipelines.has("slices") ? null : this.#sliced(layer, output),
      gated: this.#matmul("gated", own.gate, own.up, {
        ...{ x: stream, xStride: hiddenSize, result: gated, resultStride: intermediateSize },
        ...{ vectors, normAt: at("post_attention_layernorm.weight"), biased: config.mlpBias },
        ...{ biasAt: at("mlp.gate_proj.bias"), bias2At: at("mlp.up_proj.bias") },
      }),
      down: this.#matmul("residual", own.down, own.down, {
        ...{ x: gated, xStride: intermediateSize, result: stream, resultStride: hiddenSize },
        ...{ vectors, gateAt: at("post_attention_residual"), biasAt: at("mlp.down_proj.bias"), biased: config.mlpBias },
      }),
      experts: experts === null ? null : this.#experts(layer),
    };
  }

  /** @see slices.ts */
  #sliced(layer: number, output: Omit<MatmulOptions, "x" | "xStride">): BoundLayer["sliced"] {
    const { gpu, config, dtype, weights, activations, caches } = this.#parts;
    const { heads, kvHeads, headDim, biasHeads, hiddenSize, qkNorm, attentionBias, normEpsilon } = config;
    const { vectors, qkv } = weights.layers[layer]!;
    const { keys, values, meta } = caches[layer]!;
    const at = (name: string): number => weights.vectorPlan.at[name] ?? 0;
    const leftAt = (activations.tokens * qkvStride(config)) / 4;
    const stride = strideOf(hiddenSize);
    /** The stream that comes from the layer before. */
    const [streamAt, addends] = layer === 0 || this.#addends === 0 ? [0, 1] : [this.#addendsAt, this.#addends];
    const shape = this.#uniform([
      ...[hiddenSize, qkv.quads, heads, kvHeads, headDim, biasHeads, qkNorm ? 1 : 0, attentionBias ? 1 : 0],
      ...[at("input_layernorm.weight"), at("self_attn.q_proj.bias")],
      ...[at("self_attn.q_norm.weight"), at("self_attn.k_norm.weight"), leftAt, bits(normEpsilon)],
      ...[matrixBytes(qkv.format, qkv.rows, hiddenSize).scalesAt / 4, this.#turnAt],
      ...[streamAt / 4, addends, stride / 4],
    ]);
    const { buffer } = qkv.parts[0]!;
    return {
      slices: this.#bind("slices", [activations.stream, buffer, activations.qkv, shape, vectors, keys, values, meta]),
      teams: sliceTeams(config, slicesOf(gpu, config, dtype)),
      output: this.#matmul("merged", weights.layers[layer]!.output, weights.layers[layer]!.output, {
        ...output,
        ...{ x: activations.qkv, xStride: queryWidth(config) },
        merge: {
          meta,
          shape: [
            ...[heads, kvHeads, biasHeads, headDim / 4, leftAt],
            ...[at("self_attn.dt_proj.weight"), at("self_attn.dt_proj.bias"), at("self_attn.A")],
            ...[streamAt, addends],
          ],
        },
      }),
      mlp: this.#addends > 0 && layer < config.layers - 1 ? this.#mlp(layer) : null,
    };
  }

  /** @see mlp.ts */
  #mlp(layer: number): { bound: Bound; teams: number } {
    const { config, weights, activations } = this.#parts;
    const { hiddenSize, intermediateSize, mlpBias, normEpsilon } = config;
    const { vectors, gate, up, down } = weights.layers[layer]!;
    const at = (name: string): number => weights.vectorPlan.at[name] ?? 0;
    const scalesAt = ({ format, rows, inner }: Matrix) => matrixBytes(format, rows, inner).scalesAt / 4;
    const shape = this.#uniform([
      ...[hiddenSize, gate.quads, intermediateSize, down.quads, at("post_attention_layernorm.weight")],
      ...[at("mlp.gate_proj.bias"), at("mlp.up_proj.bias"), at("mlp.down_proj.bias"), at("post_attention_residual")],
      ...[mlpBias ? 1 : 0, bits(normEpsilon), scalesAt(gate), scalesAt(down), this.#addendsAt, strideOf(hiddenSize)],
    ]);
    const matrices = [gate, up, down].map(({ parts }) => parts[0]!.buffer);
    return { bound: this.#bind("mlp", [activations.stream, ...matrices, shape, vectors]), teams: this.#addends };
  }

  #experts(layer: number): BoundLayer["experts"] {
    const { config, weights, activations } = this.#parts;
    const { hiddenSize, normEpsilon } = config;
    const { side, perToken, normalize, indexing } = config.experts!;
    const { stream, router, chosen } = activations as { stream: GPUBuffer; router: GPUBuffer; chosen: GPUBuffer };
    const { vectors, experts } = weights.layers[layer]!;
    const tables = experts!;
    const normAt = weights.vectorPlan.at["post_attention_layernorm.weight"]!;
    const shape = (matrix: Matrix, first: number, rows: number) =>
      this.#uniform([
        ...[side, perToken, indexing === "grid" ? 1 : 0, normalize ? 1 : 0, 2 * side, hiddenSize, matrix.quads],
        ...[strideOf(hiddenSize), normAt, bits(normEpsilon), first, rows],
      ]);
    return {
      router: this.#matmul("router", tables.router, tables.router, {
        ...{ x: stream, xStride: hiddenSize, result: router, resultStride: 2 * side, padded: true, vectors, normAt },
      }),
      choose: this.#bind("choose", [router, chosen, shape(tables.down, 0, 0)]),
      down: tables.down.parts.map((part) =>
        this.#bind("experts down", [
          ...[stream, part.weights, chosen, shape(tables.down, part.first, part.rows), vectors],
          ...(part.scales === null ? [] : [part.scales]),
        ]),
      ),
      up: tables.up.parts.map((part) =>
        this.#bind("experts up", [
          ...[stream, part.weights, chosen, shape(tables.up, part.first, part.rows)],
          ...(part.scales === null ? [] : [part.scales]),
        ]),
      ),
    };
  }

  #matmul(name: keyof typeof ENDINGS, matrix: Matrix, second: Matrix, options: MatmulOptions): BoundMatmul[] {
    const { config, gpu, pipelines } = this.#parts;
    const exact = options.padded === true || name === "head";
    return matrix.parts.map((part, index) => {
      const uniform = this.#uniform([
        ...[matrix.inner, matrix.quads, strideOf(options.xStride), part.first, part.rows],
        exact ? options.resultStride : strideOf(options.resultStride),
        ...[options.normAt ?? 0, options.biasAt ?? 0, options.bias2At ?? 0, options.gateAt ?? 0],
        ...[options.biased === true ? 1 : 0, bits(config.normEpsilon), ...(options.merge?.shape ?? [])],
      ]);
      const buffers: (GPUBuffer | GPUBufferBinding)[] = [
        ...[options.x, part.weights, options.result, uniform, options.vectors],
      ];
      if (part.scales !== null) buffers.push(part.scales);
      if (name === "gated") {
        const other = second.parts[index]!;
        buffers.push(other.weights);
        if (other.scales !== null) buffers.push(other.scales);
      }
      if (options.merge !== undefined) buffers.push(options.merge.meta);
      const { variant } = gpu;
      const bound = SPANS.filter((span) => pipelines.has(`${name} ${span}`)).map((span) => {
        const tile = tileOf(variant, matrix.format, span, ENDINGS[name]);
        const groups = Math.ceil(part.rows / outputsOf(variant, tile));
        return [span, { ...this.#bind(`${name} ${span}`, buffers), groups, tokens: tile.tokens }] as const;
      });
      return Object.fromEntries(bound);
    });
  }

  #bind(name: string, buffers: readonly (GPUBuffer | GPUBufferBinding)[]): Bound {
    const { pipeline, layouts } = this.#parts.pipelines.get(name);
    return { pipeline, group: this.#parts.gpu.group(layouts[0], buffers) };
  }

  #uniform(words: readonly number[]): GPUBuffer {
    const padded = new Uint32Array(Math.ceil(words.length / 4) * 4);
    padded.set(words);
    const buffer = this.#parts.gpu.uniform("shape", padded);
    this.#uniforms.push(buffer);
    return buffer;
  }
}
