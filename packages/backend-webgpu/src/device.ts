// An open GPU device: its pipelines, its buffers, and what went wrong with it.
import { aborted, DogeError } from "@doge-lm/core";
import { sleeps } from "./engines.ts";
import type { Binding, Kernel } from "./kernels/kernel.ts";
import type { Variant } from "./variant.ts";

/** A kernel made ready for a device. */
export interface Pipeline {
  readonly name: string;
  readonly pipeline: GPUComputePipeline;
  /** Of group 0 and group 1. */
  readonly layouts: readonly [GPUBindGroupLayout, GPUBindGroupLayout];
}

const TYPES: { readonly [binding in Binding]: GPUBufferBindingType } = {
  read: "read-only-storage",
  write: "storage",
  uniform: "uniform",
};
// The flags by their values: their names are globals that Node does not have.
export const USAGE = { mapRead: 1, copySource: 4, copyTarget: 8, uniform: 64, storage: 128 } as const;
const COMPUTE = 4;
const READ = 1;

/** Why a device is gone: the cause of every "device-lost" of this backend. */
export class DeviceLoss extends Error {
  /** "destroyed": somebody closed it, so that nothing brings it back; "unknown": the driver, the system, a fault. */
  readonly reason: "destroyed" | "unknown";

  constructor(reason: "destroyed" | "unknown", message: string) {
    super(message);
    this.reason = reason;
  }
}

export class Gpu {
  readonly device: GPUDevice;
  readonly variant: Variant;
  /** Bytes of a buffer that a kernel may see at once. */
  readonly bindingLimit: number;
  /** Compile what not every text needs when it is first asked for, and not behind the rest. */
  lazy: boolean;
  /** Those who wait for the device, to be told of its loss. */
  readonly #waiting = new Set<(loss: DogeError) => void>();
  readonly #pipelines = new Map<string, Promise<Pipeline>>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  #loss: DogeError | undefined;
  readonly #lose: (loss: DeviceLoss) => void;

