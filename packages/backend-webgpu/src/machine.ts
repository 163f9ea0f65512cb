// What a loaded model keeps on the device, and the buffers that its calls share: they grow between calls, never within one.
import type { Config, DType } from "@doge-lm/core";
import {
  type Activations,
  type Behind,
  type LayerCache,
  makeActivations,
  numbersBehind,
  pageBytes,
  widestActivation,
} from "./activations.ts";
import type { Gpu } from "./device.ts";
import { USAGE } from "./device.ts";
import type { Pipelines } from "./pipelines.ts";
import { Program, type ProgramParts } from "./program.ts";
import { cachesHalf } from "./variant.ts";
import type { Weights } from "./weights.ts";

/** Tokens that go through the layers together, unless they are routed together. */
const GROUP = 256;
/** Rows of logits held at a time. */
const HEAD_ROWS = 64;

export interface MachineParts {
  readonly gpu: Gpu;
  readonly config: Config;
  readonly dtype: DType;
  readonly weights: Weights;
  readonly pipelines: Pipelines;
  readonly caches: readonly LayerCache[];
  readonly angles: GPUBuffer;
  readonly logits: GPUBuffer;
  /** Everything above that is to be given back. */
  readonly buffers: readonly GPUBuffer[];
}

/** Rows of logits that fit into one binding. */
export const headRows = (gpu: Gpu, config: Config): number =>
  Math.max(1, Math.min(HEAD_ROWS, Math.floor(gpu.bindingLimit / (config.vocabSize * 4))));

/** Tokens of a group on this device. */
const groupTokens = (gpu: Gpu, config: Config, { stream, qkv }: Behind): number =>
  Math.max(1, Math.min(GROUP, Math.floor((gpu.bindingLimit - 4 * Math.max(stream, qkv)) / widestActivation(config))));

/** The buffers of a call: what is written before it, and what comes back. */
export class Machine {
  readonly gpu: Gpu;
  readonly config: Config;
  readonly caches: readonly LayerCache[];
  readonly logits: GPUBuffer;
  readonly headRows: number;
  readonly group: number;
  /** How keys and values are held. */
  readonly kvDtype: "f16" | "f32";
  /** Bytes of a page of one layer. */
  readonly page: ReturnType<typeof pageBytes>;
  readonly #parts: MachineParts;
  readonly #behind: Behind;
  #activations: Activations | null = null;
  #activationBuffers: GPUBuffer[] = [];
  #program: Program | null = null;
  #call: GPUBuffer | null = null;
  #grids: GPUBuffer | null = null;
  #results: GPUBuffer | null = null;
  #groups: { read: GPUBindGroup; draw: GPUBindGroup; score: GPUBindGroup } | null = null;
  #staging: GPUBuffer[] = [];

  constructor(parts: MachineParts) {
    this.#parts = parts;
    this.gpu = parts.gpu;
    this.config = parts.config;
    this.caches = parts.caches;
    this.logits = parts.logits;
    this.headRows = headRows(parts.gpu, parts.config);
    this.#behind = numbersBehind(parts.gpu, parts.config, parts.dtype);
    this.group = groupTokens(parts.gpu, parts.config, this.#behind);
    const half = cachesHalf(parts.gpu.variant, parts.dtype);
    this.kvDtype = half ? "f16" : "f32";
    this.page = pageBytes(parts.config, half);
  }

  get program(): Program {
    return this.#program!;
  }
  get activations(): Activations {
    return this.#activations!;
  }
  get results(): GPUBuffer {
    return this.#results!;
  }
  /** Group 1 of the dispatches: kernels that read the call; draw; score. */
  get groups(): { readonly read: GPUBindGroup; readonly draw: GPUBindGroup; readonly score: GPUBindGroup } {
    return this.#groups!;
  }
  /** A ring of buffers that the host can map. */
  get staging(): readonly GPUBuffer[] {
    return this.#staging;
  }

  /** Make room: tokens in a group, words of the call and of its dispatches, bytes of results, bytes of each staging buffer. */
  async ensure(need: {
    tokens: number;
    call: number;
    grids: number;
    results: number;
    staging: number;
    ring: number;
  }): Promise<void> {
    const { gpu, config } = this;
    const larger = (have: GPUBuffer | null, bytes: number) => have === null || have.size < bytes;
    const rounded = (bytes: number) => 2 ** Math.ceil(Math.log2(Math.max(4096, bytes)));
    if (this.#activations === null || this.#activations.tokens < need.tokens) {
      const made: GPUBuffer[] = [];
      const next = await gpu.allocate(`A call that takes ${need.tokens} tokens through a layer together`, (own) =>
        makeActivations(
          gpu,
          (buffer) => {
            made.push(own(buffer));
            return buffer;
          },
          config,
          need.tokens,
          this.#behind,
        ),
      );
      for (const buffer of this.#activationBuffers) buffer.destroy();
      this.#program?.destroy();
      this.#activations = next;
      this.#activationBuffers = made;
      const parts: ProgramParts = { ...this.#parts, activations: next };
      this.#program = new Program(parts);
    }
    if (larger(this.#call, need.call) || larger(this.#grids, need.grids) || larger(this.#results, need.results)) {
      const storage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
      const [call, grids, results] = await gpu.allocate(
        "This call",
        (own) =>
          [
            larger(this.#call, need.call) ? own(gpu.storage("The text of a call", rounded(need.call))) : this.#call!,
            larger(this.#grids, need.grids)
              ? own(gpu.buffer("The dispatches of a call", rounded(need.grids), USAGE.uniform | USAGE.copyTarget))
              : this.#grids!,
            larger(this.#results, need.results)
              ? own(gpu.buffer("The results of a call", rounded(need.results), storage))
              : this.#results!,
          ] as const,
      );
      for (const [old, now] of [
        [this.#call, call],
        [this.#grids, grids],
        [this.#results, results],
      ] as const) {
        if (old !== now) old?.destroy();
      }
      this.#call = call;
      this.#grids = grids;
      this.#results = results;
      const grid: GPUBufferBinding = { buffer: grids, size: 48 };
      this.#groups = {
        read: gpu.group(gpu.callLayout(["read"]), [grid, call]),
        draw: gpu.group(gpu.callLayout(["write", "write"]), [grid, call, results]),
        score: gpu.group(gpu.callLayout(["read", "write"]), [grid, call, results]),
      };
    }
    if (need.ring > 0 && (this.#staging.length < need.ring || this.#staging[0]!.size < need.staging)) {
      const size = rounded(Math.max(need.staging, this.#staging[0]?.size ?? 0));
      const next = await gpu.allocate("Reading back the results of a call", (own) =>
        Array.from({ length: Math.max(need.ring, this.#staging.length) }, () =>
          own(gpu.buffer("staging", size, USAGE.mapRead | USAGE.copyTarget)),
        ),
      );
      for (const buffer of this.#staging) buffer.destroy();
      this.#staging = next;
    }
  }

  write(words: Uint32Array<ArrayBuffer>, grids: Uint32Array<ArrayBuffer>): void {
    const { queue } = this.gpu.device;
    queue.writeBuffer(this.#call!, 0, words);
    if (grids.length > 0) queue.writeBuffer(this.#grids!, 0, grids);
  }

  destroy(): void {
    this.#program?.destroy();
    const own = [...this.#parts.buffers, ...this.#activationBuffers, ...this.#staging];
    for (const buffer of [...own, this.#call, this.#grids, this.#results]) buffer?.destroy();
  }
}
