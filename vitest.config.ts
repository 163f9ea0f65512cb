// One test run for the whole workspace: every package keeps its tests in test/.
import { defineConfig } from "vitest/config";
import { softwareGpu } from "./tools/software-gpu.mjs";

// Test files run in processes of their own, which find the software GPU by these variables.
Object.assign(process.env, softwareGpu().env);

export default defineConfig({
  test: {
    include: [
      "packages/*/test/**/*.test.ts",
      "apps/*/test/**/*.test.ts",
      "tools/**/*.test.ts",
      "benchmarks/test/*.test.ts",
    ],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: "forks",
  },
});
