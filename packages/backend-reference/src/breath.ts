// Pauses in long work: the event loop turns and an abort is noticed, while short work never waits.
import { aborted, nextTask } from "@doge-lm/core";

/** Milliseconds of work between two pauses; an abort is promised to be noticed within about 50. */
const INTERVAL = 20;

/** When the last pause was; of all calls together, for many short ones in a row keep the event loop waiting too. */
let last = performance.now();

export class Breath {
  readonly #signal: AbortSignal | undefined;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  /** Throws "aborted" when the signal has fired; lets the event loop turn first when it is time. */
  async take(): Promise<void> {
    if (performance.now() - last >= INTERVAL) {
      await nextTask();
      last = performance.now();
    }
    if (this.#signal?.aborted) throw aborted(this.#signal, "reference");
  }
}
