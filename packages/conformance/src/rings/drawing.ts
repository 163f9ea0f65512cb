// Ring "sampling", second part: a draw depends on its text, options and position alone. Chunks, company, forks, stops.
import { type Drawn, defaultSampling, logProbabilities, mostLikely, type Sampling } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { close } from "../compare.ts";
import { judgeRows, Tally } from "../draws.ts";
import { someIds, tokens } from "../random.ts";
import { forward, logitsByCalls, tableRow } from "../runs.ts";
import type { ModelSpec, Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const drawingChecks: Check[] = [];
const check = inRing("sampling", drawingChecks);

const settings: readonly Partial<Sampling>[] = [
  { seed: 1 },
  { seed: 2, temperature: 0.8, topK: 50, topP: 0.9 },
  { seed: 3, temperature: 1.5, minP: 0.05, repetitionPenalty: 1.3 },
];
const specs: readonly ModelSpec[] = [{ fixture: "native" }, { fixture: "window" }, { fixture: "moe" }];
const nothing = tokens([]);

/** Ids of one row, drawn in chunks of these sizes. */
async function inChunks(
  scope: Scope,
  spec: ModelSpec,
  ids: ArrayLike<number>,
  setting: Partial<Sampling>,
  chunks: readonly number[],
) {
  const model = await scope.model(spec);
  const sequence = scope.sequence(model);
  const sampling = { ...defaultSampling, ...setting };
  const found: number[] = [];
  for (const [index, count] of chunks.entries()) {
    const [drawn] = await model.sample([{ sequence, tokens: index === 0 ? tokens(ids) : nothing, count, sampling }]);
    found.push(...drawn!.ids);
  }
  return found;
}

check("chunks of any size draw the same", async (scope) => {
  for (const spec of specs) {
    for (const setting of settings) {
      const prompt = someIds(12, 64, 60);
      const whole = await inChunks(scope, spec, prompt, setting, [36]);
      same(whole.length, 36, "Number of draws");
      for (const chunks of [new Array(36).fill(1), [1, 2, 4, 8, 16, 5], [0, 35, 1]]) {
        const found = await inChunks(scope, spec, prompt, setting, chunks);
        same(found, whole, `${spec.fixture}, ${JSON.stringify(setting)}, chunks of ${chunks.join(", ")}`);
      }
    }
  }
});

check("company and the order of rows change nothing", async (scope) => {
  for (const spec of specs) {
    const model = await scope.model(spec);
    const rows = [12, 3, 30, 7, 19].map((length, index) => ({
      tokens: someIds(length, 64, 61 + index),
      count: [20, 9, 14, 1, 0][index]!,
      sampling: { ...defaultSampling, ...settings[index % settings.length], seed: index },
    }));
    const alone: Drawn["ids"][] = [];
    for (const row of rows) alone.push((await model.sample([{ ...row, sequence: scope.sequence(model) }]))[0]!.ids);
    for (const order of [
      [0, 1, 2, 3, 4],
      [4, 2, 0, 3, 1],
    ]) {
      const drawn = await model.sample(order.map((index) => ({ ...rows[index]!, sequence: scope.sequence(model) })));
      for (const [at, index] of order.entries()) {
        same(drawn[at]!.ids, alone[index], `${spec.fixture}: row ${index} in the order ${order.join(", ")}`);
      }
    }
  }
});

check("a fork draws what its parent would, and what a fresh sequence does", async (scope) => {
  for (const spec of specs) {
    const model = await scope.model(spec);
    const prompt = someIds(30, 64, 70);
    const sampling = { ...defaultSampling, seed: 77 };
    const parent = scope.sequence(model);
    const [head] = await model.sample([{ sequence: parent, tokens: prompt, count: 10, sampling }]);
    const row = { tokens: nothing, count: 12, sampling };
    const forked = await model.sample([
      { ...row, sequence: scope.fork(parent) },
      { ...row, sequence: scope.fork(parent), sampling: { ...sampling, seed: 78 } },
    ]);
    const [own] = await model.sample([{ ...row, sequence: parent }]);
    same(forked[0]!.ids, own!.ids, `${spec.fixture}: fork and parent`);
    assert(String(forked[1]!.ids) !== String(own!.ids), `${spec.fixture}: another seed drew the same 12 ids.`);
    const whole = await inChunks(scope, spec, prompt, sampling, [22]);
    same([...head!.ids, ...own!.ids], whole, `${spec.fixture}: fresh`);
    // Rewound into the draws and drawn again.
    parent.rewind(35);
    const [again] = await model.sample([{ ...row, sequence: parent, count: 17 }]);
    same(again!.ids, whole.slice(5), `${spec.fixture}: after a rewind into the draws`);
  }
});

check("drawn text is judged the same wherever it stands: behind calls, forks and rewinds", async (scope) => {
  const model = await scope.model({ fixture: "window" });
  const text = Array.from(someIds(50, model.config.vocabSize, 71, 12));
  const sequence = scope.sequence(model);
  await forward(model, sequence, text.slice(0, 30));
  await model.score([{ sequence, tokens: tokens(text.slice(30)) }]);
  const sampling = { ...defaultSampling, seed: 9, temperature: 1.2 };
  const [drawn] = await model.sample([{ sequence: scope.fork(sequence), tokens: nothing, count: 30, sampling }]);
  const tally = new Tally();
  const rows = [{ tokens: tokens(text), count: 30, sampling }];
  await judgeRows(scope, model, rows, [drawn!.ids], tally, () => "Fork behind forward() and score()");
  tally.finish("Fork behind forward() and score()");
});

check("logprobs and alternatives are those of the logits, before penalty, temperature and filters", async (scope) => {
  for (const spec of [{ fixture: "native" }, { fixture: "odd" }]) {
    const model = await scope.model(spec);
    const prompt = someIds(9, model.config.vocabSize, 72);
    const asked = [undefined, 0, 1, 5, 20];
    const sampling = { ...defaultSampling, seed: 4, temperature: 1.7, topK: 60, repetitionPenalty: 1.4 };
    const drawn = await model.sample(
      asked.map((alternatives) => ({
        sequence: scope.sequence(model),
        tokens: prompt,
        count: 12,
        sampling,
        alternatives,
      })),
    );
    for (const [row, alternatives] of asked.entries()) {
      const { ids, logprobs, topIds, topLogprobs } = drawn[row]!;
      same(ids, drawn[0]!.ids, `${spec.fixture}: ids with ${alternatives} alternatives`);
      const wanted = alternatives === undefined ? [0, 0, 0] : [12, 12 * alternatives, 12 * alternatives];
      same(
        [logprobs.length, topIds.length, topLogprobs.length],
        wanted,
        `${spec.fixture}: lengths with ${alternatives}`,
      );
    }
    const { ids, logprobs, topIds, topLogprobs } = drawn[4]!;
    same(Array.from(drawn[1]!.logprobs), Array.from(logprobs), `${spec.fixture}: logprobs with 0 and 20 alternatives`);
    const table = await logitsByCalls(model, scope.sequence(model), [...prompt, ...ids], [9, ...new Array(12).fill(1)]);
    for (let step = 0; step < 12; step++) {
      const logits = tableRow(table, 8 + step);
      const ln = logProbabilities(logits);
      const where = `${spec.fixture}, draw ${step}`;
      close([logprobs[step]!], [ln[ids[step]!]!], tolerances.logProbability, `${where}: ln p of id ${ids[step]}`, 1);
      const best = mostLikely(logits, 20);
      const top = topIds.subarray(step * 20, step * 20 + 20);
      same(new Set(top).size, 20, `${where}: different alternatives`);
      // Ids within the tolerance of each other may change places; their numbers may not.
      const expected = Float64Array.from(best, (id) => ln[id]!);
      const found = topLogprobs.subarray(step * 20, step * 20 + 20);
      close(found, expected, tolerances.logProbability, `${where}: ln p of the alternatives`, 1);
      close(
        found,
        Float64Array.from(top, (id) => ln[id]!),
        tolerances.logProbability,
        `${where}: ids of the alternatives`,
        1,
      );
      for (let rank = 1; rank < 20; rank++) {
        assert(found[rank]! <= found[rank - 1]!, `${where}: alternative ${rank} is more likely than ${rank - 1}.`);
      }
    }
    const [ln] = await model.score([{ sequence: await scope.fed(model, prompt), tokens: ids }]);
    close(logprobs, ln!, tolerances.logProbability, `${spec.fixture}: logprobs against score()`, 1);
  }
});

check("a stop id ends the text and holds until tokens are appended or it is rewound", async (scope) => {
  const model = await scope.model({ fixture: "native" });
  const prompt = someIds(6, 128, 73);
  const free = { ...defaultSampling, seed: 11 };
  const [whole] = await model.sample([{ sequence: scope.sequence(model), tokens: prompt, count: 30, sampling: free }]);
  // An id met for the first time well inside, and one that never comes.
  const at = whole!.ids.findIndex(
    (id, index) => index >= 5 && whole!.ids.indexOf(id) === index && !prompt.includes(id),
  );
  assert(at >= 5, "The text repeats itself too much to test a stop; take another seed.");
  const stop = [whole!.ids[at]!];
  const sampling = { ...free, stop };

  const sequence = scope.sequence(model);
  const [drawn] = await model.sample([{ sequence, tokens: prompt, count: 30, sampling, alternatives: 2 }]);
  same(drawn!.ids, whole!.ids.slice(0, at + 1), "Draws up to the stop id, which is returned");
  same([drawn!.logprobs.length, drawn!.topIds.length, sequence.length], [at + 1, 2 * at + 2, 7 + at], "Lengths");
  // It holds: whatever is asked next, and in a fork. Other rows of the call go on.
  const child = scope.fork(sequence);
  const other = scope.sequence(model);
  const held = await model.sample([
    { sequence, tokens: nothing, count: 5, sampling },
    { sequence: child, tokens: nothing, count: 5, sampling: free },
    { sequence: other, tokens: prompt, count: 5, sampling: free },
  ]);
  same([held[0]!.ids.length, held[1]!.ids.length, sequence.length], [0, 0, 7 + at], "Draws of held sequences");
  same(held[2]!.ids, whole!.ids.slice(0, 5), "Draws of the row beside them");
  same((await forward(model, sequence, [])).length, 128, "forward() of a held sequence");
  same((await model.sample([{ sequence, tokens: nothing, count: 5, sampling: free }]))[0]!.ids.length, 0, "Still held");
  // Appended to.
  const [after] = await model.sample([{ sequence: child, tokens: tokens([3]), count: 4, sampling: free }]);
  same(after!.ids.length, 4, "Draws after a token was appended");
  // Rewound.
  sequence.rewind(6 + at);
  const [redrawn] = await model.sample([{ sequence, tokens: nothing, count: 30 - at, sampling: free }]);
  same(redrawn!.ids, whole!.ids.slice(at), "Draws after a rewind, without the stop");
  // A stop id in the prompt stops nothing.
  const [past] = await model.sample([
    { sequence: scope.sequence(model), tokens: prompt, count: at, sampling: { ...free, stop: [prompt[5]!] } },
  ]);
  const first = whole!.ids.indexOf(prompt[5]!);
  same(
    past!.ids,
    whole!.ids.slice(0, first === -1 ? at : Math.min(at, first + 1)),
    "Draws with a stop id in the prompt",
  );
});

check("rows of one call stop each for itself", async (scope) => {
  const model = await scope.model({ fixture: "window" });
  const vocabulary = model.config.vocabSize;
  const free = { ...defaultSampling, seed: 12, temperature: 1.3 };
  const prompts = [74, 75, 76, 77].map((seed) => someIds(28, vocabulary, seed, 10));
  const open = await model.sample(
    prompts.map((ids) => ({ sequence: scope.sequence(model), tokens: ids, count: 20, sampling: free })),
  );
  const stops = open.map(({ ids }, row) => [ids[3 + 5 * row]!]);
  const rows = prompts.map((ids, row) => ({
    sequence: scope.sequence(model),
    tokens: ids,
    count: 20,
    sampling: { ...free, stop: stops[row]! },
  }));
  const drawn = await model.sample(rows);
  for (const [row, { ids }] of drawn.entries()) {
    const expected = open[row]!.ids.slice(0, open[row]!.ids.indexOf(stops[row]![0]!) + 1);
    same(ids, expected, `Row ${row}`);
    same(rows[row]!.sequence.length, 28 + expected.length, `Length of row ${row}`);
  }
});

check("count 0 only appends", async (scope) => {
  const model = await scope.model({ fixture: "window" });
  const ids = someIds(60, model.config.vocabSize, 78, 10);
  const sequence = scope.sequence(model);
  for (let from = 0; from < 60; from += 20) {
    const row = { sequence, tokens: ids.slice(from, from + 20), count: 0, sampling: defaultSampling, alternatives: 3 };
    const [drawn] = await model.sample([row]);
    same([drawn!.ids.length, drawn!.logprobs.length, drawn!.topIds.length], [0, 0, 0], "What comes back");
  }
  same(sequence.length, 60, "Length");
  const expected = await forward(model, scope.sequence(model), ids);
  close(await forward(model, sequence, []), expected, tolerances.repeated, "Logits after three appends");
});

for (const dtype of ["bf16", "q8", "q4"] as const) {
  check(
    `draws come from the model's own logits: ${dtype}`,
    async (scope) => {
      const model = await scope.model({ fixture: "native", dtype });
      const prompt = someIds(10, 128, 79);
      const sampling = { ...defaultSampling, temperature: 0 };
      const [drawn] = await model.sample([{ sequence: scope.sequence(model), tokens: prompt, count: 30, sampling }]);
      const sequence = scope.sequence(model);
      let logits = await forward(model, sequence, prompt);
      for (const [step, id] of drawn!.ids.entries()) {
        // Greedy, up to what rounded activations may turn round.
        const behind = Math.max(...logits) - logits[id]!;
        assert(
          behind <= tolerances.roundedRepeat,
          `Draw ${step} took id ${id}, whose logit is ${behind} below the best.`,
        );
        logits = await forward(model, sequence, [id]);
      }
    },
    ({ can }) => (can.dtypes.includes(dtype) ? undefined : `the backend has no ${dtype}`),
  );
}
