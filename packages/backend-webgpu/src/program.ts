// A model made ready to run: for every dispatch of a forward pass its pipeline and its bind group, made once at load. The token
// loop only names them.
import { type Config, type DType, keyValueWidth, queryWidth } from "@doge-lm/core";
import type { Gpu, Pipeline } from "./device.ts";
import { type AttentionPart, attention, copy, headsTogether, PAGE, reset } from "./kernels/attention.ts";
import { draw, score } from "./kernels/draw.ts";
import { embed } from "./kernels/embed.ts";
import { choose, down, up } from "./kernels/experts.ts";
import { formats } from "./kernels/formats.ts";
import { type Kernel, unitsToGroups } from "./kernels/kernel.ts";
import { matmul, outputsOf, SPANS, spanOf, tileOf } from "./kernels/matmul.ts";
import { rmsnorm } from "./kernels/rmsnorm.ts";
import type { Matrix } from "./matrix.ts";
import { cachesHalf } from "./variant.ts";
import { strideOf, type Weights } from "./weights.ts";

/** Every kernel of a model, by what the program calls it. */
function kernelsOf(gpu: Gpu, config: Config, dtype: DType): Record<string, Kernel> {
  const { variant } = gpu;
  const format = formats[dtype];
  const widest = config.headDim <= 128 ? 128 : 256;
  const half = cachesHalf(variant, dtype);
  const together = headsTogether(config);
  const kernels: Record<string, Kernel> = {
    embed: embed(format),
    rmsnorm,
    copy,
    keep: attention(variant, { part: "keep", widest, half, together }),
    attend: attention(variant, { part: "attend", widest, half, together }),
    step: attention(variant, { part: "step", widest, half, together }),
    score: score(variant),
    draw: draw(variant, false, false),
    "draw filtered": draw(variant, true, false),
    "draw told": draw(variant, false, true),
    "draw filtered told": draw(variant, true, true),
  };
  for (const span of SPANS) {
    kernels[`qkv ${span}`] = matmul(variant, { format, ending: "store", norm: true, span });
    kernels[`residual ${span}`] = matmul(variant, { format, ending: "residual", norm: false, span });
    kernels[`gated ${span}`] = matmul(variant, { format, ending: "gated", norm: true, span });
    kernels[`head ${span}`] = matmul(variant, { format, ending: "head", norm: true, span });
    if (config.experts !== null) {
      kernels[`router ${span}`] = matmul(variant, { format: formats.f32, ending: "store", norm: true, span });
    }
  }
  if (config.window !== null) kernels.reset = reset;
  if (config.experts !== null) {
    const { side, perToken } = config.experts;
    kernels.choose = choose(variant, side, perToken);
    kernels["experts down"] = down(variant, format);
    kernels["experts up"] = up(format);
  }
  return kernels;
}

/** Kernels that not every text needs. A software adapter, which takes a quarter of a second for each, compiles them when they
 *  are first asked for; any other behind the rest, which nobody waits for. */
const OCCASIONAL: readonly string[] = ["score", "draw filtered", "draw told", "draw filtered told", "rmsnorm"];

/** A model's pipelines, by what the program calls them. */
export class Pipelines {
  readonly #gpu: Gpu;
  readonly #kernels: Record<string, Kernel>;
  readonly #ready = new Map<string, Pipeline>();

  constructor(gpu: Gpu, config: Config, dtype: DType) {
    this.#gpu = gpu;
    this.#kernels = kernelsOf(gpu, config, dtype);
  }

