// @doge-lm/webgpu: Doge on any GPU that WebGPU reaches, in a browser or, with Dawn, in Node.
import type { Availability, Backend, Capabilities, Checkpoint, LoadOptions, Model, Provider } from "@doge-lm/core";
import {
  aborted,
  checked,
  type Doge,
  DogeError,
  type LoadDogeOptions,
  loadDoge,
  recovering,
  type Source,
} from "@doge-lm/core";
import { type Found, findAdapter, openDevice } from "./adapter.ts";
import { anglesOf } from "./angles.ts";
import { Gpu } from "./device.ts";
import { PAGE, WIDEST_HEAD } from "./kernels/attention.ts";
import { assertKnownAnswer } from "./known-answer.ts";
import { headRows, Machine } from "./machine.ts";
import { GpuModel } from "./model.ts";
import { Pages } from "./pages.ts";
import { pageBytes, Pipelines } from "./program.ts";
import { chooseVariant, describeVariant, type Variant } from "./variant.ts";
import { fillWeights, makeWeights } from "./weights.ts";

export type * from "@doge-lm/core";
export { DogeError, isDogeError } from "@doge-lm/core";
export { DeviceLoss } from "./device.ts";
export type { Variant } from "./variant.ts";

export interface WebgpuOptions {
  /** Take an adapter that computes on the CPU when there is no other. Default: no, since other backends are faster there. */
  readonly software?: boolean | undefined;
  /** The WebGPU to use; default: this runtime's, or Dawn from the package `webgpu`. */
  readonly gpu?: GPU | undefined;
  /** Tokens drawn in one submit; default: as many as the device draws in about 16 ms, at most 32. */
  readonly tokensPerSubmit?: number | undefined;
  /** Bytes of a buffer that a kernel may see at once; default: what the device allows. Larger weights are split. */
  readonly bindingLimit?: number | undefined;
  /** The form of the kernels; default: what suits the adapter. */
  readonly variant?: Partial<Variant> | undefined;
  /** Sees every device before it is used: to count its calls, for instance. */
  readonly onDevice?: ((device: GPUDevice) => GPUDevice) | undefined;
}

/** The backend for GPUs. Making one touches nothing. */
export function webgpu(options: WebgpuOptions = {}): Provider {
  const find = () => findAdapter({ gpu: options.gpu, software: options.software === true });
  return {
    name: "webgpu",
    async probe(): Promise<Availability> {
      const found = await find();
      if ("why" in found) return { available: false, code: "unavailable", why: found.why };
      found.release();
      return { available: true, ...capabilitiesOf(found, options) };
    },
    async open(signal?: AbortSignal): Promise<Backend> {
      if (signal?.aborted) throw aborted(signal, "webgpu");
      const found = await find();
      if ("why" in found) throw new DogeError("unavailable", found.why, { scope: "webgpu" });
      let device: GPUDevice | undefined;
      try {
        device = await openDevice(found, options.bindingLimit);
        const gpu = new Gpu(options.onDevice?.(device) ?? device, variantOf(found, options));
        const backend = new WebgpuBackend(gpu, capabilitiesOf(found, options), options, found.release);
        await assertKnownAnswer(backend);
        if (signal?.aborted) throw aborted(signal, "webgpu");
        return checked(backend);
      } catch (error) {
        device?.destroy();
        found.release();
        throw error;
      }
    },
  };
}

const variantOf = (found: Found, options: WebgpuOptions): Variant => ({
  ...chooseVariant(found.adapter, found.languageFeatures, found.software),
  ...options.variant,
});

const capabilitiesOf = (found: Found, options: WebgpuOptions): Capabilities => ({
  device: `${found.name}, ${describeVariant(variantOf(found, options))} kernels`,
  dtypes: ["f32", "bf16", "q8", "q4"],
  trains: false,
});

/** Where and how to load a Doge with this backend: its own options beside those of every backend. */
export type WebgpuLoadOptions = Omit<LoadDogeOptions, "backend"> &
  Partial<Pick<LoadDogeOptions, "backend">> &
  WebgpuOptions;

