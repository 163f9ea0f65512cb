// Shapes that no fixture has, in combinations that split work in other ways: neither threads nor the tokens that go through a layer
// together change a bit of them.
import { sines } from "@doge-lm/conformance/models";
import { type Backend, type Config, type DType, defaultSampling, type Model, type SampleRow } from "@doge-lm/core";
import { afterAll, describe, expect, test } from "vitest";
import { type Exports, wasm } from "../src/index.ts";
import { ids } from "./everything.ts";
import { config } from "./small.ts";

const base: Config = { ...config, vocabSize: 100, maxPositions: 400 };
const experts = { count: 50, perToken: 5, side: 7, normalize: true, indexing: "expert" } as const;
const shapes: Record<string, Config> = {
  "two heads that share one of keys, as 20M": { ...base, hiddenSize: 64, intermediateSize: 128, headDim: 32 },
  "the same with a window": { ...base, hiddenSize: 64, intermediateSize: 128, headDim: 32, biasHeads: 1, window: 150 },
  "three heads of keys, nine of queries": {
    ...base,
    hiddenSize: 72,
    intermediateSize: 40,
    heads: 9,
    kvHeads: 3,
    biasHeads: 9,
  },
  "five heads of keys, hidden no multiple of 64": {
    ...base,
    hiddenSize: 80,
    heads: 5,
    kvHeads: 5,
    headDim: 16,
    biasHeads: 5,
  },
  "a mixture of experts with one head of keys": { ...base, hiddenSize: 40, intermediateSize: 48, experts },
};

/** The smallest tiles. */
const onInstance = (exports: Exports): Exports => ({ ...exports, run: (job, thread) => exports.run(job, thread, 1) });
const opened = await Promise.all(
  [{ threads: 1 }, { onInstance }, { threads: 2 }, { threads: 3 }].map((options) => wasm(options).open()),
);
afterAll(() => Promise.all(opened.map((backend) => backend.close())));

/** One long row, whose pages are dealt out to threads, then five at once: what is drawn, and how likely it was. */
async function drawn(model: Model): Promise<unknown> {
  const row = (length: number, seed: number): SampleRow => ({
    sequence: model.sequence(),
    tokens: ids(length, base.vocabSize, seed),
    count: 20,
    sampling: { ...defaultSampling, temperature: 0.8, seed, stop: [] },
    alternatives: 2,
  });
  const alone = await model.sample([row(270, 1)]);
  const together = await model.sample([200, 3, 65, 1, 130].map(row));
  return [...alone, ...together].map(({ ids: found, logprobs, topIds }) => ({ found, logprobs, topIds }));
}

describe.each(Object.entries(shapes))("%s", (_, shape) => {
  test.each(["f32", "bf16", "q8", "q4"] satisfies DType[])(
    "%s: 2 and 3 threads, and small tiles, draw what one draws",
    async (dtype) => {
      const answer = async (backend: Backend) =>
        drawn(await backend.load(sines(shape), { dtype, context: 400, room: 2000 }));
      const [one, ...others] = await Promise.all(opened.map(answer));
      for (const other of others) expect(other).toEqual(one);
    },
  );
});

test.each(["f32", "bf16", "q8", "q4"] satisfies DType[])(
  "%s: of a hidden size whose rows are set apart, each of eight rows beside one another has the logits that it has alone",
  async (dtype) => {
    const shape: Config = { ...base, hiddenSize: 128, intermediateSize: 64, headDim: 64 };
    const model = await opened[0]!.load(sines(shape), { dtype, context: 200, room: 2000 });
    const rows = Array.from({ length: 8 }, (_, seed) => ids(5, base.vocabSize, seed));
    const together = await model.forward(rows.map((tokens) => ({ sequence: model.sequence(), tokens })));
    for (const [index, tokens] of rows.entries()) {
      const [alone] = await model.forward([{ sequence: model.sequence(), tokens }]);
      expect(together[index], `row ${index}`).toEqual(alone);
    }
  },
);
