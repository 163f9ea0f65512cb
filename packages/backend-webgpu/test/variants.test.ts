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

async function on(options: WebgpuOptions, config: Config, dtype: DType): Promise<Awaited<ReturnType<typeof text>>> {
  const backend = await software(options).open();
  const model = await backend.load(seeded(config), { dtype });
  const result = await text(model);
  await backend.close();
  return result;
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

describe.skipIf(absent)(`forms of the kernels${why}`, () => {
  const experts = { count: 16, perToken: 3, side: 4, normalize: true, indexing: "grid" } as const;

  test.each(["base", "subgroups"])("%s: dense and experts, f32", async (name) => {
    for (const config of [
      { ...small, layers: 1 },
      { ...small, layers: 1, experts },
    ]) {
      near(await on({ variant: variants[name]! }, config, "f32"), await expected(config, "f32"));
    }
  });

  test("base: q8", async () => {
    const config = { ...small, layers: 1 };
    const wanted = await expected(config, "q8");
    near(await on({ variant: variants.base! }, config, "q8"), wanted);
  });

  test("a vocabulary larger than a binding of 1 MiB is cut, and gives the same bits", async () => {
    // 9,000 rows of 128 bytes: 1.1 MiB.
    const config = { ...small, layers: 1, vocabSize: 9000 };
    const whole = await on({}, config, "f32");
    expect(await on({ bindingLimit: 2 ** 20 }, config, "f32")).toEqual(whole);
  });

  test("layers larger than a binding are cut too, in every dtype", async () => {
    const config: Config = { ...small, layers: 1, hiddenSize: 64, intermediateSize: 160, heads: 8, kvHeads: 2 };
    for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
      const whole = await on({}, config, dtype);
      // Keys of a layer take 36 KiB; the feed-forward's matrices 40 KiB in f32.
      expect(await on({ bindingLimit: 38_000 }, config, dtype)).toEqual(whole);
    }
  });

  test("an unusual width of heads is refused in words", async () => {
    const backend = await software().open();
    const loading = backend.load(seeded({ ...small, layers: 1, headDim: 512 }));
    expect(await loading.catch((error) => isDogeError(error, "unsupported"))).toBe(true);
    await backend.close();
  });
});
