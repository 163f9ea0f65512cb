// Both binaries for shared memory pass the suite that every backend runs, one on a team that divides the heads evenly and one on a team that
// does not: how work is divided stands in sources that both are compiled from.
import { conformance } from "@doge-lm/conformance";
import { type Binary, wasm } from "../src/index.ts";
import { openKernels } from "../src/kernels.ts";
import { wrappedRun } from "./worker-script.ts";

for (const [binary, threads] of [
  ["simd", 3],
  ["relaxed", 2],
] satisfies [Binary, number][]) {
  // Counted where the calls are made: in the workers, by the exports of their instances.
  const { script, words } = wrappedRun("Atomics.add(words, 0, 1); return run(job, thread, budget);");
  conformance(wasm({ binary, threads }), {
    kernels: await openKernels({ binary, shared: true }),
    crossings: {
      provider: wasm({ binary, threads, assets: { worker: script } }),
      counter: {
        reset: () => Atomics.store(words, 0, 0),
        // Every thread is called once for what all of them do together.
        calls: () => Atomics.load(words, 0) / threads,
      },
    },
  });
}
