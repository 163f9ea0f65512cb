// The profile of the WebGPU backend's kernels: that every weight a token multiplies with is the work of one kernel that ran, in each
// form of the kernels. On Dawn's null device, which computes nothing: what it takes is not looked at.
import { type Config, defaultSampling, tensorShapes, weightBytes } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { configOf } from "../../apps/cli/src/bench/shapes.ts";
import { nullBackend, nullDawn, seeded, small, variants } from "../../packages/backend-webgpu/test/support.ts";
import { benchGpuKernels, KernelWatch, workOf } from "../gpu-kernels.ts";

const gpu = await nullDawn();
/** dt_proj is no matmul: attention sums it with the values. */
const MATRICES = /\.([qkvo]|gate|up|down)_proj\.weight|embed|router_gate/;
const why = gpu === null ? " (skipped: no Dawn)" : "";

/** Bytes of the tensors of these names; of the experts' tables, those that a token takes. */
function bytesOf(config: Config, dtype: "f32" | "q8", names: RegExp): number {
  let bytes = 0;
  for (const [name, shape] of tensorShapes(config)) {
    if (!names.test(name)) continue;
    const share = /(down|up)_embed/.test(name) ? config.experts!.perToken / config.experts!.count : 1;
    bytes += share * weightBytes(name, shape, dtype);
  }
  return bytes;
}

describe.skipIf(gpu === null)(`weights are dealt to the kernels that read them${why}`, () => {
  test.each([
    ["base", "f32"],
    ["base + packed", "q8"],
    ["barrier-free + f16 + packed", "q8"],
  ] as const)("%s kernels, %s: a token and a prompt", async (form, dtype) => {
    const watch = new KernelWatch();
    const backend = await nullBackend(gpu!, variants[form]!, { onDevice: watch.onDevice, tokensPerSubmit: 1 });
    const results = await benchGpuKernels(backend, watch, "tiny", dtype, () => {});
    await backend.close();
    const config = configOf("tiny", false)!;
    const token = results.filter(({ what }) => what === "token");
    const bytesOfAll = (kernel: RegExp) =>
      token.reduce((sum, one) => sum + (kernel.test(one.kernel) ? one.bytes * one.dispatches : 0), 0);
    const sliced = !variants[form]!.serial;
    // The step of a single text has a kernel for the feed-forward of all layers but the last.
    const inLast = (names: string) => new RegExp(`\\.layers\\.${config.layers - 1}\\..*\\.${names}_proj\\.weight`);
    const before = new RegExp(`\\.layers\\.(?!${config.layers - 1}\\.).*\\.(gate|up|down)_proj\\.weight`);
    const wanted: [kernel: RegExp, tensors: RegExp][] = [
      [/ head /, /embed_tokens/],
      ...((sliced
        ? [
            [/^slices /, /\.[qkv]_proj\.weight/],
            [/ residual merge /, /\.o_proj\.weight/],
            [/^mlp /, before],
            [/ gated /, inLast("(gate|up)")],
            [/ residual one/, inLast("down")],
          ]
        : [
            [/ store /, /\.[qkv]_proj\.weight/],
            [/ gated /, /\.(gate|up)_proj\.weight/],
            [/ residual /, /\.(o|down)_proj\.weight/],
          ]) as [RegExp, RegExp][]),
    ];
    expect(config.layers).toBeGreaterThan(1);
    for (const [kernel, tensors] of wanted)
      expect([kernel, bytesOfAll(kernel)]).toEqual([kernel, bytesOf(config, dtype, tensors)]);
    expect(bytesOfAll(/^/)).toBeCloseTo(bytesOf(config, dtype, MATRICES), 0);
    const prompt = results.filter(({ what, macs }) => what === "prompt" && macs > 0);
    const endings = prompt.map(({ kernel }) => / (store|residual|gated) /.exec(kernel)?.[1]);
    expect(endings.toSorted()).toEqual(["gated", "residual", "store"]);
  });

  test.each(["f32", "q8"] as const)(
    "a mixture of experts in %s: the router is the work of a matmul in f32",
    async (dtype) => {
      const watch = new KernelWatch();
      const experts = { count: 16, perToken: 3, side: 4, normalize: false, indexing: "expert" } as const;
      const config: Config = { ...small, window: null, experts };
      const backend = await nullBackend(gpu!, variants.base!, { onDevice: watch.onDevice, tokensPerSubmit: 1 });
      const model = await backend.load(seeded(config), { dtype });
      const sampling = { ...defaultSampling, temperature: 0 };
      watch.repeater!.dispatches = new Map();
      await model.sample([{ sequence: model.sequence(), tokens: Int32Array.of(1), count: 1, sampling }]);
      const work = workOf(config, dtype, [...watch.repeater!.dispatches.keys()]);
      await backend.close();
      expect(work.get("matmul f32 store norm one")?.bytes).toBe(bytesOf(config, "f32", /router_gate/));
      expect(work.get(`experts down ${dtype}`)?.bytes).toBe(bytesOf(config, dtype, /down_embed/));
      expect(work.get(`experts up ${dtype}`)?.bytes).toBe(bytesOf(config, dtype, /up_embed/));
      const all = [...work.values()].reduce((sum, { bytes }) => sum + bytes, 0);
      expect(all).toBe(bytesOf(config, dtype, MATRICES));
    },
  );
});
