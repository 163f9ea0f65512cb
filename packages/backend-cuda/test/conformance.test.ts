// The kernels pass the suite that every backend runs, on the host shim; and on a GPU where there is one.
import { conformance } from "@doge-lm/conformance";
import { describe, test } from "vitest";
import { cuda } from "../src/index.ts";
import { kernelsOf } from "./kernels.ts";
import { counting, cudaOnHostShim, shimBinding, withoutShim } from "./shim.ts";

if (withoutShim === undefined) {
  let calls = 0;
  const counted = counting(shimBinding(), () => {
    calls++;
  });
  const binding = shimBinding();
  conformance(cudaOnHostShim(), {
    kernels: kernelsOf(binding, binding.open(0)),
    crossings: {
      provider: cudaOnHostShim(counted),
      counter: {
        reset: () => {
          calls = 0;
        },
        calls: () => calls,
      },
    },
  });
} else {
  describe(`conformance: cuda on the host shim (skipped: ${withoutShim})`, () => test.skip("all of it", () => {}));
}

conformance(cuda());
