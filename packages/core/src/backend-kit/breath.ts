// Pauses in long work: the event loop turns and an abort is noticed, while short work never waits.
import { aborted } from "../errors.ts";
import { nextTask } from "../task.ts";

/** Milliseconds of work between two pauses; an abort is promised to be noticed within about 50. */
const INTERVAL_MS = 20;

/** When the last pause was; of all calls together, for many short ones in a row keep the event loop waiting too. */
let last = performance.now();

export class Breath {
  readonly #signal: AbortSignal | undefined;
  readonly #scope: string;

  /** `scope`: the backend's name, for the error. */
  constructor(signal: AbortSignal | undefined, scope: string) {
    this.#signal = signal;
    this.#scope = scope;
  }

  /** Between two steps of work of any length: lets the event loop turn when it is time. Errors: "aborted". */
  async take(): Promise<void> {
    if (performance.now() - last >= INTERVAL_MS) await this.pause();
    else this.#look();
  }

  /** Lets timers, events and other calls run. Errors: "aborted". */
  async pause(): Promise<void> {
    await nextTask();
    last = performance.now();
    this.#look();
  }

  #look(): void {
    if (this.#signal?.aborted) throw aborted(this.#signal, this.#scope);
  }
}
