// What this machine can do in WebAssembly, measured beside every benchmark: bytes read per second by a loop that only loads, and
// multiply-adds per second by a loop that does nothing else. All threads run it at once, each on its share of the bytes.
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { DType } from "@doge-lm/core";
import { type Loop, loopsFor, moduleOf } from "./loops.ts";

export interface Ceilings {
  readonly bytesPerSecond: number;
  /** Of 32-bit floating-point numbers: f32 and bf16 weights, and every attention. */
  readonly floatMacsPerSecond: number;
  /** Of the numbers that weights of this dtype are multiplied in. */
  readonly macsPerSecond: number;
  /** The loops that were the fastest. */
  readonly loops: readonly string[];
}

/** One loop for a worker. */
export interface Task {
  readonly module: Uint8Array;
  /** Bytes to go over, a multiple of 4096. */
  readonly bytes: number;
}

/** Small enough for the nearest cache. */
const nearBytes = 8192;

/** Measure, with as many `threads` as a call uses, over `bytes` in all: those that a token reads, so that caches help the loop as
 *  far as they help the model. */
export async function measureCeilings(dtype: DType, threads: number, bytes: number): Promise<Ceilings> {
  const workers = Array.from(
    { length: threads },
    () => new Worker(new URL(`./ceiling-worker${extname(import.meta.url)}`, import.meta.url)),
  );
  try {
    /** The fastest of the loops: vectors of 16 bytes per second, all threads. */
    const best = async (loops: readonly Loop[], size: number): Promise<{ loop: Loop; perSecond: number }> => {
      const found: { loop: Loop; perSecond: number }[] = [];
      for (const loop of loops) {
        const task: Task = { module: moduleOf(loop), bytes: size };
        const rates = await Promise.all(workers.map((worker) => ask(worker, task)));
        found.push({ loop, perSecond: rates.reduce((sum, rate) => sum + rate, 0) });
      }
      return found.reduce((a, b) => (b.perSecond * (b.loop.macs || 1) > a.perSecond * (a.loop.macs || 1) ? b : a));
    };
    const share = Math.max(4096, Math.ceil(Math.min(bytes, 1 << 30) / threads / 4096) * 4096);
    const loads = await best(loopsFor("loads"), share);
    const floats = await best(loopsFor("f32"), nearBytes);
    const own = dtype === "q8" || dtype === "q4" ? await best(loopsFor(dtype), nearBytes) : floats;
    return {
      bytesPerSecond: loads.perSecond * 16,
      floatMacsPerSecond: floats.perSecond * floats.loop.macs,
      macsPerSecond: own.perSecond * own.loop.macs,
      loops: [...new Set([loads, floats, own])].map(({ loop }) => `${loop.name} x${loop.accumulators}`),
    };
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function ask(worker: Worker, task: Task): Promise<number> {
  return new Promise((resolve, reject) => {
    worker.once("message", (rate: number) => {
      worker.off("error", reject);
      resolve(rate);
    });
    worker.once("error", reject);
    worker.postMessage(task);
  });
}
