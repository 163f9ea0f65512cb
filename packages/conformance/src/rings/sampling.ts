// Ring "sampling", first part: what sample() draws is core's draw() on the logits of forward(), filter by filter.
import {
  defaultSampling,
  type Model,
  memoryCheckpoint,
  readTensor,
  type SampleRow,
  type Sampling,
} from "@doge-lm/core";
import { assert, rejects, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { argmax } from "../compare.ts";
import { type Drawing, judgeRows, sampleRows, Tally } from "../draws.ts";
import { someIds, stream, tokens } from "../random.ts";
import { forward } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { allowOnly } from "./contract.ts";

export const samplingChecks: Check[] = [];
const check = inRing("sampling", samplingChecks);

/** Draw every setting as a row of one call, on several fixtures and seeds, and judge each draw. */
async function judged(scope: Scope, settings: readonly Partial<Sampling>[], count = 10): Promise<void> {
  for (const fixture of ["native", "odd"]) {
    const model = await scope.model({ fixture });
    const vocabulary = model.config.vocabSize;
    const rows: Drawing[] = settings.flatMap((setting, index) =>
      [0, 1].map((turn) => ({
        tokens: someIds(6 + index + turn, vocabulary, 40 + index, 9),
        count,
        sampling: { ...defaultSampling, seed: (index * 7919 + turn * 2 ** 31) >>> 0, ...setting },
      })),
    );
    const tally = new Tally();
    const drawn = await sampleRows(scope, model, rows);
    for (const [row, ids] of drawn.entries()) same(ids.length, count, `${fixture}: number of draws of row ${row}`);
    await judgeRows(scope, model, rows, drawn, tally, (row) => `${fixture}, row ${row}`);
    tally.finish(fixture);
  }
}

check("draws without filters, at any temperature and seed", (scope) =>
  judged(scope, [
    ...[1, 0.001, 0.1, 0.5, 0.9, 1.5, 3, 20].map((temperature) => ({ temperature })),
    ...[0, 1, 2 ** 31, 2 ** 32 - 1].map((seed) => ({ seed })),
  ]),
);

check("greedy: the most likely id", (scope) =>
  judged(scope, [
    { temperature: 0 },
    // Filters have nothing to say then; the penalty has.
    { temperature: 0, topK: 3, topP: 0.2, minP: 0.9 },
    { temperature: 0, repetitionPenalty: 1.3 },
    { temperature: 0, repetitionPenalty: 0.5 },
  ]),
);

check("top-k of any size", (scope) =>
  judged(
    scope,
    [1, 2, 3, 7, 32, 33, 64, 100, 127, 128, 129, 130, 131, 132, 5000].map((topK) => ({ topK, temperature: 2 })),
  ),
);

check("top-p over the whole vocabulary", (scope) =>
  judged(
    scope,
    [0, 0.01, 0.1, 0.3, 0.5, 0.75, 0.9, 0.97, 0.995, 0.9999].map((topP) => ({ topP, temperature: 1.5 })),
  ),
);

check("min-p", (scope) =>
  judged(
    scope,
    [0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 1].map((minP) => ({ minP, temperature: 2 })),
  ),
);

check("repetition penalty, on prompt and drawn ids, once each", (scope) =>
  judged(
    scope,
    [0.3, 0.8, 1.05, 1.3, 2, 50].map((repetitionPenalty) => ({ repetitionPenalty, temperature: 0.7 })),
    20,
  ),
);

check("filters together, in their order", (scope) =>
  judged(scope, [
    { temperature: 0.8, topK: 50, topP: 0.9 },
    { temperature: 1.6, topK: 20, topP: 0.8, minP: 0.05 },
    { temperature: 1.6, topK: 90, topP: 0.97, minP: 0.01, repetitionPenalty: 1.2 },
    { temperature: 0.5, topP: 0.95, repetitionPenalty: 1.5 },
    { temperature: 2.5, topK: 10, minP: 0.3 },
    { temperature: 2.5, topK: 100, topP: 0.5 },
    { temperature: 3, topP: 0.9, minP: 0.1, repetitionPenalty: 0.7 },
  ]),
);

check("masks: only what is allowed is drawn, with filters over what is left", async (scope) => {
  for (const fixture of ["native", "odd"]) {
    const model = await scope.model({ fixture });
    const vocabulary = model.config.vocabSize;
    const next = stream(50);
    const masks = [0.02, 0.1, 0.5, 0.9].map((share) =>
      allowOnly(
        vocabulary,
        Array.from({ length: vocabulary }, (_, id) => id).filter((id) => id === 31 || next() < share),
      ),
    );
    const settings: Partial<Sampling>[] = [
      {},
      { temperature: 0 },
      { temperature: 2, topK: 5 },
      { temperature: 2, topP: 0.6 },
      { temperature: 2, minP: 0.2 },
      { temperature: 2, topK: 30, topP: 0.9, repetitionPenalty: 1.4 },
    ];
    const rows: Drawing[] = masks.flatMap((allowed, mask) =>
      settings.map((setting, index) => ({
        tokens: someIds(5, vocabulary, mask),
        count: 8,
        sampling: { ...defaultSampling, seed: index, ...setting },
        allowed,
      })),
    );
    const tally = new Tally();
    const drawn = await sampleRows(scope, model, rows);
    await judgeRows(scope, model, rows, drawn, tally, (row) => `${fixture}, mask ${Math.floor(row / settings.length)}`);
    tally.finish(fixture);
  }
});

check("where nothing is allowed nothing is drawn, and the tokens passed in stay", async ({ model, sequence, fed }) => {
  const native = await model({ fixture: "native" });
  const one = sequence(native);
  const nothing = allowOnly(128, []);
  const row = {
    sequence: one,
    tokens: tokens([1, 2, 3]),
    count: 5,
    sampling: defaultSampling,
    allowed: nothing,
    alternatives: 3,
  };
  const [drawn] = await native.sample([row]);
  same([drawn!.ids.length, drawn!.logprobs.length, drawn!.topIds.length, one.length], [0, 0, 0, 3], "Draws and length");
  const plain = await fed(native, tokens([1, 2, 3]));
  const more = { tokens: tokens([]), count: 4, sampling: defaultSampling };
  const [after, expected] = await native.sample([
    { ...more, sequence: one },
    { ...more, sequence: plain },
  ]);
  same(after!.ids, expected!.ids, "Draws once everything is allowed again");
});

check("an exact tie goes to the lowest id", async (scope) => {
  const { checkpoint } = await scope.fixture("native");
  const tensors = new Map<string, Float32Array>();
  for (const name of checkpoint.tensors.keys()) tensors.set(name, await readTensor(checkpoint, name));
  const embedding = tensors.get("model.embed_tokens.weight")!; // also the head: the fixture is tied
  const width = checkpoint.config.hiddenSize;
  const native = await scope.model({ fixture: "native" });
  const prompt = [1, 2, 3];
  const winner = argmax(await forward(native, scope.sequence(native), prompt));
  const twins = [winner, (winner + 40) % 128, (winner + 83) % 128];
  for (const twin of twins) embedding.copyWithin(twin * width, winner * width, (winner + 1) * width);
  const backend = await scope.stage.backend();
  const model = await backend.load(memoryCheckpoint(checkpoint.config, tensors), { context: 32 });
  scope.later(() => model.close());
  const logits = await forward(model, scope.sequence(model), prompt);
  const tied = twins.filter((id) => logits[id] === Math.max(...logits));
  assert(
    tied.length >= 2,
    `Equal rows of the head give different logits: ${twins.map((id) => logits[id]).join(", ")}.`,
  );
  const sampling = { ...defaultSampling, temperature: 0 };
  const [drawn] = await model.sample([{ sequence: scope.sequence(model), tokens: tokens(prompt), count: 1, sampling }]);
  same(drawn!.ids, [Math.min(...tied)], `Greedy choice among the ids ${tied.join(", ")}`);
});

check("logits that are no numbers reject with numerical, and nothing is appended", async (scope) => {
  const { checkpoint } = await scope.fixture("native");
  const tensors = new Map<string, Float32Array>();
  for (const name of checkpoint.tensors.keys()) tensors.set(name, await readTensor(checkpoint, name));
  // Finite weights whose products overflow f32 in every logit.
  tensors.get("model.norm.weight")!.fill(1e38);
  tensors.set(
    "model.embed_tokens.weight",
    tensors.get("model.embed_tokens.weight")!.map((weight) => weight * 1e6),
  );
  const backend = await scope.stage.backend();
  const model: Model = await backend.load(memoryCheckpoint(checkpoint.config, tensors), { context: 32 });
  scope.later(() => model.close());
  const sequence = scope.sequence(model);
  const logits = await forward(model, sequence, [1, 2]);
  assert(!logits.some((logit) => Number.isFinite(logit)), "The weights were meant to overflow every logit.");
  for (const setting of [{}, { temperature: 0 }, { topK: 5 }, { topP: 0.9 }, { minP: 0.1 }]) {
    const row = { sequence, tokens: tokens([3]), count: 2, sampling: { ...defaultSampling, ...setting } };
    await rejects(model.sample([row]), "numerical", `sample() with ${JSON.stringify(setting)}`);
    same(sequence.length, 2, "Length afterwards");
  }
  const [none] = await model.sample([{ sequence, tokens: tokens([3]), count: 0, sampling: defaultSampling }]);
  same([none!.ids.length, sequence.length], [0, 3], "Appending without a draw");
});

/** The odd fixture whose logits of `ids` are of one sign and beyond f32; those of the others are finite. */
async function overflowing(scope: Scope, ids: readonly number[], sign: 1 | -1) {
  const { checkpoint } = await scope.fixture("odd");
  const tensors = new Map<string, Float32Array>();
  for (const name of checkpoint.tensors.keys()) tensors.set(name, await readTensor(checkpoint, name));
  const { hiddenSize: width, vocabSize } = checkpoint.config;
  const prompt = tokens([1, 2]);
  const backend = await scope.stage.backend();
  // The last channel is large behind the norm. Of the head only the rows of these ids see it, and nothing else.
  tensors.get("model.norm.weight")![width - 1] = 1e4;
  const plain = tensors.get("lm_head.weight")!;
  for (let id = 0; id < vocabSize; id++) plain[id * width + width - 1] = 0;
  for (const weight of [3e38, -3e38]) {
    const head = plain.slice();
    for (const id of ids) head.fill(0, id * width, (id + 1) * width)[id * width + width - 1] = weight;
    tensors.set("lm_head.weight", head);
    const model = await backend.load(memoryCheckpoint(checkpoint.config, tensors), { context: 32 });
    scope.later(() => model.close());
    const logits = await forward(model, scope.sequence(model), prompt);
    if (ids.every((id) => logits[id] === sign * Number.POSITIVE_INFINITY)) return { model, prompt, logits };
  }
  throw new Error(`No weight of the head makes the logits of ${ids.join(", ")} infinite.`);
}

check("a logit of +Infinity is drawn, but rejects with numerical where a row asks for ln p", async (scope) => {
  const { model, prompt } = await overflowing(scope, [9, 50], 1);
  for (const setting of [{}, { temperature: 0 }, { topK: 5 }, { topP: 0.9 }]) {
    const sampling = { ...defaultSampling, seed: 5, ...setting };
    const rows = (asked: readonly (number | undefined)[]): SampleRow[] =>
      asked.map((alternatives) => ({
        sequence: scope.sequence(model),
        tokens: prompt,
        count: 1,
        sampling,
        alternatives,
      }));
    for (const { ids } of await model.sample(rows([undefined, undefined])))
      same(ids, [9], `Draw with ${JSON.stringify(setting)}`);
    for (const asked of [[0], [3], [undefined, 3], [0, undefined]]) {
      const told = rows(asked);
      await rejects(
        model.sample(told),
        "numerical",
        `ln p of rows that ask for ${JSON.stringify(asked)} with ${JSON.stringify(setting)}`,
      );
      for (const { sequence } of told) same(sequence.length, 0, "Length afterwards");
    }
  }
  const row = { sequence: await scope.fed(model, prompt), tokens: tokens([9]) };
  await rejects(model.score([row]), "numerical", "score() beside +Infinity");
});

check("ids whose logit is -Infinity are the least likely, with ln p of -Infinity", async (scope) => {
  const finite = [7, 67, 127];
  const others = Array.from({ length: 131 }, (_, id) => id).filter((id) => !finite.includes(id));
  const { model, prompt } = await overflowing(scope, others, -1);
  for (const sampling of [
    { ...defaultSampling, seed: 5 },
    { ...defaultSampling, topK: 50 },
  ]) {
    const row = { tokens: prompt, count: 1, sampling };
    const [one, two] = await model.sample([
      { ...row, sequence: scope.sequence(model), alternatives: 5 },
      { ...row, sequence: scope.sequence(model), alternatives: 0 },
    ]);
    assert(finite.includes(one!.ids[0]!), `Drawn was ${one!.ids[0]}, whose logit is -Infinity.`);
    for (const { logprobs } of [one!, two!]) assert(Number.isFinite(logprobs[0]!), `Its ln p is ${logprobs[0]}.`);
    same(
      [...one!.topIds.subarray(0, 3)].sort((a, b) => a - b),
      finite,
      "The most likely",
    );
    same(one!.topIds.subarray(3), [0, 1], "Behind them the lowest ids");
    same(one!.topLogprobs.subarray(3), [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY], "Their ln p");
  }
  const [scores] = await model.score([{ sequence: await scope.fed(model, prompt), tokens: tokens([9]) }]);
  same(scores![0], Number.NEGATIVE_INFINITY, "ln p of a token whose logit is -Infinity");
});
