// The kernels one by one, through @doge-lm/wasm/kernels: each is timed inside, where its WebAssembly export is entered and left, so
// that what the functions over plain arrays lay out around it does not count.
import { createHash } from "node:crypto";
import { type DType, defaultSampling, pcg3d } from "@doge-lm/core";
import { openKernels, type WasmKernels } from "@doge-lm/wasm/kernels";
import { type Ceilings, measureCeilings } from "../apps/cli/src/bench/ceiling.ts";
import type { KernelResult, Origin } from "./results.ts";

interface Case {
  readonly kernel: string;
  /** Whose time counts. */
  readonly entry: string;
  readonly bytes: number;
  readonly macs: number;
  readonly dtype: DType;
  run(kernels: WasmKernels): Float32Array | number;
}

function numbers(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, index) => pcg3d(index, seed, 3) / 2 ** 31 - 1);
}

/** Bytes of a weight as held, with its share of a block's f32 scale. */
const WEIGHT_BYTES: Readonly<Record<DType, number>> = { f32: 4, bf16: 2, q8: 1.125, q4: 0.625 };

/** The shapes of Doge-60M: hidden 512, intermediate 1024, vocabulary 32768, heads of 128. */
function cases(): Case[] {
  const matmul = (dtype: DType, rows: number, inner: number, outer: number): Case => {
    const [x, weight] = [numbers(rows * inner, 1), numbers(inner * outer, 2)];
    return {
      kernel: `matmul ${dtype} ${rows} x ${inner} -> ${outer}`,
      entry: "matmul",
      bytes: inner * outer * WEIGHT_BYTES[dtype] + 4 * rows * (inner + outer),
      macs: rows * inner * outer,
      dtype,
      run: (kernels) => kernels.matmulAs(dtype, false)(x, weight, null, rows, inner, outer),
    };
  };
  const attention = (count: number): Case => {
    const width = 128;
    const [query, keys, values] = [numbers(width, 3), numbers(count * width, 4), numbers(count * width, 5)];
    const bias = numbers(count, 6);
    return {
      kernel: `attention over ${count}`,
      entry: "attention",
      bytes: 4 * count * (2 * width + 1),
      macs: 2 * count * width,
      dtype: "f32",
      run: (kernels) => kernels.attention(query, keys, values, bias, width),
    };
  };
  const [logits, gate, up] = [numbers(32768, 7), numbers(131072, 8), numbers(131072, 9)];
  const [wide, weight] = [numbers(512 * 256, 10), numbers(512, 11)];
  const drawn = { ...defaultSampling, temperature: 0.8, topK: 50, topP: 0.9, seed: 1 };
  const draw = (name: string, sampling: typeof drawn): Case => ({
    kernel: `draw ${name} of 32768`,
    entry: "draw",
    bytes: 4 * logits.length,
    macs: 0,
    dtype: "f32",
    run: (kernels) => kernels.draw(logits, new Int32Array(0), 0, sampling),
  });
  return [
    ...(["f32", "bf16", "q8", "q4"] as const).flatMap((dtype) => [
      matmul(dtype, 1, 512, 32768),
      matmul(dtype, 1, 512, 1024),
      matmul(dtype, 8, 512, 32768),
      matmul(dtype, 256, 512, 1024),
      matmul(dtype, 256, 1024, 512),
    ]),
    attention(512),
    attention(2048),
    {
      kernel: "rmsnorm 256 x 512",
      entry: "rmsnorm",
      bytes: 4 * wide.length,
      macs: 0,
      dtype: "f32",
      run: (kernels) => kernels.rmsnorm(wide, weight, 1e-6),
    },
    {
      kernel: "swiglu 131072",
      entry: "swiglu",
      bytes: 8 * gate.length,
      macs: 0,
      dtype: "f32",
      run: (kernels) => kernels.swiglu(gate, up),
    },
    draw("greedy", { ...drawn, temperature: 0 }),
    draw("top-k, top-p", drawn),
  ];
}

/** Time spent in each export of instances that are made from here on. */
function timed(): Map<string, number> {
  const spent = new Map<string, number>();
  const { instantiate } = WebAssembly;
  const wrap = (exports: WebAssembly.Exports): WebAssembly.Exports =>
    Object.fromEntries(
      Object.entries(exports).map(([name, value]) => {
        if (typeof value !== "function") return [name, value];
        const wrapped = (...args: unknown[]): unknown => {
          const start = performance.now();
          const result = (value as (...args: unknown[]) => unknown)(...args);
          spent.set(name, (spent.get(name) ?? 0) + performance.now() - start);
          return result;
        };
        return [name, wrapped];
      }),
    );
  WebAssembly.instantiate = (async (module: WebAssembly.Module, imports?: WebAssembly.Imports) => {
    const instance = (await instantiate(module, imports)) as unknown as WebAssembly.Instance;
    return { exports: wrap(instance.exports) };
  }) as unknown as typeof WebAssembly.instantiate;
  return spent;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Every kernel, one after the other. */
export async function benchKernels(tell: (what: string) => void): Promise<Omit<KernelResult, keyof Origin>[]> {
  const results: Omit<KernelResult, keyof Origin>[] = [];
  const spent = timed();
  const kernels = await openKernels();
  const ceilings = new Map<string, Ceilings>();
  for (const { kernel, entry, bytes, macs, dtype, run } of cases()) {
    tell(kernel);
    const times: number[] = [];
    const begin = performance.now();
    let hash = "";
    // The first calls bring V8's optimised code.
    for (let call = 0; call < 8 || (performance.now() - begin < 600 && call < 1000); call++) {
      spent.clear();
      const result = run(kernels);
      times.push(spent.get(entry)!);
      const data = typeof result === "number" ? Float32Array.of(result) : result;
      hash = createHash("sha256")
        .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
        .digest("hex");
    }
    const milliseconds = median(times.slice(Math.floor(times.length / 2)));
    // Bytes at the ceiling of as many bytes, so that caches help both.
    const key = `${dtype} ${bytes}`;
    const ceiling = ceilings.get(key) ?? (await measureCeilings(dtype, 1, bytes));
    ceilings.set(key, ceiling);
    const shortest = 1000 * Math.max(bytes / ceiling.bytesPerSecond, macs / ceiling.macsPerSecond);
    results.push({
      ...{ kernel, bytes, macs, milliseconds, calls: times.length },
      bytesPerSecond: (1000 * bytes) / milliseconds,
      macsPerSecond: (1000 * macs) / milliseconds,
      share: shortest / milliseconds,
      hash: hash.slice(0, 16),
    });
  }
  return results;
}
