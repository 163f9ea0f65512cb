// Ring "sampling", fourth part: draws over a vocabulary of real size, where thresholds are searched and equal logits abound.
import { type Checkpoint, defaultSampling, memoryCheckpoint, type Sampling } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { type Drawing, judgeRows, sampleRows, Tally } from "../draws.ts";
import { randomTensors, tokens } from "../random.ts";
import type { Scope } from "../scope.ts";
import { allowOnly } from "./contract.ts";

export const wideChecks: Check[] = [];
const check = inRing("sampling", wideChecks);

/** A prime, so that no tile, lane or block divides it. */
const vocabulary = 20_011;
/** Rows of the head repeat after this many ids: logits occur four times each, so ties lie at every cut. */
const distinct = 5_003;

/** One layer of the fixture "native" under a wide random embedding, which is also the head. */
async function wideCheckpoint(scope: Scope): Promise<Checkpoint> {
  const { checkpoint } = await scope.fixture("native");
  const config = { ...checkpoint.config, vocabSize: vocabulary, layers: 1, hiddenSize: 24 };
  const tensors = randomTensors(config, 100);
  const embedding = tensors.get("model.embed_tokens.weight")!;
  for (let id = distinct; id < vocabulary; id++) {
    embedding.copyWithin(id * 24, (id % distinct) * 24, ((id % distinct) + 1) * 24);
  }
  return memoryCheckpoint(config, tensors);
}

check("draws over 20,011 ids with ties at every cut, filter by filter", async (scope) => {
  const backend = await scope.stage.backend();
  const model = await backend.load(await wideCheckpoint(scope), { context: 32, room: 4096 });
  scope.later(() => model.close());
  const settings: Partial<Sampling>[] = [
    ...[1, 2, 5, 50, 51, 1000, 5003, 19_999, 20_010, 20_011].map((topK) => ({ topK })),
    ...[0.001, 0.1, 0.5, 0.9, 0.99, 0.9999].map((topP) => ({ topP })),
    ...[0.001, 0.05, 0.5, 1].map((minP) => ({ minP })),
    { temperature: 0 },
    { temperature: 0.01 },
    { temperature: 50, topP: 0.5 },
    { temperature: 50, topK: 10_000, topP: 0.7 },
    { temperature: 0.8, topK: 50, topP: 0.9, minP: 0.02, repetitionPenalty: 1.1 },
  ];
  const most = allowOnly(
    vocabulary,
    Array.from({ length: vocabulary }, (_, id) => id).filter((id) => id % 3 !== 0),
  );
  const rows: Drawing[] = settings.flatMap((setting, index) =>
    [undefined, most].map((allowed) => ({
      tokens: tokens([5, 6, 7 + index]),
      count: 3,
      sampling: { ...defaultSampling, temperature: 1.3, seed: 1000 + index, ...setting },
      allowed,
    })),
  );
  const tally = new Tally();
  const drawn = await sampleRows(scope, model, rows);
  await judgeRows(scope, model, rows, drawn, tally, (row) => `Row ${row}`);
  tally.finish("20,011 ids");
});

check("a single allowed id is drawn, wherever it lies in the mask", async (scope) => {
  const backend = await scope.stage.backend();
  const model = await backend.load(await wideCheckpoint(scope), { context: 32, room: 4096 });
  scope.later(() => model.close());
  const ids = [0, 1, 31, 32, 63, 64, 255, 256, 4095, 4096, 16_383, 16_384, 19_999, 20_000, 20_009, 20_010];
  const rows = ids.map((id, seed) => ({
    tokens: tokens([1]),
    count: 1,
    sampling: { ...defaultSampling, seed, topK: seed % 2 === 0 ? 0 : 1 },
    allowed: allowOnly(vocabulary, [id]),
  }));
  const drawn = await sampleRows(scope, model, rows);
  for (const [row, id] of ids.entries()) same(drawn[row], [id], `Row ${row}`);
  assert(drawn.length === ids.length, "A row is missing.");
});
