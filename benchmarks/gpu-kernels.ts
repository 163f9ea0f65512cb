// The kernels of the WebGPU backend one by one, inside the forward pass that they belong to: every dispatch of one kernel is made
// several times, and the slope of the pass's time over how often is what it takes. By the GPU's own clock where it has one, else by the
// host's. What a repeated dispatch computes is thrown away.
import { type Backend, type Config, type DType, defaultSampling, tensorShapes, weightBytes } from "@doge-lm/core";
import { randomCheckpoint, randomIds } from "../apps/cli/src/bench/random-checkpoint.ts";
import { configOf } from "../apps/cli/src/bench/shapes.ts";

export interface GpuKernelResult {
  readonly device: string;
  readonly software: boolean;
  readonly shape: string;
  readonly dtype: DType;
  /** "token": one token is decoded behind 16; "prompt": 64 tokens are read. */
  readonly what: "token" | "prompt";
  /** The kernel's own name: "matmul q8 packed gated norm one". */
  readonly kernel: string;
  /** In one token, or in the prompt. */
  readonly dispatches: number;
  readonly microseconds: number;
  /** Weights that one dispatch must read and multiply-adds that it must make with them, on average; 0 where keys or activations are
   *  what it works on. */
  readonly bytes: number;
  readonly macs: number;
  /** Its part of the sum over all kernels. */
  readonly share: number;
  /** "timestamps", or "host clock". */
  readonly clock: string;
}

/** How often a dispatch is made for the steep end of the slope. */
const TIMES = 4;
/** Passes of one call that are timed. */
const PASSES = 128;
const PROMPT = 64;
const greedy = { ...defaultSampling, temperature: 0, stop: [] };
const nothing = new Int32Array(0);
// WebGPU's flags by their values: their names are globals that Node does not have.
const [MAP_READ, COPY_SRC, COPY_DST, QUERY_RESOLVE, READ] = [1, 4, 8, 512, 1] as const;

