// Backend: one opened device behind the binding.
import type { Backend, Capabilities, Checkpoint, Config, DType, LoadOptions, Model } from "@doge-lm/core";
import { DogeError } from "@doge-lm/core";
import { assertAgreesWithItself, assertKnownAnswer, planLoad, type SelfCheck } from "@doge-lm/core/backend-kit";
import type { Binding, DeviceHandle, ModelHandle } from "./binding.ts";
import { fault } from "./faults.ts";
import { CudaModel } from "./model.ts";
import { sendWeights } from "./weights.ts";

/** What every device does with this version. */
export const dtypes: readonly DType[] = Object.freeze(["f32", "bf16", "q8"] as const);
const formats: { readonly [Type in DType]?: number } = { f32: 0, bf16: 1, q8: 2 };
const ropes = { default: 0, linear: 1, dynamic: 2 } as const;

/** Eight tokens go through the plain kernels for few rows. Eleven bits of each activation move logits by 0.005. Draws of one row are made by
 *  a launch that no other call meets; its steps read what those before them have kept. */
const SELF_CHECK: SelfCheck = {
  engine: "This GPU",
  dtypes: ["bf16"],
  few: 8,
  apart: 0.05,
  draws: 12,
  advice: "DOGE_HALVES=0 in the environment leaves half precision out.",
};

/** Devices that agreed with themselves, by the binding that they were asked through: once a process is enough. */
const agreeing = new WeakMap<Binding, Set<number>>();

export class CudaBackend implements Backend {
  readonly name: string;
  readonly can: Capabilities;
  readonly #binding: Binding;
  readonly #device: DeviceHandle;

  /** @throws DogeError when the device cannot be opened. */
  constructor(name: string, binding: Binding, device: number, can: Capabilities) {
    this.name = name;
    this.can = can;
    this.#binding = binding;
    try {
      this.#device = binding.open(device);
    } catch (error) {
      throw fault(error);
    }
  }

  /** Open a device and have it compute the known answer, in f32 and over the 8-bit kernels, and a longer text in every way that it has.
   *  Errors: "known-answer" when it computes something else, and then the device is closed; those of the driver. */
  static async open(name: string, binding: Binding, device: number, can: Capabilities): Promise<CudaBackend> {
    const backend = new CudaBackend(name, binding, device, can);
    try {
      await assertKnownAnswer(backend, "This GPU", ["f32", "q8"]);
      const agreed = agreeing.get(binding) ?? new Set();
      if (!agreed.has(device)) await assertAgreesWithItself(backend, SELF_CHECK);
      agreeing.set(binding, agreed.add(device));
      return backend;
    } catch (error) {
      await backend.close();
      throw error;
    }
  }

  get device(): DeviceHandle {
    return this.#device;
  }

  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    const { config } = checkpoint;
    const { dtype, routing, context, room } = planLoad("cuda", config, options);
    const format = formats[dtype];
    if (format === undefined)
      throw new DogeError("unsupported", `dtype ${dtype} is not one that this backend has.`, { scope: "cuda" });
    const numbers = describe(config, format, routing === "reference", context, room);
    let handle: ModelHandle;
    try {
      handle = this.#binding.create(this.#device, numbers);
    } catch (error) {
      throw fault(error);
    }
    try {
      await sendWeights(this.#binding, handle, checkpoint, options.signal);
    } catch (error) {
      this.#binding.closeModel(handle);
      throw error;
    }
    return new CudaModel(this.#binding, handle, { config, dtype, routing, context });
  }

  async close(): Promise<void> {
    this.#binding.closeDevice(this.#device);
  }
}

/** doge_config of native/doge.h, in its order. */
function describe(config: Config, format: number, reference: boolean, context: number, room: number): Float64Array {
  const { rope, experts } = config;
  return Float64Array.from([
    config.vocabSize,
    config.hiddenSize,
    config.intermediateSize,
    config.layers,
    config.heads,
    config.kvHeads,
    config.headDim,
    config.normEpsilon,
    config.maxPositions,
    ropes[rope.type],
    rope.theta,
    rope.factor,
    Number(config.qkNorm),
    config.biasHeads,
    config.window ?? 0,
    Number(config.attentionBias),
    Number(config.mlpBias),
    Number(config.tied),
    experts?.count ?? 0,
    experts?.perToken ?? 0,
    experts?.side ?? 0,
    Number(experts?.normalize ?? false),
    Number(experts?.indexing === "grid"),
    format,
    Number(reference),
    context,
    room,
  ]);
}
