// Shapes and calls at the edges of what a model may be, against the reference: weights cut at odd places, rows of different lengths in
// one call, texts up to the last place of their context.
import type { Config, DType, Model } from "@doge-lm/core";
import { reference } from "@doge-lm/reference";
import { describe, expect, test } from "vitest";
import { software } from "./software.ts";
import { seeded, small } from "./support.ts";

const answer = await software().probe();
const why = answer.available ? "" : ` (skipped: ${answer.why})`;
/** Logits have a standard deviation of about 1; weights are the same numbers, sums are f32. */
const tolerance = 1e-4;
const one: Config = { ...small, layers: 1, maxPositions: 64 };
const experts = { normalize: true, indexing: "grid" } as const;
const nothing = new Int32Array(0);

const cases: { readonly [name: string]: readonly [Config, DType, bindingLimit: number | undefined] } = {
  "9,001 ids of 128 bytes in bindings of 1 MiB": [{ ...one, vocabSize: 9001 }, "f32", 2 ** 20],
  "36,001 ids of 32 bytes and a scale in bindings of 1 MiB": [{ ...one, vocabSize: 36_001 }, "q8", 2 ** 20],
  "heads of 6, three of them to a key, in no whole vectors": [
    { ...one, hiddenSize: 36, heads: 6, kvHeads: 2, headDim: 6, intermediateSize: 50, vocabSize: 77 },
    "q8",
    undefined,
  ],
  "experts in tables that are cut, an odd number of keys to a side": [
    { ...one, hiddenSize: 40, experts: { ...experts, count: 961, perToken: 7, side: 31 } },
    "f32",
    100_000,
  ],
};

/** Every kind of call, in rows of different lengths. */
async function calls(model: Model) {
  const { vocabSize } = model.config;
  const ids = (count: number, step: number) =>
    Int32Array.from({ length: count }, (_, index) => (index * index * step + 3) % vocabSize);
  const sampling = { temperature: 0.9, topK: 20, topP: 0.95, minP: 0.01, repetitionPenalty: 1.1, seed: 7, stop: [] };
  const rows = [1, 31, 7, 50].map((length, row) => ({ sequence: model.sequence(), tokens: ids(length, 7 + row) }));
  const logits = await model.forward(rows);
  const drawn = await model.sample(
    rows.map(({ sequence }, row) => ({ sequence, tokens: ids(row + 1, 5), count: 3 + row, sampling })),
  );
  const scores = await model.score(rows.map(({ sequence }, row) => ({ sequence, tokens: ids(4 - row, 3) })));
  // To the last place, and not beyond it.
  const sequence = model.sequence();
  await model.forward([{ sequence, tokens: ids(60, 11) }]);
  const [last] = await model.sample([
    { sequence, tokens: nothing, count: 4, sampling: { ...sampling, temperature: 0 } },
  ]);
  const beyond = await model.forward([{ sequence, tokens: ids(2, 1) }]).then(
    () => "taken",
    (error: { code: string }) => error.code,
  );
  return { numbers: [...logits, ...scores], ids: [...drawn, last!].map(({ ids }) => [...ids]), beyond };
}

describe.skipIf(!answer.available)(`edges${why}`, { timeout: 300_000 }, () => {
  test.each(Object.keys(cases))("%s", async (name) => {
    const [config, dtype, bindingLimit] = cases[name]!;
    const [found, wanted] = await Promise.all(
      [software({ bindingLimit }), reference()].map(async (provider) => {
        const backend = await provider.open();
        const result = await calls(await backend.load(seeded(config), { dtype, room: 400 }));
        await backend.close();
        return result;
      }),
    );
    wanted!.numbers.forEach((numbers, index) => {
      const apart = numbers.map((value, at) => Math.abs(value - found!.numbers[index]![at]!));
      expect(Math.max(0, ...apart)).toBeLessThan(tolerance);
    });
    expect(found!.ids).toEqual(wanted!.ids);
    expect(wanted!.beyond).toBe("context-overflow");
    expect(found!.beyond).toBe(wanted!.beyond);
  });
});
