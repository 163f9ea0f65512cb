// A model made ready to run: for every dispatch of a forward pass its pipeline and its bind group, made once at load. The token
// loop only names them.
import { type Config, type DType, queryWidth } from "@doge-lm/core";
import { type Activations, type LayerCache, pageBytes, qkvStride } from "./activations.ts";
import type { Gpu } from "./device.ts";
import type { AttentionPart } from "./kernels/attention.ts";
import { type MatmulKind, outputsOf, SPANS, tileOf } from "./kernels/matmul.ts";
import type { Matrix } from "./matrix.ts";
import type { Bound, BoundMatmul } from "./pass.ts";
import type { Pipelines } from "./pipelines.ts";
import { cachesHalf } from "./variant.ts";
import { strideOf, type Weights } from "./weights.ts";

interface BoundLayer {
  readonly qkv: readonly BoundMatmul[];
  readonly attention: Readonly<Record<Exclude<AttentionPart, "slices">, Bound>>;
  /** A single token's attention, and its output; null where it goes as those of many. */
  readonly sliced: { readonly attention: Bound; readonly output: readonly BoundMatmul[] } | null;
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
    const { config, weights, activations, logits, gpu } = parts;
    this.#parts = parts;
    const { hiddenSize } = config;
    this.embed = weights.embedding.parts.map((part) => {
      const shape = [weights.embedding.quads, strideOf(hiddenSize) / 4, part.first, part.rows];
      const scales = part.scales === null ? [] : [part.scales];
      return this.#bind("embed", [activations.stream, part.weights, ...scales, this.#uniform(shape)]);
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

  #layer(layer: number): BoundLayer {
    const { config, weights, activations, caches, angles, pipelines, gpu, dtype } = this.#parts;
    const { hiddenSize, intermediateSize, heads, kvHeads, headDim, biasHeads, normEpsilon, experts } = config;
    const { stream, qkv, mixed, slices, gated } = activations;
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
      sliced:
        slices === null
          ? null
          : {
              attention: this.#bind("slices", [...keys, slices]),
              output: this.#matmul("merged", own.output, own.output, { ...output, x: slices, xStride: headDim }),
            },
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

  #matmul(
    name: keyof typeof ENDINGS,
    matrix: Matrix,
    second: Matrix,
    options: {
      readonly x: GPUBuffer;
      /** How wide x is; of slices, how wide a head is. */
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
    },
  ): BoundMatmul[] {
    const { config, gpu, pipelines } = this.#parts;
    const exact = options.padded === true || name === "head";
    return matrix.parts.map((part, index) => {
      const uniform = this.#uniform([
        ...[
          matrix.inner,
          matrix.quads,
          name === "merged" ? options.xStride : strideOf(options.xStride),
          part.first,
          part.rows,
        ],
        exact ? options.resultStride : strideOf(options.resultStride),
        ...[options.normAt ?? 0, options.biasAt ?? 0, options.bias2At ?? 0, options.gateAt ?? 0],
        ...[options.biased === true ? 1 : 0, bits(config.normEpsilon)],
      ]);
      const buffers = [options.x, part.weights, options.result, uniform, options.vectors];
      if (part.scales !== null) buffers.push(part.scales);
      if (name === "gated") {
        const other = second.parts[index]!;
        buffers.push(other.weights);
        if (other.scales !== null) buffers.push(other.scales);
      }
      const { variant } = gpu;
      const bound = SPANS.filter((span) => pipelines.has(`${name} ${span}`)).map((span) => {
        const tile = tileOf(variant, matrix.format, span, ENDINGS[name]);
        const groups = Math.ceil(part.rows / outputsOf(variant, tile));
        return [span, { ...this.#bind(`${name} ${span}`, buffers), groups, tokens: tile.tokens }] as const;
      });
      return Object.fromEntries(bound);
    });
  }

  #bind(name: string, buffers: readonly GPUBuffer[]): Bound {
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
