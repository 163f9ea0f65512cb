// Writes units of work into submits: a unit is dispatches that go into one submit as a whole.
import type { Machine } from "./machine.ts";
import { Pass } from "./pass.ts";

/** Work that goes into one submit as a whole. */
export interface Unit {
  /** In multiply-adds. */
  readonly cost: number;
  encode(encoder: Encoder): void;
}

/** A command buffer being written: one compute pass, interrupted by copies only. */
export class Encoder {
  readonly #machine: Machine;
  readonly #encoder: GPUCommandEncoder;
  #open: Pass | null = null;
  /** How much of a submit's time its work and what goes before it unawaited are expected to take: 1 is all. */
  filled = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#encoder = machine.gpu.device.createCommandEncoder();
  }

  get pass(): Pass {
    this.#open ??= new Pass(this.#machine.gpu, this.#encoder.beginComputePass());
    return this.#open;
  }

  copy(from: GPUBuffer, fromBytes: number, to: GPUBuffer, toBytes: number, bytes: number): void {
    this.#open?.end();
    this.#open = null;
    this.#encoder.copyBufferToBuffer(from, fromBytes, to, toBytes, bytes);
  }

  submit(): void {
    this.#open?.end();
    this.#open = null;
    this.#machine.gpu.device.queue.submit([this.#encoder.finish()]);
  }
}
