// How much work one submit is given: some milliseconds of it, measured as it goes, so that a long call lets an abort and other
// users of the GPU through while a short one is a single submit.
import { aborted } from "@doge-lm/core";

/** A submit aims at this: short enough for a page to stay smooth and for no watchdog to wake. */
const SLICE_MS = 16;

export class Pace {
  /** Multiply-adds per millisecond: a guess, until the first measurement, between a software adapter and a small GPU. */
  #rate = 4e6;

  get budget(): number {
    return this.#rate * SLICE_MS;
  }

  /** Work of this cost took so long. */
  measured(cost: number, milliseconds: number): void {
    if (cost < this.budget / 8) return; // too little to tell from a wait
    const rate = cost / Math.max(0.05, milliseconds);
    this.#rate = Math.min(1e10, Math.max(2e4, (this.#rate + rate) / 2));
  }
}

/** Let timers, events and other calls run, then throw "aborted" if that has happened. */
export async function breathe(signal: AbortSignal | undefined): Promise<void> {
  await macrotask();
  if (signal?.aborted) throw aborted(signal, "webgpu");
}

/** setTimeout waits 1 ms in Node and 4 ms in browsers; a message or an immediate does not. */
const macrotask: () => Promise<void> =
  typeof globalThis.setImmediate === "function"
    ? () => new Promise((resolve) => void globalThis.setImmediate(resolve))
    : () =>
        new Promise((resolve) => {
          const { port1, port2 } = new MessageChannel();
          port1.onmessage = () => {
            port1.close();
            resolve();
          };
          port2.postMessage(null);
        });
