// Small models with seeded weights, and Dawn's null device: it compiles and checks every call and computes nothing.
import { small as smallest } from "@doge-lm/conformance/models";
import {
  type Backend,
  type Checkpoint,
  type Config,
  checked,
  isDogeError,
  memoryCheckpoint,
  tensorShapes,
} from "@doge-lm/core";
import { expect } from "vitest";
import { WebgpuBackend } from "../src/backend.ts";
import { Gpu } from "../src/device.ts";
import type { Variant } from "../src/variant.ts";

export const small: Config = { ...smallest, vocabSize: 64, layers: 2, maxPositions: 128, window: 24 };

/** Weights that keep what flows through at about 1, from a linear congruential generator (Numerical Recipes). */
export function seeded(config: Config): Checkpoint {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2147483648 - 1;
  };
  return memoryCheckpoint(
    config,
    new Map(
      Array.from(tensorShapes(config), ([name, shape]) => {
        const count = shape.reduce((product, size) => product * size, 1);
        const [middle, spread] = shape.length === 1 ? [1, 0.3] : [0, 1.7 / Math.sqrt(shape.at(-1)!)];
        return [name, Float32Array.from({ length: count }, () => middle + spread * next())];
      }),
    ),
  );
}

export const variants: { readonly [name: string]: Variant } = {
  "barrier-free": { serial: true, subgroups: false, f16: false, packed: false },
  "barrier-free + f16 + packed": { serial: true, subgroups: false, f16: true, packed: true },
  base: { serial: false, subgroups: false, f16: false, packed: false },
  "base + packed": { serial: false, subgroups: false, f16: false, packed: true },
  "base + f16 + packed": { serial: false, subgroups: false, f16: true, packed: true },
  subgroups: { serial: false, subgroups: true, f16: false, packed: false },
  "subgroups + f16 + packed": { serial: false, subgroups: true, f16: true, packed: true },
};

/** Dawn, when it is installed; what keeps it alive is the caller's to keep. */
export async function nullDawn(): Promise<GPU | null> {
  const name = "webgpu";
  try {
    const { create } = (await import(name)) as { create(options: string[]): GPU };
    return create(["backend=null"]);
  } catch {
    return null;
  }
}

/** The null device computes nothing, and a result that nobody wrote would be whatever its memory held before: let it be zeros. */
function zeroed(device: GPUDevice): void {
  const original = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = original({ ...descriptor, mappedAtCreation: true });
    if (descriptor.mappedAtCreation) return buffer;
    new Uint8Array(buffer.getMappedRange()).fill(0);
    buffer.unmap();
    return buffer;
  };
}

/** What a device must be asked for. */
export const featuresFor = ({ subgroups, f16 }: Variant): GPUFeatureName[] => [
  ...(subgroups ? (["subgroups"] as GPUFeatureName[]) : []),
  ...(f16 ? (["shader-f16"] as const) : []),
];

/** A backend on the null device, without the known answer that it could not give. */
export async function nullBackend(
  gpu: GPU,
  variant: Variant,
  options: { tokensPerSubmit?: number; onDevice?: (device: GPUDevice) => GPUDevice; bindingLimit?: number } = {},
): Promise<Backend> {
  const adapter = (await gpu.requestAdapter())!;
  const device = await adapter.requestDevice({ requiredFeatures: featuresFor(variant) });
  const can = { device: "null", dtypes: ["f32", "bf16", "q8", "q4"] as const, trains: false };
  zeroed(device);
  const seen = options.onDevice?.(device) ?? device;
  return checked(new WebgpuBackend(new Gpu(seen, variant, { ...options, lazy: true }), can, options, () => {}));
}

/** The DogeError that `work` rejects with. */
export async function fault(work: Promise<unknown>): Promise<{ code: string; message: string; cause?: unknown }> {
  const error = await work.then(
    () => expect.unreachable("It should have been rejected."),
    (reason: unknown) => reason,
  );
  if (!isDogeError(error)) throw error;
  return error;
}

/** What the driver would do: an error that nobody caught. */
export const break_ = (device: GPUDevice) => {
  device.createBuffer({ size: 4, usage: 0xffff });
};
