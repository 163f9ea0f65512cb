// A GPU beside its ceilings: what driving it takes, counted at the device itself, and how fast it reads and multiplies in loops that do
// nothing else: of WGSL by its own clock, or of CUDA.
import type { DType } from "@doge-lm/core";
import type { Meter } from "@doge-lm/cuda";
import { Counter, type Counts } from "@doge-lm/webgpu/counter";
import type { Ceilings } from "./ceiling.ts";

/** A GPU that was opened. */
export interface Watched {
  readonly counter: { readonly counts: Counts; reset(): void };
  /** Whether its ceilings can be told. */
  readonly clock: boolean;
  ceilings(dtype: DType, software: boolean, bytes: number): Promise<Ceilings | null>;
}

/** Watches a device from the moment it is opened: webgpu({ onDevice: watch.onDevice }), cuda({ onDevice: watch.onMeter }). */
export class Watch {
  #watched: Watched | undefined;

  readonly onDevice = (device: GPUDevice): GPUDevice => {
    const counter = new Counter();
    this.#watched = {
      counter,
      clock: hasClock(device),
      ceilings: (_dtype, software, bytes) => measureGpuCeilings(device, software, bytes),
    };
    return counter.onDevice(device);
  };

  readonly onMeter = (meter: Meter): void => {
    this.#watched = {
      counter: new MeterCounter(meter),
      clock: true,
      ceilings: async (dtype, _, bytes) => cudaCeilings(meter, dtype, bytes),
    };
  };

  /** undefined until one was opened. */
  get watched(): Watched | undefined {
    return this.#watched;
  }
}

/** CUDA's counts as those of WebGPU: kernels are dispatches, launches of the host are submits, and memory taken is what is made. Who
 *  launches a graph writes nothing down. */
class MeterCounter {
  readonly #meter: Meter;
  #since: ReturnType<Meter["counts"]>;

  constructor(meter: Meter) {
    this.#meter = meter;
    this.#since = meter.counts();
  }

  reset(): void {
    this.#since = this.#meter.counts();
  }

  get counts(): Counts {
    const [now, since] = [this.#meter.counts(), this.#since];
    return {
      submits: now.submissions - since.submissions,
      dispatches: now.launches - since.launches,
      creates: now.allocations - since.allocations,
      bytesIn: now.bytesIn - since.bytesIn,
      bytesOut: now.bytesOut - since.bytesOut,
      ...{ passes: 0, writes: 0, encodeMs: 0 },
    };
  }
}

function cudaCeilings(meter: Meter, dtype: DType, bytes: number): Ceilings {
  const rates = meter.rates(bytes);
  const tensor = dtype !== "f32" && rates.tensorMacs > 0;
  return {
    bytesPerSecond: rates.bytes,
    floatMacsPerSecond: tensor ? rates.tensorMacs : rates.macs,
    macsPerSecond: tensor ? rates.tensorMacs : rates.macs,
    loops: ["CUDA loads", tensor ? "bf16 mma on tensor cores" : "CUDA f32 fused multiply-add"],
  };
}

/** Per token, rows together, while the last repetition at the first context was decoded. */
export interface GpuCosts {
  readonly software: boolean;
  readonly dispatchesPerToken: number;
  readonly submitsPerToken: number;
  /** Bytes that the host reads back, and those it writes. */
  readonly bytesReadPerToken: number;
  readonly bytesWrittenPerToken: number;
  /** Buffers, groups and pipelines made. */
  readonly createsPerToken: number;
  /** Of the whole time, and of the host's time to write them down. */
  readonly microsecondsPerDispatch: number;
  readonly encodeMicrosecondsPerDispatch: number;
  /** Whether the ceilings are by the GPU's own clock; without timestamps there are none. */
  readonly timestamps: boolean;
}

/** Of `tokens` of each row, which took `milliseconds` and of which these calls were counted. */
export function costsOf(
  counts: Counts,
  tokens: number,
  milliseconds: number,
  timestamps: boolean,
  software: boolean,
): GpuCosts {
  return {
    software,
    dispatchesPerToken: counts.dispatches / tokens,
    submitsPerToken: counts.submits / tokens,
    bytesReadPerToken: counts.bytesOut / tokens,
    bytesWrittenPerToken: counts.bytesIn / tokens,
    createsPerToken: counts.creates / tokens,
    microsecondsPerDispatch: (1000 * milliseconds) / counts.dispatches,
    encodeMicrosecondsPerDispatch: (1000 * counts.encodeMs) / counts.dispatches,
    timestamps,
  };
}

const hasClock = (device: GPUDevice): boolean => device.features.has("timestamp-query");

// WebGPU's flags by their values: their names are globals that Node does not have.
const [MAP_READ, COPY_SRC, COPY_DST, UNIFORM, STORAGE, QUERY_RESOLVE, READ] = [1, 4, 8, 64, 128, 512, 1] as const;
const GROUP = 64;

/** Every thread sums vectors at a stride of all threads; nothing waits for anybody. */
const LOADS = /* wgsl */ `
@group(0) @binding(0) var<storage, read> data: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<uniform> shape: vec4u; // vectors, threads
@compute @workgroup_size(${GROUP})
fn main(@builtin(global_invocation_id) place: vec3u) {
  var sum = vec4u(0u);
  for (var at = place.x; at < shape.x; at += shape.y) { sum += data[at]; }
  out[place.x] = sum.x + sum.y + sum.z + sum.w;
}`;

/** Multiply-adds of a thread in a call of ARITHMETIC. */
const THREAD_MACS = 64 * 8 * 4;
/** Eight sums of four numbers, each waiting for itself alone. */
const ARITHMETIC = /* wgsl */ `
@group(0) @binding(0) var<storage, read> data: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<uniform> shape: vec4u;
@compute @workgroup_size(${GROUP})
fn main(@builtin(global_invocation_id) place: vec3u) {
  let factor = vec4f(data[place.x % shape.x]) * 1e-12 + 0.5;
  var a = factor; var b = factor; var c = factor; var d = factor;
  var e = factor; var f = factor; var g = factor; var h = factor;
  for (var turn = 0u; turn < 64u; turn++) {
    a = fma(a, factor, factor); b = fma(b, factor, factor); c = fma(c, factor, factor); d = fma(d, factor, factor);
    e = fma(e, factor, factor); f = fma(f, factor, factor); g = fma(g, factor, factor); h = fma(h, factor, factor);
  }
  let all = a + b + c + d + e + f + g + h;
  out[place.x] = u32(all.x + all.y + all.z + all.w);
}`;

/** Over as many `bytes` as a token reads, where one binding takes them, so that caches help the loop as far as they help the
 *  model. null where the device has no clock. */
async function measureGpuCeilings(device: GPUDevice, software: boolean, bytes: number): Promise<Ceilings | null> {
  if (!hasClock(device)) return null;
  const { maxStorageBufferBindingSize: most } = device.limits;
  const size = Math.max(4096, Math.floor(Math.min(bytes, most) / 4096) * 4096);
  const clock = new Clock(device, size);
  try {
    let [loads, macs] = [0, 0];
    for (const groups of software ? [8, 64] : [128, 512, 2048]) {
      loads = Math.max(loads, size / (await clock.seconds(LOADS, groups)));
      macs = Math.max(macs, (groups * GROUP * THREAD_MACS) / (await clock.seconds(ARITHMETIC, groups)));
    }
    const loops = ["WGSL loads, by timestamps", "WGSL f32 fused multiply-add, by timestamps"];
    return { bytesPerSecond: loads, floatMacsPerSecond: macs, macsPerSecond: macs, loops };
  } finally {
    clock.destroy();
  }
}

/** Times one dispatch by the slope between a pass of few and a pass of many, so that neither the pass nor the clock's grain counts. */
class Clock {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #buffers: GPUBuffer[] = [];
  readonly #data: GPUBuffer;
  readonly #out: GPUBuffer;
  readonly #shape: GPUBuffer;
  readonly #resolved: GPUBuffer;
  readonly #read: GPUBuffer;
  readonly #size: number;

