// @doge-lm/webgpu: Doge on any GPU that WebGPU reaches, in a browser or, with Dawn, in Node.
import type { Availability, Backend, Capabilities, Provider } from "@doge-lm/core";
import {
  aborted,
  checked,
  type Doge,
  DogeError,
  isDogeError,
  type LoadDogeOptions,
  loadDoge,
  recovering,
  type Source,
} from "@doge-lm/core";
import { assertAgreesWithItself, assertDraws, assertKnownAnswer } from "@doge-lm/core/backend-kit";
import { type Found, findAdapter, openDevice } from "./adapter.ts";
import { WebgpuBackend } from "./backend.ts";
import { Gpu } from "./device.ts";
import { compilesInFront } from "./engines.ts";
import { chooseVariant, describeVariant, fallbacks, featuresOf, type Variant } from "./variant.ts";

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
  /** The form of the kernels to begin with; default: what suits the adapter. One that gives wrong numbers is left for a plainer. */
  readonly variant?: Partial<Variant> | undefined;
  /** Sees every device before it is used: to count its calls, for instance. Such a device has timestamps, where the adapter has. */
  readonly onDevice?: ((device: GPUDevice) => GPUDevice) | undefined;
}

/** Errors: "invalid-argument" for an option that no device could follow. */
function assertNumbers(options: WebgpuOptions): void {
  for (const name of ["tokensPerSubmit", "bindingLimit"] as const) {
    const { [name]: value } = options;
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) continue;
    throw new DogeError(
      "invalid-argument",
      `${name} is ${String(value)}; it must be a whole number above 0: leave it out for what suits the device.`,
      { scope: "webgpu" },
    );
  }
}

/** The backend for GPUs. Making one touches nothing. Errors: "invalid-argument". */
export function webgpu(options: WebgpuOptions = {}): Provider {
  assertNumbers(options);
  const find = () => findAdapter({ gpu: options.gpu, software: options.software === true });
  return {
    name: "webgpu",
    async probe(): Promise<Availability> {
      const found = await find();
      if ("why" in found) return { available: false, code: "unavailable", why: found.why };
      found.release();
      return { available: true, ...capabilitiesOf(found, variantOf(found, options)) };
    },
    async open(signal?: AbortSignal): Promise<Backend> {
      if (signal?.aborted) throw aborted(signal, "webgpu");
      const found = await find();
      if ("why" in found) throw new DogeError("unavailable", found.why, { scope: "webgpu" });
      let device: GPUDevice | undefined;
      try {
        device = await openDevice(found, options.onDevice !== undefined);
        const backend = await trustworthy(found, options.onDevice?.(device) ?? device, options);
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

/** What a form must agree about. Behind LONG tokens every loop over keys takes its second turn: that of `slices` has 512 in one, that of
 *  `attend` 256. Software adapters would take seconds for that, and are judged by less. */
const AGREEMENT = { engine: "This GPU", apart: 0.1 } as const;
const LONG = 600;

/** The backend with the best form of the kernels that this driver compiles and computes rightly. A form that fails is left for
 *  the next, and the backend's warnings say so. Errors: those of the plainest form; "device-lost" at once. */
async function trustworthy(found: Found, device: GPUDevice, options: WebgpuOptions): Promise<Backend> {
  const warnings: string[] = [];
  const forms = fallbacks(variantOf(found, options));
  for (const [index, variant] of forms.entries()) {
    // Nobody draws with filters before the answer: compiling for that would only delay it, so that is judged when it is first asked for.
    const gpu = new Gpu(device, variant, { bindingLimit: options.bindingLimit, lazy: true });
    const can = { ...capabilitiesOf(found, variant), ...(warnings.length === 0 ? {} : { warnings }) };
    const judge = onceRight(() => assertDraws(new WebgpuBackend(gpu, can, options, () => {}), "This GPU"));
    const backend = new WebgpuBackend(gpu, can, { ...options, judge }, found.release);
    try {
      // What rounds is judged in q8 too, which f32 does not reach. All at once: most of it is compiling.
      const dtypes = variant.packed || variant.f16 ? (["f32", "q8"] as const) : (["f32"] as const);
      const judged = await Promise.allSettled([
        assertKnownAnswer(backend, "This GPU", dtypes),
        // Barrier-free kernels have no step of their own for a single text.
        variant.serial
          ? undefined
          : assertAgreesWithItself(backend, { ...AGREEMENT, dtypes, tokens: found.software ? 80 : LONG }),
      ]);
      for (const answer of judged) if (answer.status === "rejected") throw answer.reason;
      gpu.lazy = found.software || compilesInFront();
      return backend;
    } catch (error) {
      const next = forms[index + 1];
      const ofTheForm = isDogeError(error, "known-answer") || isDogeError(error, "unavailable");
      if (next === undefined || !ofTheForm) throw error;
      warnings.push(
        `${error.message} The ${describeVariant(next)} kernels take the place of the ${describeVariant(variant)} ones: a newer driver may do better.`,
      );
    }
  }
  throw new Error("There is always a form.");
}

/** `work` that is done once, unless it fails. */
function onceRight(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => {
    done ??= work().catch((error: unknown) => {
      done = undefined;
      throw error;
    });
    return done;
  };
}

const variantOf = (found: Found, options: WebgpuOptions): Variant => ({
  ...chooseVariant(featuresOf(found.adapter, found.languageFeatures), found.software),
  ...options.variant,
});

const capabilitiesOf = (found: Found, variant: Variant): Capabilities => ({
  device: `${found.name}, ${describeVariant(variant)} kernels`,
  dtypes: ["f32", "bf16", "q8", "q4"],
  trains: false,
  details: { kernels: describeVariant(variant), ...(found.software ? { software: true } : { processor: "gpu" }) },
});

/** Where and how to load a Doge with this backend: its own options beside those of every backend. */
export type WebgpuLoadOptions = Omit<LoadDogeOptions, "backend"> &
  Partial<Pick<LoadDogeOptions, "backend">> &
  WebgpuOptions;

/** Load the Doge in `source` (a folder, a browser's files, or files by name) on this backend. A device that is lost is replaced
 *  at most twice in five minutes. Errors: those of loadDoge and of webgpu. */
export async function load(source: Source, options: WebgpuLoadOptions = {}): Promise<Doge> {
  const { software, gpu, tokensPerSubmit, bindingLimit, variant, onDevice, ...rest } = options;
  const own = { software, gpu, tokensPerSubmit, bindingLimit, variant, onDevice };
  return loadDoge(source, { backend: recovering(webgpu(own)), ...rest });
}