  constructor(
    device: GPUDevice,
    variant: Variant,
    options: { readonly bindingLimit?: number | undefined; readonly lazy?: boolean } = {},
  ) {
    const { bindingLimit = Number.POSITIVE_INFINITY, lazy = false } = options;
    this.bindingLimit = Math.min(bindingLimit, device.limits.maxStorageBufferBindingSize);
    this.lazy = lazy;
    this.device = device;
    this.variant = variant;
    this.#lose = (loss) => {
      this.#loss ??= new DogeError(
        "device-lost",
        `The GPU device is gone (${loss.reason}: ${loss.message || "the driver gives no reason"}): close the backend and open another.`,
        { scope: "webgpu", cause: loss },
      );
      for (const tell of this.#waiting) tell(this.#loss);
    };
    void device.lost.then(({ reason, message }) => this.#lose(new DeviceLoss(reason, message)));
    // Nothing that this package asks of a device is wrong: a refusal means that its results are not to be relied on.
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.#lose(new DeviceLoss("unknown", `an uncaptured error: ${event.error.message}`));
    });
  }

  /** @throws DogeError "device-lost" when the device is gone. */
  assertAlive(): void {
    if (this.#loss !== undefined) throw this.#loss;
  }

  /** What `work` gives, or "device-lost" should that come first or be the reason why it failed. */
  async alive<T>(work: Promise<T>): Promise<T> {
    const { promise: lost, reject } = Promise.withResolvers<never>();
    this.#waiting.add(reject);
    try {
      this.assertAlive();
      const result = await Promise.race([work, lost]);
      this.assertAlive();
      return result;
    } catch (error) {
      work.catch(() => {});
      this.assertAlive();
      throw error;
    } finally {
      this.#waiting.delete(reject);
    }
  }

  /** What `work` gives, which only the loss of the device rejects. That is often heard of before the loss itself, which says why. */
  async #unlessLost<T>(work: Promise<T>): Promise<T> {
    try {
      return await this.alive(work);
    } catch (error) {
      this.assertAlive();
      const { promise: patience, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, LOSS_MS);
      await this.alive(patience).finally(() => clearTimeout(timer));
      this.#lose(new DeviceLoss("unknown", `it refuses to be read: ${String(error)}`));
      throw this.#loss;
    }
  }

  /** The pipeline of a kernel, compiled once. */
  pipeline(kernel: Kernel): Promise<Pipeline> {
    let found = this.#pipelines.get(kernel.name);
    if (found === undefined) {
      found = this.#compile(kernel);
      found.catch(() => {});
      this.#pipelines.set(kernel.name, found);
    }
    return found;
  }

  async #compile({ name, code, bindings, call }: Kernel): Promise<Pipeline> {
    const layouts = [this.#layout(bindings), this.callLayout(call)] as const;
    // A refusal is this kernel's, and no fault of the device: the pipeline tells of it. Nothing is waited for in between, so that the
    // driver compiles one kernel while the next is still being read.
    this.device.pushErrorScope("validation");
    const module = this.device.createShaderModule({ label: name, code });
    const made = this.device.createComputePipelineAsync({
      label: name,
      layout: this.device.createPipelineLayout({ bindGroupLayouts: [...layouts] }),
      compute: { module, entryPoint: "main" },
    });
    this.device.popErrorScope().catch(() => {});
    try {
      return { name, pipeline: await this.alive(made), layouts };
    } catch (cause) {
      this.assertAlive();
      const { messages } = await this.#unlessLost(module.getCompilationInfo());
      const told = messages.map(({ lineNum, message }) => `line ${lineNum}: ${message}`);
      throw new DogeError(
        "unavailable",
        `This GPU's compiler refuses the kernel "${name}": ${told.join("; ") || String(cause)}`,
        { scope: "webgpu", cause },
      );
    }
  }

  #layout(bindings: readonly Binding[]): GPUBindGroupLayout {
    return this.#made(bindings.join(), () =>
      bindings.map((binding, index) => ({ binding: index, visibility: COMPUTE, buffer: { type: TYPES[binding] } })),
    );
  }

  /** Group 1: a uniform at a dynamic offset, then the call, then its results. */
  callLayout(call: Kernel["call"]): GPUBindGroupLayout {
    return this.#made(`call ${call.join()}`, () => [
      { binding: 0, visibility: COMPUTE, buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: 48 } },
      ...call.map((binding, index) => ({ binding: index + 1, visibility: COMPUTE, buffer: { type: TYPES[binding] } })),
    ]);
  }

  #made(key: string, entries: () => GPUBindGroupLayoutEntry[]): GPUBindGroupLayout {
    let layout = this.#layouts.get(key);
    if (layout === undefined) {
      layout = this.device.createBindGroupLayout({ label: key, entries: entries() });
      this.#layouts.set(key, layout);
    }
    return layout;
  }

  /** Buffers made by `make`, or none of them. Errors: "out-of-memory", with what `what` needs. */
  async allocate<T>(what: string, make: (own: (buffer: GPUBuffer) => GPUBuffer) => T): Promise<T> {
    this.assertAlive();
    const made: GPUBuffer[] = [];
    this.device.pushErrorScope("out-of-memory");
    this.device.pushErrorScope("validation");
    let result: T;
    let thrown: unknown;
    try {
      result = make((buffer) => {
        made.push(buffer);
        return buffer;
      });
    } catch (error) {
      thrown = error;
    }
    const scopes = Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    const [invalid, full] = await this.#unlessLost(scopes);
    const error = full ?? invalid;
    if (error === null && thrown === undefined) return result!;
    for (const buffer of made) buffer.destroy();
    if (thrown instanceof DogeError) throw thrown;
    const bytes = made.reduce((sum, { size }) => sum + size, 0);
    throw new DogeError(
      "out-of-memory",
      `${what} needs ${mebibytes(bytes)} of GPU memory, which this device does not give (${error?.message ?? String(thrown)}): ` +
        "load the model with a smaller `room`, a smaller dtype, or on another backend.",
      { scope: "webgpu", cause: thrown ?? error },
    );
  }

  buffer(label: string, bytes: number, usage: number): GPUBuffer {
    const { maxBufferSize } = this.device.limits;
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    if (size > maxBufferSize) {
      throw new DogeError(
        "out-of-memory",
        `${label} needs a buffer of ${mebibytes(size)} and this device has buffers of at most ${mebibytes(maxBufferSize)}.`,
        { scope: "webgpu" },
      );
    }
    return this.device.createBuffer({ label, size, usage });
  }

  /** A buffer of which a kernel binds so many bytes at once. */
  storage(label: string, bytes: number, bound = bytes): GPUBuffer {
    const { bindingLimit: most } = this;
    if (bound > most) {
      throw new DogeError(
        "out-of-memory",
        `${label} takes ${mebibytes(bound)} and this device binds at most ${mebibytes(most)}: load the model with a smaller \`room\` or \`context\`.`,
        { scope: "webgpu" },
      );
    }
    return this.buffer(label, bytes, USAGE.storage | USAGE.copySource | USAGE.copyTarget);
  }

  uniform(label: string, words: Uint32Array<ArrayBuffer>): GPUBuffer {
    const buffer = this.buffer(label, words.byteLength, USAGE.uniform | USAGE.copyTarget);
    this.device.queue.writeBuffer(buffer, 0, words);
    return buffer;
  }

  group(layout: GPUBindGroupLayout, buffers: readonly (GPUBuffer | GPUBufferBinding)[]): GPUBindGroup {
    return this.device.createBindGroup({
      layout,
      entries: buffers.map((buffer, binding) => ({
        binding,
        resource: "buffer" in buffer ? buffer : { buffer },
      })),
    });
  }

  /** Wait for the GPU. Where it is only looked at now and then, empty submits make the engine look. */
  async #awake<T>(work: Promise<T>): Promise<T> {
    if (!SLEEPY) return this.#unlessLost(work);
    const looking = setInterval(() => this.device.queue.submit([]), LOOK_MS);
    try {
      return await this.#unlessLost(work);
    } finally {
      clearInterval(looking);
    }
  }

  /** Everything submitted so far is done. */
  async finished(signal?: AbortSignal): Promise<void> {
    await this.#awake(this.device.queue.onSubmittedWorkDone());
    if (signal?.aborted) throw aborted(signal, "webgpu");
  }

  /** What stands at the beginning of a staging buffer, once what was submitted has written it. */
  async read(staging: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    const mapped = staging.mapAsync(READ, 0, bytes);
    return this.#awake(
      mapped.then(() => {
        const copy = staging.getMappedRange(0, bytes).slice(0);
        staging.unmap();
        return copy;
      }),
    );
  }
}

const SLEEPY = sleeps();
const LOOK_MS = 1;
/** How much later than a rejection the loss that it is for may be told. */
const LOSS_MS = 1000;

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
