// An instance on the calling thread: one thread, no worker, no shared memory.
import { DogeError } from "@doge-lm/core";
import type { Exports } from "./instantiate.ts";
import type { Engine } from "./model.ts";

export function solo(exports: Exports): Engine {
  return {
    run(job, budget) {
      try {
        return exports.run(job, 0, budget);
      } catch (cause) {
        // A trap leaves the memory in no state to go on with.
        throw new DogeError(
          "device-lost",
          `The WebAssembly code failed (${cause instanceof Error ? cause.message : String(cause)}): close the backend and open another.`,
          { scope: "wasm", cause },
        );
      }
    },
    end() {},
  };
}
