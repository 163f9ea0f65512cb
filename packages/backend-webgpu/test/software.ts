// What the tests run on: the software adapter that tools/software-gpu.mjs brings, and counters around its device.
import { type WebgpuOptions, webgpu } from "../src/index.ts";

export { Counter } from "../src/counter.ts";

/** The backend on whatever adapter there is, a software one too. */
export const software = (options: WebgpuOptions = {}) => webgpu({ software: true, ...options });
