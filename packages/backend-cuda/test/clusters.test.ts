// One row's steps by clusters of blocks: they draw what the kernels for rows and the launch without clusters draw, in every format, from one
// slice of keys to several, with clusters that have no head; and what a cluster may not do ends the run.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sines, small } from "@doge-lm/conformance/models";
import { type Config, checked, type DType, type Model, type Sampling } from "@doge-lm/core";
import { afterEach, describe, expect, test } from "vitest";
import { CudaBackend, dtypes } from "../src/backend.ts";
import { builder, errorsOf, type ShimBinding, shimBinding, withoutShim } from "./shim.ts";

const native = fileURLToPath(new URL("../native", import.meta.url));

/** Two query heads, so that the shim has two clusters of four blocks, or four of two, two of them without a head. */
const config: Config = {
  ...small,
  vocabSize: 70,
  hiddenSize: 100,
  intermediateSize: 200,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  headDim: 32,
  biasHeads: 2,
  maxPositions: 512,
  window: null,
  attentionBias: true,
  mlpBias: true,
};
const checkpoint = sines(config, (columns) => 1 / Math.sqrt(columns));
const sampling: Sampling = { temperature: 0.8, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1.2, seed: 3, stop: [] };
const text = (length: number) => Int32Array.from({ length }, (_, index) => (index * 37) % 70);
/** Keys for one slice; for one that is filled in the middle of the draws; and for four chunks, which three slices share. */
const lengths = [1, 62, 200];