/** Stands in the way of a device: repeats the dispatches of one kernel and times passes. */
export class Repeater {
  target: string | undefined;
  times = 1;
  /** Dispatches by kernel since the last reset. */
  dispatches = new Map<string, number>();
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet | undefined;
  readonly #names = new WeakMap<object, string>();
  readonly #resolved: GPUBuffer | undefined;
  readonly #read: GPUBuffer | undefined;
  #passes = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
    if (device.features.has("timestamp-query")) {
      this.#queries = device.createQuerySet({ type: "timestamp", count: 2 * PASSES });
      this.#resolved = device.createBuffer({ size: 16 * PASSES, usage: QUERY_RESOLVE | COPY_SRC });
      this.#read = device.createBuffer({ size: 16 * PASSES, usage: MAP_READ | COPY_DST });
    }
    const compile = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = async (descriptor) => {
      const pipeline = await compile(descriptor);
      this.#names.set(pipeline, descriptor.label ?? "a kernel");
      return pipeline;
    };
    const encode = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (descriptor) => {
      const encoder = encode(descriptor);
      const begin = encoder.beginComputePass.bind(encoder);
      encoder.beginComputePass = () => this.#watched(begin);
      return encoder;
    };
  }

  get clock(): string {
    return this.#queries === undefined ? "host clock" : "timestamps";
  }

  #watched(begin: GPUCommandEncoder["beginComputePass"]): GPUComputePassEncoder {
    const [querySet, at] = [this.#queries, 2 * this.#passes++];
    const pass =
      querySet === undefined || at >= 2 * PASSES
        ? begin()
        : begin({ timestampWrites: { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 } });
    let current = "";
    const set = pass.setPipeline.bind(pass);
    pass.setPipeline = (pipeline) => {
      current = this.#names.get(pipeline) ?? "a kernel";
      set(pipeline);
    };
    const dispatch = pass.dispatchWorkgroups.bind(pass);
    pass.dispatchWorkgroups = (x, y, z) => {
      this.dispatches.set(current, (this.dispatches.get(current) ?? 0) + 1);
      const count = current === this.target ? this.times : 1;
      for (let time = 0; time < count; time++) dispatch(x, y, z);
    };
    return pass;
  }

  /** Milliseconds that `work` takes the device. What it computes may be nonsense, and may be refused. */
  async time(work: () => Promise<unknown>): Promise<number> {
    const { queue } = this.#device;
    this.#passes = 0;
    this.dispatches = new Map();
    const start = performance.now();
    await work().catch(() => {});
    await queue.onSubmittedWorkDone();
    const taken = performance.now() - start;
    const passes = this.#passes;
    if (this.#queries === undefined || passes === 0) return taken;
    if (passes > PASSES) throw new Error(`A call of ${passes} passes is longer than the ${PASSES} that are timed.`);
    const encoder = this.#device.createCommandEncoder();
    encoder.resolveQuerySet(this.#queries, 0, 2 * passes, this.#resolved!, 0);
    encoder.copyBufferToBuffer(this.#resolved!, 0, this.#read!, 0, 16 * passes);
    queue.submit([encoder.finish()]);
    await this.#read!.mapAsync(READ, 0, 16 * passes);
    const stamps = new BigUint64Array(this.#read!.getMappedRange(0, 16 * passes).slice(0));
    this.#read!.unmap();
    let nanoseconds = 0n;
    for (let pass = 0; pass < passes; pass++) nanoseconds += stamps[2 * pass + 1]! - stamps[2 * pass]!;
    return Number(nanoseconds) / 1e6;
  }
}

/** Watches a device before it compiles anything: use as webgpu({ onDevice }), with one token to a submit. */
export class KernelWatch {
  repeater: Repeater | undefined;
  readonly onDevice = (device: GPUDevice): GPUDevice => {
    this.repeater = new Repeater(device);
    return device;
  };
}

/** What one token asks of those of its `kernels` that multiply with weights: all dispatches of one together. */
export function workOf(
  config: Config,
  dtype: DType,
  kernels: readonly string[],
): Map<string, { bytes: number; macs: number }> {
  const found = new Map<string, { bytes: number; macs: number }>();
  for (const [name, shape] of tensorShapes(config)) {
    const kernel = kernelOf(name, config, dtype, kernels);
    if (kernel === undefined) continue;
    // A token takes a few rows of the experts' tables.
    const share = /_embed\.weight$/.test(name) ? config.experts!.perToken / config.experts!.count : 1;
    const count = shape.reduce((product, size) => product * size, 1);
    const sum = found.get(kernel) ?? { bytes: 0, macs: 0 };
    found.set(kernel, { bytes: sum.bytes + share * weightBytes(name, shape, dtype), macs: sum.macs + share * count });
  }
  return found;
}

/** Which of the kernels that ran multiplies with a tensor. */
function kernelOf(
  tensor: string,
  { tied, layers }: Config,
  dtype: DType,
  kernels: readonly string[],
): string | undefined {
  const ran = (name: RegExp) => kernels.find((kernel) => name.test(kernel));
  const matmul = (format: DType, ending: string) =>
    ran(new RegExp(`^matmul ${format}( packed)? ${ending}( norm)? (one|many)$`));
  if (tensor === (tied ? "model.embed_tokens.weight" : "lm_head.weight")) return matmul(dtype, "head");
  // The step of a single text projects and attends in one, and the attention's output joins what its slices found.
  if (/\.[qkv]_proj\.weight$/.test(tensor)) return ran(/^slices /) ?? matmul(dtype, "store");
  if (/\.o_proj\.weight$/.test(tensor))
    return matmul(dtype, "residual merge \\d+ of \\d+ and \\d+") ?? matmul(dtype, "residual");
  // And its feed-forward is one, but for the last layer's.
  const mlp = tensor.includes(`.layers.${layers - 1}.`) ? undefined : ran(/^mlp /);
  if (/\.down_proj\.weight$/.test(tensor)) return mlp ?? matmul(dtype, "residual");
  if (/\.(gate_proj|up_proj)\.weight$/.test(tensor)) return mlp ?? matmul(dtype, "gated");
  if (/\.router_gate\.weight$/.test(tensor)) return matmul("f32", "store");
  if (/\.down_embed\.weight$/.test(tensor)) return ran(/^experts down /);
  return /\.up_embed\.weight$/.test(tensor) ? ran(/^experts up /) : undefined;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Every kernel of one token behind 16, and of a prompt of 64. */
export async function benchGpuKernels(
  backend: Backend,
  { repeater }: KernelWatch,
  shape: string,
  dtype: DType,
  tell: (what: string) => void,
): Promise<GpuKernelResult[]> {
  if (repeater === undefined)
    throw new Error(`${backend.can.device} is no device of WebGPU: its kernels cannot be watched.`);
  const config = configOf(shape, false)!;
  const model = await backend.load(randomCheckpoint(config), { dtype, context: 2 * PROMPT });
  const ids = randomIds(PROMPT, config.vocabSize, 1);
  const sequence = model.sequence();
  const row = { sequence, tokens: nothing, sampling: greedy };
  const cases = {
    // The last token is evaluated anew.
    token: async () => {
      sequence.rewind(16);
      return model.sample([{ ...row, count: 1 }]);
    },
    prompt: async () => {
      sequence.rewind(0);
      return model.sample([{ ...row, tokens: ids, count: 0 }]);
    },
  };
  const results: GpuKernelResult[] = [];
  for (const [what, call] of Object.entries(cases) as ["token" | "prompt", () => Promise<unknown>][]) {
    sequence.rewind(0);
    await model.sample([{ ...row, tokens: ids.slice(0, 16), count: 0 }]);
    repeater.target = undefined;
    for (let warm = 0; warm < 3; warm++) await repeater.time(call);
    const kernels = [...repeater.dispatches];
    const work = workOf(config, dtype, [...repeater.dispatches.keys()]);
    const found: { kernel: string; dispatches: number; microseconds: number }[] = [];
    for (const [kernel, dispatches] of kernels) {
      tell(`${kernel}, ${what}`);
      repeater.target = kernel;
      const slopes: number[] = [];
      for (let turn = 0; turn < 5; turn++) {
        const at = async (times: number): Promise<number> => {
          repeater.times = times;
          return repeater.time(call);
        };
        slopes.push((1000 * ((await at(TIMES)) - (await at(1)))) / ((TIMES - 1) * dispatches));
      }
      found.push({ kernel, dispatches, microseconds: Math.max(0, median(slopes)) });
    }
    const all = found.reduce((sum, { dispatches, microseconds }) => sum + dispatches * microseconds, 0);
    for (const one of found) {
      const own = work.get(one.kernel) ?? { bytes: 0, macs: 0 };
      const tokens = what === "token" ? 1 : PROMPT;
      results.push({
        ...{ device: backend.can.device, software: backend.can.details?.software === true, shape, dtype, what, ...one },
        bytes: what === "token" ? own.bytes / one.dispatches : 0,
        macs: (own.macs * tokens) / one.dispatches,
        share: all === 0 ? 0 : (one.dispatches * one.microseconds) / all,
        clock: repeater.clock,
      });
    }
  }
  model.close();
  return results;
}
