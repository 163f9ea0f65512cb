// Dawn, as it was packed or is installed, with its options; and what it says of the adapter.
import { createRequire } from "node:module";
import type { Provider } from "@doge-lm/core";
import { type WebgpuOptions, webgpu } from "../../src/index.ts";
import { round, values } from "./steps.ts";

interface Dawn {
  create(options: string[]): GPU;
  readonly globals: object;
}
/** Dawn's instances must stay reachable while they are used. */
const instances: GPU[] = [];
let dawn: Dawn | undefined;
/** Timestamps as they are. */
export const always = ["disable-dawn-features=timestamp_quantization"];
export function gpu(options: readonly string[] = always): GPU {
  dawn ??= createRequire(import.meta.url)(values.dawn ?? "webgpu") as Dawn;
  const made = dawn.create([...options]);
  instances.push(made);
  return made;
}
let shared: GPU | undefined;
const theGpu = (): GPU => {
  shared ??= gpu();
  return shared;
};
/** The backend on it. */
export const provider = (options: WebgpuOptions = {}): Provider =>
  webgpu({ gpu: theGpu(), software: values.software, ...options });

/** What the driver calls the adapter: Dawn has a GPU's name in one place and its driver's in another. */
export async function adapterName(): Promise<string> {
  const { device = "", description = "" } =
    (await theGpu().requestAdapter({ powerPreference: "high-performance" }))?.info ?? {};
  return `${device} ${description}`;
}

/** What the adapter is and has. */
export async function adapterFacts(): Promise<object> {
  const start = performance.now();
  const own = theGpu();
  const created = performance.now();
  const adapter = await own.requestAdapter({ powerPreference: "high-performance" });
  const requested = performance.now();
  if (adapter === null) throw new Error("Dawn gives no adapter: no Vulkan driver was found, or it refused it");
  const { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } =
    adapter.info;
  const limits: { [name: string]: number } = {};
  for (const name in adapter.limits) {
    if (/Storage|Compute|BufferSize|BindGroups|Uniform|Immediate/.test(name))
      limits[name] = Number((adapter.limits as unknown as { [name: string]: number })[name]);
  }
  return {
    ...{ vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize },
    features: [...adapter.features].sort(),
    language: [...(own.wgslLanguageFeatures ?? [])].sort(),
    limits,
    createMs: round(created - start),
    adapterMs: round(requested - created),
    node: process.version,
  };
}