  constructor(device: GPUDevice, size: number) {
    this.#device = device;
    this.#size = size;
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 });
    const make = (bytes: number, usage: number): GPUBuffer => {
      const buffer = device.createBuffer({ size: bytes, usage });
      this.#buffers.push(buffer);
      return buffer;
    };
    this.#data = make(size, STORAGE | COPY_DST);
    this.#out = make(4 * GROUP * 2048, STORAGE);
    this.#shape = make(16, UNIFORM | COPY_DST);
    this.#resolved = make(16, QUERY_RESOLVE | COPY_SRC);
    this.#read = make(16, MAP_READ | COPY_DST);
    // Memory that nobody wrote may not be there at all.
    const piece = new Uint32Array(1 << 16).fill(1);
    for (let at = 0; at < size; at += piece.byteLength) {
      device.queue.writeBuffer(this.#data, at, piece, 0, Math.min(piece.length, (size - at) / 4));
    }
  }

  /** Of one dispatch: the median of several. */
  async seconds(code: string, groups: number): Promise<number> {
    const device = this.#device;
    device.queue.writeBuffer(this.#shape, 0, Uint32Array.of(this.#size / 16, groups * GROUP, 0, 0));
    const module = device.createShaderModule({ code });
    const pipeline = await device.createComputePipelineAsync({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    const entries = [this.#data, this.#out, this.#shape].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    const pass = async (times: number): Promise<number> => {
      const encoder = device.createCommandEncoder();
      const timestampWrites = { querySet: this.#queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
      const open = encoder.beginComputePass({ timestampWrites });
      open.setPipeline(pipeline);
      open.setBindGroup(0, group);
      for (let time = 0; time < times; time++) open.dispatchWorkgroups(groups);
      open.end();
      encoder.resolveQuerySet(this.#queries, 0, 2, this.#resolved, 0);
      encoder.copyBufferToBuffer(this.#resolved, 0, this.#read, 0, 16);
      device.queue.submit([encoder.finish()]);
      await this.#read.mapAsync(READ);
      const [begin, end] = new BigUint64Array(this.#read.getMappedRange().slice(0));
      this.#read.unmap();
      return Number(end! - begin!) / 1e9;
    };
    // As many as take some 20 ms, which is long beside the clock's grain of up to 0.1 ms.
    const once = Math.max(1e-6, await pass(1), (await pass(9)) / 9);
    const many = Math.min(2000, Math.max(2, Math.ceil(0.02 / once)));
    const slopes: number[] = [];
    for (let turn = 0; turn < 5; turn++) slopes.push(((await pass(many + 1)) - (await pass(1))) / many);
    return Math.max(1e-9, slopes.sort((a, b) => a - b)[slopes.length >> 1]!);
  }

  destroy(): void {
    this.#queries.destroy();
    for (const buffer of this.#buffers) buffer.destroy();
  }
}