  /** Compile all that every text needs, at once, and then what some may need. */
  async compile(): Promise<void> {
    await this.need(Object.keys(this.#kernels).filter((name) => !OCCASIONAL.includes(name)));
    if (!this.#gpu.lazy) this.need(OCCASIONAL).catch(() => {}); // who needs it is told
  }

  async need(names: readonly string[]): Promise<void> {
    const missing = names.filter((name) => !this.#ready.has(name));
    if (missing.length === 0) return;
    const made = await this.#gpu.alive(Promise.all(missing.map((name) => this.#gpu.pipeline(this.#kernels[name]!))));
    for (const [index, name] of missing.entries()) this.#ready.set(name, made[index]!);
  }

  has(name: string): boolean {
    return name in this.#kernels;
  }

  /** One that was needed before. */
  get(name: string): Pipeline {
    return this.#ready.get(name)!;
  }
}

/** A dispatch without its counts. */
interface Bound {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}
/** A part of a matmul, by how many tokens go through it. */
interface BoundMatmul {
  readonly [span: string]: Bound & {
    /** Workgroups over the outputs. */
    readonly groups: number;
    /** Tokens of one of them. */
    readonly tokens: number;
  };
}
interface BoundLayer {
  readonly qkv: readonly BoundMatmul[];
  readonly attention: Readonly<Record<AttentionPart, Bound>>;
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

/** The cache of one layer. */
export interface LayerCache {
  readonly keys: GPUBuffer;
  readonly values: GPUBuffer;
  readonly meta: GPUBuffer;
}

/** Bytes of one page of one layer, with keys and values in f32 or `half` of that. */
export function pageBytes(config: Config, half: boolean): { keys: number; values: number; meta: number } {
  const { kvHeads, headDim, biasHeads } = config;
  const bytes = half ? 2 : 4;
  return {
    keys: kvHeads * Math.ceil(headDim / 4) * PAGE * 4 * bytes,
    values: kvHeads * Math.ceil(headDim / 4) * PAGE * 4 * bytes,
    meta: (biasHeads + 2 * kvHeads) * PAGE * 4,
  };
}

/** Buffers that hold a group of tokens on its way through the layers. */
export interface Activations {
  readonly tokens: number;
  readonly stream: GPUBuffer;
  readonly qkv: GPUBuffer;
  readonly mixed: GPUBuffer;
  readonly gated: GPUBuffer;
  readonly router: GPUBuffer | null;
  readonly chosen: GPUBuffer | null;
  readonly hidden: GPUBuffer;
}

/** Numbers of one token in `qkv`: queries, keys, values, and behind them its biases. */
export const qkvStride = (config: Config): number =>
  strideOf(queryWidth(config) + 2 * keyValueWidth(config) + config.biasHeads);

/** Bytes that one token takes in the widest of the activations. */
export function widestActivation(config: Config): number {
  const { hiddenSize, intermediateSize, experts } = config;
  const widths = [hiddenSize, qkvStride(config), queryWidth(config), intermediateSize];
  if (experts !== null) widths.push(2 * experts.side, 2 * experts.perToken);
  return 4 * strideOf(Math.max(...widths));
}

export function makeActivations(
  gpu: Gpu,
  own: (buffer: GPUBuffer) => GPUBuffer,
  config: Config,
  tokens: number,
): Activations {
  const { hiddenSize, intermediateSize, experts } = config;
  const make = (name: string, width: number) => own(gpu.storage(`${name} of ${tokens} tokens`, tokens * width * 4));
  return {
    tokens,
    stream: make("stream", strideOf(hiddenSize)),
    qkv: make("queries, keys and values", qkvStride(config)),
    mixed: make("attention", strideOf(queryWidth(config))),
    gated: make("feed-forward", strideOf(intermediateSize)),
    router: experts === null ? null : make("router", 2 * experts.side),
    chosen: experts === null ? null : make("chosen experts", 2 * experts.perToken),
    hidden: make("hidden states", strideOf(hiddenSize)),
  };
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
const ENDINGS = { qkv: "store", router: "store", residual: "residual", gated: "gated", head: "head" } as const;

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
        ...{ x: mixed, xStride: queryWidth(config), result: stream, resultStride: hiddenSize },
        ...{ vectors, gateAt: at("input_residual"), biasAt: at("self_attn.o_proj.bias"), biased: config.attentionBias },
      }),
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
      readonly xStride: number;
      readonly result: GPUBuffer;
      readonly resultStride: number;
      /** The strides are given as they are, not as widths. */
      readonly padded?: boolean;
      readonly vectors: GPUBuffer;
      readonly normAt?: number;
      readonly biasAt?: number;
      readonly bias2At?: number;
      readonly gateAt?: number;
      readonly biased?: boolean;
    },
  ): BoundMatmul[] {
    const { config, gpu } = this.#parts;
    const exact = options.padded === true || name === "head";
    return matrix.parts.map((part, index) => {
      const uniform = this.#uniform([
        ...[matrix.inner, matrix.quads, strideOf(options.xStride), part.first, part.rows],
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
      const bound = SPANS.map((span) => {
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

/** Writes the dispatches of a pass. What stands already is not set again: in Node every call into the device costs about a
 *  microsecond, and all layers of a token share the group of the call and its offset. */
export class Pass {
  readonly #gpu: Gpu;
  readonly #pass: GPUComputePassEncoder;
  #call: GPUBindGroup | null = null;
  #dispatch = -1;

  constructor(gpu: Gpu, pass: GPUComputePassEncoder) {
    this.#gpu = gpu;
    this.#pass = pass;
  }

  run({ pipeline, group }: Bound, call: GPUBindGroup, dispatch: number, x: number, y = 1): void {
    if (x === 0 || y === 0) return;
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group);
    if (call !== this.#call || dispatch !== this.#dispatch) {
      this.#pass.setBindGroup(1, call, [dispatch * 256]);
      this.#call = call;
      this.#dispatch = dispatch;
    }
    if (y === 1) this.#pass.dispatchWorkgroups(x);
    else this.#pass.dispatchWorkgroups(x, y);
  }

  end(): void {
    this.#pass.end();
  }

  matmul(parts: readonly BoundMatmul[], call: GPUBindGroup, dispatch: number, tokens: number): void {
    const span = spanOf(tokens);
    for (const part of parts) {
      const bound = part[span]!;
      this.run(bound, call, dispatch, bound.groups, Math.ceil(tokens / bound.tokens));
    }
  }

  units(bound: Bound, call: GPUBindGroup, dispatch: number, units: number, y = 1): void {
    this.run(bound, call, dispatch, unitsToGroups(this.#gpu.variant, units), y);
  }
}
