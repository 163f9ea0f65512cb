// An open device, and the loading of models onto it.
import {
  type Backend,
  type Capabilities,
  type Checkpoint,
  type Config,
  DogeError,
  type LoadOptions,
  type Model,
} from "@doge-lm/core";
import { planLoad, writeRotaryAngles } from "@doge-lm/core/backend-kit";
import { pageBytes } from "./activations.ts";
import type { Gpu } from "./device.ts";
import { WIDEST_HEAD } from "./kernels/attention.ts";
import { fitsChoice } from "./kernels/experts.ts";
import { headRows, Machine } from "./machine.ts";
import { GpuModel } from "./model.ts";
import { PageQueue } from "./pages.ts";
import { Pipelines } from "./pipelines.ts";
import { cachesHalf } from "./variant.ts";
import { fillWeights, makeWeights } from "./weights.ts";

/** @see WebgpuOptions */
interface BackendOptions {
  readonly tokensPerSubmit?: number | undefined;
  /** Waited for before the first draws by topK or topP: rejects where the device draws wrongly. */
  readonly judge?: (() => Promise<void>) | undefined;
}

/** A window as long as the context never drops a key: the kernels need not look for what was dropped. */
const withoutIdleWindow = (config: Config, context: number): Config =>
  config.window !== null && config.window >= context ? { ...config, window: null } : config;

export class WebgpuBackend implements Backend {
  readonly name = "webgpu";
  readonly can: Capabilities;
  readonly #gpu: Gpu;
  readonly #options: BackendOptions;

  readonly #release: () => void;

  constructor(gpu: Gpu, can: Capabilities, options: BackendOptions, release: () => void) {
    this.#release = release;
    this.#gpu = gpu;
    this.can = can;
    this.#options = options;
  }

  /** A model has buffers of its own; pipelines are shared, and compiled while the weights arrive. */
  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    const { dtype, routing, context, room } = planLoad("webgpu", checkpoint.config, options);
    const config = withoutIdleWindow(checkpoint.config, context);
    if (config.headDim > WIDEST_HEAD) {
      throw new DogeError(
        "unsupported",
        `Heads of ${config.headDim} are wider than the ${WIDEST_HEAD} that the kernels hold.`,
        { scope: "webgpu" },
      );
    }
    if (config.experts !== null && !fitsChoice(config.experts)) {
      const { perToken, side } = config.experts;
      throw new DogeError(
        "unsupported",
        `The choice of ${perToken} among ${side} x ${side} experts needs more memory than a workgroup has (16 KiB).`,
        { scope: "webgpu" },
      );
    }
    const gpu = this.#gpu;
    const pages = new PageQueue(config, room);
    const { count } = pages.shape;
    const page = pageBytes(config, cachesHalf(gpu.variant, dtype));
    const angles = new Float32Array(context * config.headDim);
    writeRotaryAngles(angles, config, context);
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
          keys: own(gpu.storage("The keys of a layer", count * page.keys)),
          values: own(gpu.storage("The values of a layer", count * page.values)),
          meta: own(gpu.storage("The biases of a layer", count * page.meta)),
        })),
      };
    });
    try {
      gpu.device.queue.writeBuffer(made.angles, 0, angles);
      await fillWeights(gpu, made.weights, checkpoint, options.signal);
      await compiling;
      const machine = new Machine({ gpu, config, dtype, pipelines, buffers, ...made });
      const { tokensPerSubmit, judge } = this.#options;
      return new GpuModel(machine, pages, {
        config: checkpoint.config,
        dtype,
        routing,
        context,
        room,
        tokensPerSubmit,
        judge,
      });
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
