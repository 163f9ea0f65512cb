// How much work one call into WebAssembly is given: about 25 ms of it, measured as it goes, so that a long call lets other
// work and an abort through.
import { aborted } from "@doge-lm/core";

const SLICE_MS = 25;

export class Pace {
  /** Multiply-adds per millisecond: a careful guess until the first measurement. */
  #rate = 2e6;

  get budget(): number {
    return this.#rate * SLICE_MS;
  }

  /** A whole budget took this long. */
  measured(budget: number, milliseconds: number): void {
    this.#rate = Math.min(1e9, Math.max(1e4, (this.#rate + budget / Math.max(0.1, milliseconds)) / 2));
  }
}

/** Let timers, events and other calls run, then throw "aborted" if that has happened. */
export async function breathe(signal: AbortSignal | undefined): Promise<void> {
  await macrotask();
  if (signal?.aborted) throw aborted(signal, "wasm");
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
