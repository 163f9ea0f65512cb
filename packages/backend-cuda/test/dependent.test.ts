// Launches beside each other: every kernel awaits the one before it first of all, and where a driver or a wish refuses them nothing changes.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sines, small } from "@doge-lm/conformance/models";
import { checked } from "@doge-lm/core";
import { afterEach, describe, expect, test } from "vitest";
import { CudaBackend, dtypes } from "../src/backend.ts";
import { meterOf } from "../src/meter.ts";
import { errorsOf, shimBinding, withoutShim } from "./shim.ts";

const native = fileURLToPath(new URL("../native", import.meta.url));

/** The first statement of every kernel of the sources. */
function beginnings(): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of readdirSync(native, { recursive: true, encoding: "utf8" })) {
    if (!/\.(cuh|h|cu)$/.test(name)) continue;
    const source = readFileSync(join(native, name), "utf8");
    for (const kernel of source.matchAll(/__global__ void[^;{]*?(\w+_kernel)\([^;{]*\) \{\s*([^;]*;)/g))
      found.set(kernel[1]!, kernel[2]!);
    const kernels = source.match(/^__global__ void/gm)?.length ?? 0;
    expect([...source.matchAll(/\w+_kernel\([^;{]*\) \{/g)].length, name).toBe(kernels);
  }
  return found;
}

test("every kernel awaits the one before it first of all, but those whose launch is never beside another", () => {
  const found = beginnings();
  expect(found.size).toBeGreaterThan(30);
  const others = [...found].filter(([, first]) => first !== "await_earlier();").map(([name]) => name);
  expect(others.sort()).toEqual(["decode_clusters_kernel", "decode_kernel"]);
});

describe.skipIf(withoutShim !== undefined)(
  `launches beside each other${withoutShim ? ` (skipped: ${withoutShim})` : ""}`,
  () => {
    const binding = withoutShim === undefined ? shimBinding() : (undefined as never);
    afterEach(() => {
      binding.alone(0, 0);
      delete process.env.DOGE_DEPENDENT;
    });

    /** A prompt of some rows and 19 steps of them on a device: their ids, launches, and how many of these were beside the one before. */
    async function drawn(device: number, lengths = [40, 3, 17], topP = 1) {
      const raw = new CudaBackend("cuda-on-host-shim", binding, device, { device: "host shim", dtypes, trains: false });
      const backend = checked(raw);
      const meter = meterOf(binding, raw.device, 1);
      const made = binding.made();
      const model = await backend.load(sines(small), { dtype: "bf16" });
      const [launches, beside] = [meter.counts().launches, binding.beside()];
      const sampling = { temperature: 0.9, topK: 0, topP, minP: 0, repetitionPenalty: 1, seed: 3, stop: [] };
      const rows = lengths.map((length, row) => ({
        sequence: model.sequence(),
        tokens: Int32Array.from({ length }, (_, index) => (index * 7 + row) % small.vocabSize),
        count: 20,
        sampling,
      }));
      const ids = (await model.sample(rows)).map((each) => [...each.ids]);
      const counts = { launches: meter.counts().launches - launches, beside: binding.beside() - beside };
      model.close();
      await new Promise((resolve) => setTimeout(resolve, 0));
      expect(binding.made()).toBe(made);
      await backend.close();
      return { ids, ...counts };
    }

    test("all of a call's are but the first after a copy, and the first of a graph, which is captured once", async () => {
      const { launches, beside } = await drawn(0);
      const step = 5 + 8 * small.layers;
      // Sixteen steps are two submissions of one graph of eight, three those of a graph of one.
      expect(launches - beside).toBe((8 + 2) * step + 3);
    });

    test("none is beside one whose blocks wait for each other, nor that beside another", async () => {
      const [none, filtered] = [await drawn(0, [5], 1), await drawn(0, [5], 0.9)];
      // Without filters steps are such a launch, with them one and a draw.
      expect(filtered.launches).toBeGreaterThan(none.launches + 19);
      expect(filtered.beside).toBe(none.beside);
    });

    test("a wish, a device before 9.0, and a driver that refuses launches or graphs of them go without, and draw the same", async () => {
      const { ids } = await drawn(0);
      process.env.DOGE_DEPENDENT = "0";
      expect(await drawn(0)).toMatchObject({ ids, beside: 0 });
      delete process.env.DOGE_DEPENDENT;
      expect((await drawn(1)).beside).toBe(0);
      binding.alone(1, 1);
      expect(await drawn(0)).toMatchObject({ ids, beside: 0 });
      binding.alone(0, 1);
      const refused = await drawn(0);
      // The prompt's, and those of a graph that was captured again without.
      expect(refused.ids).toEqual(ids);
      expect(refused.beside).toBeGreaterThan(8 * (5 + 8 * small.layers));
      expect(refused.launches - refused.beside).toBeGreaterThan(8 * (5 + 8 * small.layers));
    });

    test("the double ends the run where a kernel does not await, or does something before", () => {
      const said = errorsOf(
        `#include <string>
#include "${join(native, "kernels", "common.cuh")}"
int main(int, char** a) {
  const std::string what = a[1];
  const auto run = [&] {
    if (what == "late") __syncthreads();
    if (what == "some" ? threadIdx.x > 0 : what != "never") doge::await_earlier();
  };
  shim::launch(dim3(2), 64, run, 0, -1, true);
}
`,
        ["well", "never", "some", "late"],
      );
      expect(said.well).toBe("");
      expect(said.never).toContain("has not awaited that one");
      expect(said.some).toContain("has not awaited that one");
      expect(said.late).toContain("did something before it awaited that one");
    });
  },
);
