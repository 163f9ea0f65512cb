// How many threads to compute with, and how patiently they wait for each other.

/** Processors of this machine, as far as the engine tells; browsers may round down. */
export const processors = (): number => globalThis.navigator?.hardwareConcurrency ?? 1;

/** Looks at a barrier before a thread goes to sleep. With more threads than processors the one waited for may need this very
 *  processor, so that looking on only keeps it from coming. */
export const spins = (threads: number): number => (threads <= processors() ? 20_000 : 50);
