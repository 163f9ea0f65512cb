// A pass: writes dispatches, and skips what stands already.
import type { Gpu } from "./device.ts";
import { unitsToGroups } from "./kernels/kernel.ts";
import { spanOf } from "./kernels/matmul.ts";

/** A dispatch without its counts. */
export interface Bound {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}
/** A part of a matmul, by how many tokens go through it. */
export interface BoundMatmul {
  readonly [span: string]: Bound & {
    /** Workgroups over the outputs. */
    readonly groups: number;
    /** Tokens of one of them. */
    readonly tokens: number;
  };
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
    if (tokens === 0) return;
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
