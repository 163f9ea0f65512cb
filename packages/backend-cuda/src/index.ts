// @doge-lm/cuda: Doge on NVIDIA GPUs, by CUDA C++ kernels that need nothing but the driver.
import type { Availability, Backend, Capabilities, Provider } from "@doge-lm/core";
import { aborted, checked, type Doge, DogeError, type LoadDogeOptions, loadDoge, type Source } from "@doge-lm/core";
import { CudaBackend, dtypes } from "./backend.ts";
import type { Binding, NativeProbe } from "./binding.ts";
import { locate } from "./locate.ts";
import { type Meter, meterOf } from "./meter.ts";

export type * from "@doge-lm/core";
export { DogeError, isDogeError } from "@doge-lm/core";
export type { DeviceCounts, DeviceRates, Meter } from "./meter.ts";

export interface CudaOptions {
  /** Which GPU, as CUDA counts them (CUDA_VISIBLE_DEVICES counts first). Default 0. */
  readonly device?: number | undefined;
  /** A compiled doge_cuda.node, when not that of this package. */
  readonly binary?: string | undefined;
  /** Called when the device was opened, with what tells of it until it is closed: for benchmarks. */
  readonly onDevice?: ((meter: Meter) => void) | undefined;
}

type Found =
  | { readonly binding: Binding; readonly device: number; readonly can: Capabilities }
  | { readonly why: string };

/** The backend for NVIDIA GPUs. Making one touches nothing. Errors: "invalid-argument" for a device that is no number of one. */
export function cuda(options: CudaOptions = {}): Provider {
  const { device = 0 } = options;
  if (!Number.isInteger(device) || device < 0 || device > 2147483647) {
    throw new DogeError("invalid-argument", `device is ${String(device)}; it must be a whole number from 0 on.`, {
      scope: "cuda",
    });
  }
  return {
    name: "cuda",
    async probe(): Promise<Availability> {
      const found = find(options);
      if ("why" in found) return { available: false, code: "unavailable", why: found.why };
      return { available: true, ...found.can };
    },
    async open(signal?: AbortSignal): Promise<Backend> {
      if (signal?.aborted) throw aborted(signal, "cuda");
      const found = find(options);
      if ("why" in found) throw new DogeError("unavailable", found.why, { scope: "cuda" });
      const backend = await CudaBackend.open("cuda", found.binding, found.device, found.can);
      options.onDevice?.(meterOf(found.binding, backend.device));
      return checked(backend);
    },
  };
}

function find({ device = 0, binary }: CudaOptions): Found {
  const located = locate(binary);
  if ("why" in located) return located;
  const answer = located.binding.probe(device);
  if (!answer.available) return { why: answer.why };
  return { binding: located.binding, device, can: capabilities(answer) };
}

function capabilities(answer: NativeProbe): Capabilities {
  return { device: answer.name, dtypes, trains: false, details: { processor: "gpu", driver: answer.driver } };
}

/** Where and how to load a Doge with this backend: its own options beside those of every backend. */
export type CudaLoadOptions = Omit<LoadDogeOptions, "backend"> &
  Partial<Pick<LoadDogeOptions, "backend">> &
  CudaOptions;

/** Load the Doge in `source` (a name on the hub, a folder, or files by name) on this backend. Errors: those of loadDoge and of cuda. */
export async function load(source: Source, options: CudaLoadOptions = {}): Promise<Doge> {
  const { device, binary, onDevice, ...rest } = options;
  return loadDoge(source, { backend: cuda({ device, binary, onDevice }), ...rest });
}
