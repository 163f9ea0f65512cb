// One test run for the whole workspace: every package keeps its tests in test/.
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { softwareGpu } from "./tools/software-gpu.mjs";

// Test files run in processes of their own, which find the software GPU by these variables.
Object.assign(process.env, softwareGpu().env);

/** Files that take a minute or more, the longest first: begun last, one of them would run alone in the end. The first compiles the host shim
 *  of the CUDA kernels; those that take it from there stand further down. */
const LONGEST = [
  "packages/backend-cuda/test/conformance.test.ts",
  "packages/backend-webgpu/test/variants.test.ts",
  "packages/backend-webgpu/test/conformance.test.ts",
  "apps/web/test/browser/firefox.test.ts",
  "packages/backend-cuda/test/core.test.ts",
  "packages/backend-cuda/test/gpu-run.test.ts",
  "packages/backend-wasm/test/conformance-threads.test.ts",
  "apps/web/test/browser/chromium.test.ts",
  "packages/backend-webgpu/test/faults.test.ts",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const index = LONGEST.findIndex((name) => moduleId.endsWith(name));
      return index < 0 ? LONGEST.length : index;
    };
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}

export default defineConfig({
  test: {
    include: [
      "packages/*/test/**/*.test.ts",
      "apps/*/test/**/*.test.ts",
      "tools/**/*.test.ts",
      "benchmarks/test/*.test.ts",
    ],
    setupFiles: ["tools/patient-dawn.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: "forks",
    // Vitest leaves one processor free, which of two is half of the machine.
    maxWorkers: availableParallelism(),
    sequence: { sequencer: LongestFirst },
  },
});
