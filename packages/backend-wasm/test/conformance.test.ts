// Both binaries for one thread pass the suite that every backend runs.
import { conformance } from "@doge-lm/conformance";
import { type Binary, type Exports, wasm } from "../src/index.ts";
import { openKernels } from "../src/kernels.ts";

for (const binary of ["simd", "relaxed"] satisfies Binary[]) {
  let calls = 0;
  /** Counts every function of an instance that is called, whatever its name. */
  const onInstance = (exports: Exports): Exports =>
    Object.fromEntries(
      Object.entries(exports).map(([name, value]) => [
        name,
        typeof value === "function"
          ? (...args: unknown[]) => {
              calls++;
              return value(...args);
            }
          : value,
      ]),
    ) as Exports;
  conformance(wasm({ binary, threads: 1 }), {
    kernels: await openKernels({ binary }),
    crossings: {
      provider: wasm({ binary, onInstance }),
      counter: {
        reset: () => {
          calls = 0;
        },
        calls: () => calls,
      },
    },
  });
}