/** Load the Doge in `source` (a folder, a browser's files, or files by name) on this backend. A device that is lost is replaced
 *  at most twice in five minutes. Errors: loadDoge's. */
export function load(source: Source, options: WebgpuLoadOptions = {}): Promise<Doge> {
  const { software, gpu, tokensPerSubmit, bindingLimit, variant, onDevice, ...rest } = options;
  const own = { software, gpu, tokensPerSubmit, bindingLimit, variant, onDevice };
  return loadDoge(source, { backend: recovering(webgpu(own)), ...rest });
}

class WebgpuBackend implements Backend {
  readonly name = "webgpu";
  readonly can: Capabilities;
  readonly #gpu: Gpu;
  readonly #options: WebgpuOptions;

  readonly #release: () => void;

  constructor(gpu: Gpu, can: Capabilities, options: WebgpuOptions, release: () => void) {
    this.#release = release;
    this.#gpu = gpu;
    this.can = can;
    this.#options = options;
  }

  /** A model has buffers of its own; pipelines are shared, and compiled while the weights arrive. */
  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    const { config } = checkpoint;
    const { dtype = "f32", context = config.maxPositions, room = context, signal } = options;
    const gpu = this.#gpu;
    if (signal?.aborted) throw aborted(signal, "webgpu");
    refuse(checkpoint, room, context);
    const routing = config.experts === null ? "per-token" : (options.routing ?? "reference");
    const pages = new Pages(config, room, PAGE);
    const page = pageBytes(config);
    const pipelines = new Pipelines(gpu, config, dtype);
    const compiling = pipelines.compile();
    compiling.catch(() => {});
    const buffers: GPUBuffer[] = [];
    const made = await gpu.allocate(`A model of ${dtype} weights with room for ${room} tokens`, (register) => {
      const own = (buffer: GPUBuffer) => {
        buffers.push(register(buffer));
        return buffer;
      };
      return {
        weights: makeWeights(gpu, own, config, dtype),
        angles: own(gpu.storage("The table of angles", context * config.headDim * 4)),
        logits: own(gpu.storage("logits", headRows(gpu, config) * config.vocabSize * 4)),
        caches: Array.from({ length: config.layers }, () => ({
          keys: own(gpu.storage("The keys of a layer", pages.count * page.keys)),
          values: own(gpu.storage("The values of a layer", pages.count * page.values)),
          meta: own(gpu.storage("The biases of a layer", pages.count * page.meta)),
        })),
      };
    });
    try {
      gpu.device.queue.writeBuffer(made.angles, 0, anglesOf(config, context));
      await fillWeights(gpu, made.weights, checkpoint, signal);
      await compiling;
      const machine = new Machine({ gpu, config, dtype, pipelines, buffers, ...made });
      const { tokensPerSubmit } = this.#options;
      return new GpuModel(machine, pages, { dtype, routing, context, room, tokensPerSubmit });
    } catch (error) {
      for (const buffer of buffers) buffer.destroy();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#gpu.device.destroy();
    this.#release();
  }
}

/** What this backend cannot hold. */
function refuse({ config }: Checkpoint, room: number, context: number): void {
  if (config.window !== null && config.biasHeads !== config.kvHeads) {
    throw new DogeError(
      "unsupported-layout",
      `A keep window of ${config.window} needs one bias per key/value head: the checkpoint has ${config.biasHeads} biases for ${config.kvHeads} heads.`,
      { scope: "webgpu" },
    );
  }
  if (config.headDim > WIDEST_HEAD) {
    throw new DogeError("unsupported", `Heads of ${config.headDim} are wider than the ${WIDEST_HEAD} that the kernels hold.`, {
      scope: "webgpu",
    });
  }
  if (room < context) {
    throw new DogeError(
      "invalid-argument",
      `room is ${room} tokens, less than one context of ${context}: leave it out or ask for more.`,
      { scope: "webgpu" },
    );
  }
}
