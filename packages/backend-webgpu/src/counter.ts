// Counters around a device that see every call made on it: for tests and benchmarks, which do not ask a backend about itself.

export interface Counts {
  submits: number;
  dispatches: number;
  passes: number;
  /** Buffers, bind groups, pipelines, layouts and shader modules made. */
  creates: number;
  writes: number;
  bytesIn: number;
  /** Bytes mapped for reading. */
  bytesOut: number;
  /** From the beginning of a pass until it is submitted: what the host takes to write dispatches down. */
  encodeMs: number;
}

const none = (): Counts => ({
  ...{ submits: 0, dispatches: 0, passes: 0, creates: 0, writes: 0, bytesIn: 0, bytesOut: 0, encodeMs: 0 },
});

/** Counts by standing in the way of the device's own methods: what the backend says of itself does not count. */
export class Counter {
  counts = none();

  reset(): void {
    this.counts = none();
  }

  readonly onDevice = (device: GPUDevice): GPUDevice => {
    const { queue } = device;
    let begun: number | undefined;
    this.#watch(queue, "submit", () => {
      this.counts.submits++;
      if (begun !== undefined) this.counts.encodeMs += performance.now() - begun;
      begun = undefined;
    });
    this.#watch(queue, "writeBuffer", (_result, [, , data]) => {
      this.counts.writes++;
      this.counts.bytesIn += (data as ArrayBufferView).byteLength;
    });
    this.#watch(device, "createCommandEncoder", (encoder) => {
      this.#watch(encoder as GPUCommandEncoder, "beginComputePass", (pass) => {
        this.counts.passes++;
        begun ??= performance.now();
        this.#watch(pass as GPUComputePassEncoder, "dispatchWorkgroups", () => {
          this.counts.dispatches++;
        });
      });
    });
    for (const name of [
      "createBindGroup",
      "createBindGroupLayout",
      "createPipelineLayout",
      "createShaderModule",
    ] as const) {
      this.#watch(device, name, () => {
        this.counts.creates++;
      });
    }
    for (const name of ["createComputePipeline", "createComputePipelineAsync"] as const) {
      this.#watch(device, name, () => {
        this.counts.creates++;
      });
    }
    this.#watch(device, "createBuffer", (buffer) => {
      this.counts.creates++;
      this.#watch(buffer as GPUBuffer, "mapAsync", (_result, [, , bytes]) => {
        this.counts.bytesOut += bytes as number;
      });
    });
    return device;
  };

  #watch<T extends object>(
    target: T,
    name: keyof T & string,
    seen: (result: unknown, args: readonly unknown[]) => void,
  ): void {
    const original = target[name] as (...args: unknown[]) => unknown;
    Object.defineProperty(target, name, {
      configurable: true,
      value: (...args: unknown[]) => {
        const result = original.apply(target, args);
        seen(result, args);
        return result;
      },
    });
  }
}