describe.skipIf(withoutShim !== undefined)(
  `clusters${withoutShim ? ` (skipped: ${withoutShim})` : ""}`,
  { timeout: 300_000 },
  () => {
    const binding = withoutShim === undefined ? shimBinding() : (undefined as never);
    afterEach(() => {
      delete process.env.DOGE_CLUSTERS;
      delete process.env.DOGE_RING;
      binding.unclustered(0);
    });

    /** What `use` gets of a model under DOGE_CLUSTERS, and how many launches had clusters. */
    async function under<T>(clusters: string, dtype: DType, use: (model: Model) => Promise<T>, its = checkpoint) {
      process.env.DOGE_CLUSTERS = clusters;
      const raw = new CudaBackend("cuda-on-host-shim", binding, 0, { device: "host shim", dtypes, trains: false });
      const backend = checked(raw);
      try {
        const before = binding.clustered();
        const found = await use(await backend.load(its, { dtype, room: 2048 }));
        return { found, launches: binding.clustered() - before };
      } finally {
        await backend.close();
      }
    }
    const draws = async (model: Model, rows = 1, count = 6, with_: Partial<Sampling> = {}) => {
      const all: number[][] = [];
      for (const length of lengths) {
        const each = Array.from({ length: rows }, () => model.sequence());
        const [found] = await model.sample(
          each.map((sequence) => ({ sequence, tokens: text(length), count, sampling: { ...sampling, ...with_ } })),
        );
        all.push([...found!.ids]);
      }
      return all;
    };

    test.each(dtypes)("%s: ids are those of rows and of the launch without clusters", async (dtype: DType) => {
      const rows = await under("0", dtype, (model) => draws(model, 2));
      expect(rows.launches).toBe(0);
      for (const clusters of ["0", "1", "2"]) {
        const { found, launches } = await under(clusters, dtype, (model) => draws(model));
        expect(found, clusters).toEqual(rows.found);
        expect(launches, clusters).toBe(clusters === "0" ? 0 : lengths.length);
      }
    });

    test("the shortest ring, four heads, and two models at once draw the same", async () => {
      const four = sines({ ...config, hiddenSize: 64, intermediateSize: 96, heads: 4, kvHeads: 2, headDim: 16 });
      const expected = (await under("0", "bf16", (model) => draws(model), four)).found;
      process.env.DOGE_RING = "1";
      const { found, launches } = await under(
        "1",
        "bf16",
        async (model) => {
          const beside = under("1", "bf16", (other) => draws(other), four);
          return [await draws(model), (await beside).found];
        },
        four,
      );
      expect(found).toEqual([expected, expected]);
      expect(launches).toBe(2 * lengths.length);
    });

    test("logits, log-probabilities and filters: a graph has clusters once a launch was taken", async () => {
      const filtered = async (model: Model) => {
        await draws(model, 1, 2); // the first launch of its own
        const sequence = model.sequence();
        const [row] = await model.sample([
          { sequence, tokens: text(60), count: 12, sampling: { ...sampling, topK: 20 }, alternatives: 0 },
        ]);
        return row!;
      };
      const [without, with_] = [await under("0", "f32", filtered), await under("1", "f32", filtered)];
      expect([...with_.found.ids]).toEqual([...without.found.ids]);
      const gaps = Array.from(with_.found.logprobs!, (its, index) => Math.abs(its - without.found.logprobs![index]!));
      expect(Math.max(...gaps)).toBeLessThan(1e-4);
      expect(with_.launches).toBeGreaterThan(lengths.length + 3);
    });

    test("a stop id ends a row, and an abort a call", async () => {
      const { found, launches } = await under("1", "bf16", async (model) => {
        const [, ids] = await draws(model);
        const stopped = await draws(model, 1, 6, { stop: [ids![3]!] });
        const controller = new AbortController();
        const sequence = model.sequence();
        const aborted = model.sample([{ sequence, tokens: text(9), count: 400, sampling }], controller.signal);
        const before = binding.clustered();
        const abort = () => (binding.clustered() > before ? controller.abort() : setTimeout(abort, 1));
        abort();
        await expect(aborted).rejects.toThrow();
        return { ids: ids!, stopped: stopped[1]!, again: await draws(model), length: sequence.length };
      });
      expect(found.stopped).toEqual(found.ids.slice(0, found.ids.indexOf(found.ids[3]!) + 1));
      expect(found.again[1]).toEqual(found.ids);
      expect(found.length).toBe(0);
      expect(launches).toBe(3 * lengths.length + 1);
    });

    test("a driver that refuses clusters is asked once, and a shape that does not fit never", async () => {
      const expected = (await under("0", "f32", (model) => draws(model))).found;
      binding.unclustered(1);
      const { found, launches } = await under("1", "f32", async (model) => {
        const first = await draws(model);
        binding.unclustered(0); // whoever asked again would be taken
        return [first, await draws(model)];
      });
      expect(found).toEqual([expected, expected]);
      expect(launches).toBe(0);
      const odd = sines({ ...config, headDim: 20 });
      expect((await under("1", "f32", (model) => draws(model, 1, 2), odd)).launches).toBe(0);
    });

    test("a driver that refuses every launch whose blocks wait for each other gets the steps of rows", async () => {
      const both = async (model: Model) => [await draws(model), await draws(model, 1, 6, { topK: 20 })];
      const expected = (await under("0", "f32", both)).found;
      binding.unclustered(3);
      for (const clusters of ["0", "1"]) expect((await under(clusters, "f32", both)).found, clusters).toEqual(expected);
    });

    test("DOGE_DEBUG says how many clusters there are, or why none: too few fit, or the driver's error", async () => {
      const described: Float64Array[] = [];
      const noted: ShimBinding = {
        ...binding,
        create: (device, numbers) => {
          described.push(numbers);
          return binding.create(device, numbers);
        },
      };
      for (const its of [checkpoint, sines({ ...config, heads: 6, kvHeads: 3, biasHeads: 6 })]) {
        const raw = new CudaBackend("cuda-on-host-shim", noted, 0, { device: "host shim", dtypes, trains: false });
        await checked(raw).load(its, { dtype: "f32", room: 2048 });
        await raw.close();
      }
      const said = (numbers: Float64Array, refused: number) =>
        spawnSync(
          process.execPath,
          [
            "-e",
            `const binding = require(${JSON.stringify(builder.buildShim())});
            binding.unclustered(${refused});
            const model = binding.create(binding.open(0), Float64Array.of(${[...numbers]}));
            binding.closeModel(model);`,
          ],
          { encoding: "utf8", env: { ...process.env, DOGE_CLUSTERS: "1", DOGE_DEBUG: "1" } },
        ).stderr;
      const [fits, large] = described as [Float64Array, Float64Array];
      expect(said(fits, 0)).toBe("doge-cuda: one row decodes by 2 clusters of 4 blocks.\n");
      expect(said(large, 0)).toBe("doge-cuda: one row does not decode by clusters: the device has no room for 6.\n");
      expect(said(fits, 2)).toBe(
        "doge-cuda: one row does not decode by clusters: asked how many fit, the driver says cudaErrorNotSupported.\n",
      );
    });

    test("the double ends the run where a cluster's rules are broken", () => {
      const said = errorsOf(
        `#include <cstdio>
#include <string>
#include "${join(native, "kernels", "cluster.cuh")}"
int main(int, char** a) {
  const std::string what = a[1];
  shim::launch_clusters(4, 2, 64, 256, [&] {
    using namespace doge;
    float* const own = reinterpret_cast<float*>(shim::dynamic_shared());
    const int rank = cluster_rank();
    own[1 + threadIdx.x % 32] = 0.0f;
    cluster_arrive();
    if (what == "twice" && rank == 0) cluster_arrive();
    cluster_wait();
    if (what == "late" && rank == 1) return;
    if (threadIdx.x == 0) send(what == "beyond" ? own - 8 : own, what == "nobody" ? 2 : 1 - rank, 7.0f + rank);
    if (what == "under way") return;
    if (what != "early") {
      cluster_arrive();
      cluster_wait();
    }
    if (threadIdx.x == 0 && own[0] != 8.0f - rank) shim::broken("what was sent is not there.");
    if (what == "early") {
      cluster_arrive();
      cluster_wait();
    }
  });
}
`,
        ["well", "early", "twice", "late", "under way", "beyond", "nobody"],
      );
      expect(said.well).toBe("");
      expect(said.early).toContain("what was sent is not there");
      expect(said.twice).toContain("arrived twice");
      expect(said.late).toMatch(/ended/);
      expect(said["under way"]).toMatch(/under way|has ended/);
      expect(said.beyond).toContain("not in the shared memory");
      expect(said.nobody).toContain("a peer that its cluster does not have");
    });
  },
);
