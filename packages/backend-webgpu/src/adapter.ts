// Finds a GPU: the browser's or the runtime's own WebGPU, or in Node the optional package `webgpu` (Dawn). Touches nothing until
// asked.
import { DogeError } from "@doge-lm/core";
import { mayHaveGpu } from "./device-nodes.ts";

export interface Found {
  readonly adapter: GPUAdapter;
  readonly languageFeatures: ReadonlySet<string>;
  readonly software: boolean;
  /** "NVIDIA H200", "SwiftShader (software)". */
  readonly name: string;
  /** Nothing of it is used any more. Node does not end before that. */
  release(): void;
}
/** Why there is none. */
export interface Absent {
  readonly why: string;
}

/** Dawn's instance in Node. It must stay reachable while it is used: collected in the middle of a call it takes the process down.
 *  And it must be let go afterwards, or the process does not end. */
const held = globalThis as { __dogeWebgpu?: { readonly gpu: GPU; users: number } | undefined };

/** Dawn, from the optional package `webgpu`; for a `software` adapter also where there is no GPU. */
async function openDawn(software: boolean): Promise<{ gpu: GPU; release: () => void } | Absent> {
  if (!software && !mayHaveGpu()) {
    return { why: "There is no GPU: Linux shows none in /dev (no /dev/dri/renderD*, /dev/nvidia* or /dev/dxg)." };
  }
  // In a variable, so that no bundler looks for a package that is not there.
  const name = "webgpu";
  let module: { create(options: string[]): GPU; globals: object };
  try {
    module = await import(/* @vite-ignore */ /* webpackIgnore: true */ name);
  } catch (error) {
    if ((error as { code?: string }).code !== "ERR_MODULE_NOT_FOUND") {
      return { why: `The package webgpu (Dawn) is here and does not start: ${(error as Error).message}` };
    }
    return { why: "This runtime has no WebGPU of its own: in Node, `npm install webgpu` brings one (Dawn)." };
  }
  held.__dogeWebgpu ??= { gpu: module.create([]), users: 0 };
  const instance = held.__dogeWebgpu;
  instance.users++;
  const release = () => {
    if (--instance.users === 0) held.__dogeWebgpu = undefined;
  };
  return { gpu: instance.gpu, release };
}

/** A WebGPU implementation given by the caller, this runtime's, or Dawn. */
async function findGpu(given: GPU | undefined, software: boolean): Promise<{ gpu: GPU; release: () => void } | Absent> {
  const release = () => {};
  if (given !== undefined) return { gpu: given, release };
  const own = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (own !== undefined) return { gpu: own, release };
  if (typeof process === "undefined") {
    if (!globalThis.isSecureContext) return { why: "WebGPU needs a page from https or from this machine (localhost)." };
    const where = "WorkerGlobalScope" in globalThis ? " in workers" : "";
    return { why: `This browser has no WebGPU${where}.` };
  }
  return openDawn(software);
}

/** An adapter, and with it what keeps it alive: release() it. */
export async function findAdapter(options: {
  readonly gpu?: GPU | undefined;
  readonly software: boolean;
}): Promise<Found | Absent> {
  const found = await findGpu(options.gpu, options.software);
  if ("why" in found) return found;
  const adapter = await findIn(found.gpu, options.software);
  if ("why" in adapter) {
    found.release();
    return adapter;
  }
  let released = false;
  const release = () => {
    if (!released) found.release();
    released = true;
  };
  return { ...adapter, release };
}

async function findIn(gpu: GPU, allowed: boolean): Promise<Omit<Found, "release"> | Absent> {
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    // Some implementations have a software adapter that they only give when asked for it.
    if (adapter === null && allowed) adapter = await gpu.requestAdapter({ forceFallbackAdapter: true });
  } catch (error) {
    return { why: `WebGPU is here and gives no adapter: ${(error as Error).message}` };
  }
  if (adapter === null) {
    return {
      why: "WebGPU is here, but no GPU: the driver is missing (in Node: Vulkan, Metal or Direct3D 12) or blocked.",
    };
  }
  const { info } = adapter;
  const name = info.description || info.device || [info.vendor, info.architecture].filter(Boolean).join(" ") || "a GPU";
  const software = info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|software|basic render/i.test(name);
  if (software && !allowed) {
    return {
      why: `The only adapter is ${name}, which computes on the CPU: the WebAssembly backend is faster there. Ask for it with webgpu({ software: true }) or --backend webgpu.`,
    };
  }
  return {
    adapter,
    languageFeatures: gpu.wgslLanguageFeatures ?? new Set<string>(),
    software,
    name: software ? `${name} (software)` : name,
  };
}

/** A device with the adapter's own limits: the default ones are lower than what models need. One that is `watched` gets a clock
 *  where the adapter has one. */
export async function openDevice({ adapter, name }: Found, watched: boolean): Promise<GPUDevice> {
  const { limits } = adapter;
  const most = (name: keyof GPUSupportedLimits & string): number => Number(limits[name]);
  // What variants of the kernels use where it is there.
  const wanted = ["subgroups", "shader-f16", ...(watched ? ["timestamp-query"] : [])] as GPUFeatureName[];
  try {
    return await adapter.requestDevice({
      label: "doge",
      requiredFeatures: wanted.filter((feature) => adapter.features.has(feature)),
      requiredLimits: {
        maxBufferSize: most("maxBufferSize"),
        maxStorageBufferBindingSize: most("maxStorageBufferBindingSize"),
      },
    });
  } catch (cause) {
    throw new DogeError("unavailable", `${name} gives no device: ${(cause as Error).message}`, {
      scope: "webgpu",
      cause,
    });
  }
}
