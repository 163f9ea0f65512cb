// Every form of the kernels gives the numbers of the reference, and weights cut into parts give those of whole ones.
import { type Config, type DType, type Floats, isDogeError, type Model } from "@doge-lm/core";
import { reference } from "@doge-lm/reference";
import { describe, expect, test } from "vitest";
import type { WebgpuOptions } from "../src/index.ts";
import { software } from "./software.ts";
import { seeded, small, variants } from "./support.ts";

const answer = await software().probe();
const absent = !answer.available;
const why = absent ? ` (skipped: ${answer.why})` : "";
/** Logits of this small model have a standard deviation of about 1; weights are the same numbers, sums are f32. */
const tolerance = 1e-4;

const ids = Int32Array.from({ length: 30 }, (_, index) => (index * index * 7 + 3) % 64);

/** Logits after a prompt beyond the window, then after a step; and some draws. */
async function text(model: Model): Promise<{ logits: Floats[]; drawn: number[] }> {
  const sequence = model.sequence();
  const [first] = await model.forward([{ sequence, tokens: ids }]);
  const [second] = await model.forward([{ sequence, tokens: Int32Array.of(9) }]);
  const sampling = { temperature: 0.9, topK: 20, topP: 0.95, minP: 0.01, repetitionPenalty: 1.1, seed: 7, stop: [] };
  const [drawn] = await model.sample([{ sequence, tokens: Int32Array.of(11), count: 6, sampling }]);
  return { logits: [first!, second!], drawn: [...drawn!.ids] };
}

/** What a backend makes of each of these models. */
async function on(
  options: WebgpuOptions,
  models: readonly (readonly [Config, DType])[],
): Promise<Awaited<ReturnType<typeof text>>[]> {
  const backend = await software(options).open();
  const results = [];
  for (const [config, dtype] of models) {
    const model = await backend.load(seeded(config), { dtype });
    results.push(await text(model));
    model.close();
  }
  await backend.close();
  return results;
}

async function expected(config: Config, dtype: DType): Promise<Awaited<ReturnType<typeof text>>> {
  const backend = await reference().open();
  return text(await backend.load(seeded(config), { dtype }));
}

function near(found: Awaited<ReturnType<typeof text>>, wanted: Awaited<ReturnType<typeof text>>): void {
  found.logits.forEach((logits, call) => {
    const apart = logits.map((logit, id) => Math.abs(logit - wanted.logits[call]![id]!));
    expect(Math.max(...apart)).toBeLessThan(tolerance);
  });
  expect(found.drawn).toEqual(wanted.drawn);
}

/** A software adapter compiles kernels with barriers for seconds. */
const timeout = 180_000;

describe.skipIf(absent)(`forms of the kernels${why}`, () => {
  const experts = { count: 16, perToken: 3, side: 4, normalize: true, indexing: "grid" } as const;
  const one: Config = { ...small, layers: 1 };

  test.each(["base", "subgroups"])("%s: dense, experts, and q8", { timeout }, async (name) => {
    const models = [
      [one, "f32"],
      [{ ...one, experts }, "f32"],
      [one, "q8"],
    ] as const;
    const found = await on({ variant: variants[name]! }, models);
    for (const [index, [config, dtype]] of models.entries()) near(found[index]!, await expected(config, dtype));
  });

  test("a vocabulary larger than a binding of 1 MiB is cut, and gives the same bits", { timeout }, async () => {
    // 9,000 rows of 128 bytes: 1.1 MiB.
    const models = [[{ ...one, vocabSize: 9000 }, "f32"]] as const;
    expect(await on({ bindingLimit: 2 ** 20 }, models)).toEqual(await on({}, models));
  });

  test("layers larger than a binding are cut too, in every dtype", { timeout }, async () => {
    const wide: Config = { ...one, hiddenSize: 64, intermediateSize: 1200, heads: 8, maxPositions: 64 };
    const models = (["f32", "bf16", "q8", "q4"] as const).map((dtype) => [wide, dtype] as const);
    // Keys of a layer take 68 KiB; each matrix of the feed-forward 300, 150, 75 and 38 KiB.
    expect(await on({ bindingLimit: 80_000 }, models)).toEqual(await on({}, models));
  });

  test("heads wider than the kernels hold are refused in words", { timeout }, async () => {
    const backend = await software().open();
    const loading = backend.load(seeded({ ...one, headDim: 512 }));
    expect(await loading.catch((error) => isDogeError(error, "unsupported"))).toBe(true);
    await backend.close();
  });
});
