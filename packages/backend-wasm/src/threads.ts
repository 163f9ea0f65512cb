// How many threads to compute with, and how patiently they wait for each other.
import { DogeError } from "@doge-lm/core";

/** More than any model of this size can use. */
const MOST = 64;

/** Processors of this machine, as far as the engine tells; browsers may round down. */
const processors = (): number => globalThis.navigator?.hardwareConcurrency ?? 1;

/** Threads to use where nothing is said: up to four processors all of them, of more half, since those are often two to a core, and
 *  eight at most: decoding is bound by the memory that all of them read. */
export function usualThreads(count: number = processors()): number {
  return count <= 4 ? count : Math.min(8, Math.max(4, Math.floor(count / 2)));
}

/** Errors: "invalid-argument" unless `threads` is a number of threads. */
export function assertThreads(threads: number | undefined): void {
  if (threads === undefined || (Number.isInteger(threads) && threads >= 1 && threads <= MOST)) return;
  throw new DogeError(
    "invalid-argument",
    `threads is ${String(threads)}; it must be a whole number from 1 to ${MOST}: leave it out for what suits this machine.`,
    { scope: "wasm" },
  );
}

/** Looks at a barrier before a thread goes to sleep: about half a millisecond. Waking up takes longer than any wait between equal threads, but
 *  a draw from all logits or a thread that was interrupted are waited for no longer than that. With more threads than processors the
 *  one waited for may need this very processor, so that looking on only keeps it from coming. */
export const spins = (threads: number): number => (threads <= processors() ? 1_000_000 : 50);
