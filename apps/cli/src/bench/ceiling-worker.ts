// One thread of a ceiling: runs the loop it is sent for a few tenths of a second and answers with vectors per second.
import { parentPort } from "node:worker_threads";
import type { Task } from "./ceiling.ts";

/** Milliseconds: one window, and how many of them. The first ones also bring V8's optimised code. */
const window = 25;
const [settling, measured] = [3, 7];

interface Exports {
  readonly memory: WebAssembly.Memory;
  run(from: number, to: number, rounds: number): void;
}

parentPort!.on("message", ({ module, bytes }: Task) => {
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module as Uint8Array<ArrayBuffer>));
  const { memory, run } = instance.exports as unknown as Exports;
  // The loop ends behind `to` by less than one turn of it.
  memory.grow(Math.ceil((bytes + 4096) / 65536));
  // Only what was written is memory of its own; zeros also stay zeros in every number format.
  new Uint8Array(memory.buffer).fill(0);
  let rounds = 1;
  const rates: number[] = [];
  for (let turn = 0; turn < settling + measured; turn++) {
    const start = performance.now();
    let done = 0;
    do {
      run(0, bytes, rounds);
      done += rounds;
    } while (performance.now() - start < window);
    const took = performance.now() - start;
    if (took / done < 1) rounds = Math.max(1, Math.round((done / took) * 2)); // calls of about 2 ms
    if (turn >= settling) rates.push((done * bytes) / 16 / (took / 1000));
  }
  parentPort!.postMessage(rates.sort((a, b) => a - b)[rates.length >> 1]!);
});
