// Ring "crossings": how often a backend goes to its device and what it brings back, counted from outside.
//
// The budget: a prompt is one call, a chunk of n tokens is one call, whatever n and however many rows; only what was asked for
// comes back. The backend's package hands over a provider whose WASM exports, GPUQueue or C functions are wrapped by a counter:
// what a backend reports of itself does not count. Threads that do the same work together make each call at once, one entry each:
// such a call counts as one.
import { defaultSampling, type Model } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import type { CrossingNotes } from "../notes.ts";
import { someIds, tokens } from "../random.ts";
import { forward } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const crossingChecks: Check[] = [];
const ringCheck = inRing("crossings", crossingChecks);

const check = (name: string, run: (scope: Scope, model: Model, notes: CrossingNotes) => Promise<void>) =>
  ringCheck(
    name,
    async (scope) => {
      const notes = scope.stage.notes.crossings!;
      const model = await scope.stage.counted().model({ fixture: "window", context: 128, room: 2048 });
      // The first call may compile or allocate.
      await forward(model, scope.sequence(model), [1, 2, 3]);
      await run(scope, model, notes);
    },
    ({ notes }) => (notes.crossings === undefined ? "the package hands over no counter of crossings" : undefined),
  );

async function counted<T>({ counter }: CrossingNotes, work: () => Promise<T>) {
  counter.reset();
  const result = await work();
  return { result, calls: counter.calls(), bytes: counter.bytesOut?.() };
}

function within(bytes: number | undefined, numbers: number, rows: number, what: string): void {
  if (bytes === undefined) return;
  const most = 4 * numbers + rows * tolerances.crossingBytes;
  assert(
    bytes <= most,
    `${what} brought back ${bytes} bytes; ${numbers} numbers of ${rows} rows need at most ${most}.`,
  );
}

check("a counter that counts: every call goes to the device", async (scope, model, notes) => {
  const { calls } = await counted(notes, () => forward(model, scope.sequence(model), [1, 2]));
  assert(calls >= 1, "forward() was counted as no call at all: the counter is not connected.");
});

check("a prompt is one call, and only its last logits come back", async (scope, model, notes) => {
  for (const length of [1, 2, 17, 40]) {
    const sequence = scope.sequence(model);
    const { calls, bytes } = await counted(notes, () => forward(model, sequence, someIds(length, 64, length)));
    same(calls, 1, `Calls of forward() with ${length} tokens`);
    within(bytes, 64, 1, `forward() of ${length} tokens`);
  }
});

check("appending without a draw brings nothing back", async (scope, model, notes) => {
  const row = { sequence: scope.sequence(model), tokens: someIds(40, 64, 1), count: 0, sampling: defaultSampling };
  const { calls, bytes } = await counted(notes, () => model.sample([row]));
  assert(calls <= 1, `Appending 40 tokens took ${calls} calls.`);
  within(bytes, 0, 1, "sample() with count 0");
});

check("a chunk is one call, and only ids come back", async (scope, model, notes) => {
  const budget = notes.perChunk ?? (() => 1);
  const sampling = { ...defaultSampling, topK: 20, topP: 0.9 };
  // A backend may judge what draws by filters before it is first used.
  await model.sample([{ sequence: scope.sequence(model), tokens: tokens([1]), count: 1, sampling }]);
  for (const count of [1, 2, 16, 60]) {
    for (const tokensOfPrompt of [someIds(12, 64, 2), tokens([])]) {
      const sequence = scope.sequence(model);
      await forward(model, sequence, someIds(12, 64, 3));
      const row = { sequence, tokens: tokensOfPrompt, count, sampling };
      const { result, calls, bytes } = await counted(notes, () => model.sample([row]));
      same(result[0]!.ids.length, count, "Number of draws");
      assert(calls <= budget(count), `A chunk of ${count} took ${calls} calls, allowed ${budget(count)}.`);
      within(bytes, count, 1, `A chunk of ${count}`);
    }
  }
});

check("rows share their calls", async (scope, model, notes) => {
  const budget = notes.perChunk ?? (() => 1);
  const rows = (seed: number) =>
    Array.from({ length: 8 }, (_, row) => ({
      sequence: scope.sequence(model),
      tokens: someIds(4 + row, 64, seed + row),
    }));
  const prompts = await counted(notes, () => model.forward(rows(10)));
  same(prompts.calls, 1, "Calls of forward() with 8 rows");
  within(prompts.bytes, 8 * 64, 8, "forward() of 8 rows");
  const draws = rows(20).map((row) => ({ ...row, count: 16, sampling: defaultSampling }));
  const chunk = await counted(notes, () => model.sample(draws));
  assert(chunk.calls <= budget(16), `A chunk of 16 for 8 rows took ${chunk.calls} calls, allowed ${budget(16)}.`);
  within(chunk.bytes, 8 * 16, 8, "A chunk of 16 for 8 rows");
});

check("score is one call, and a number per token comes back", async (scope, model, notes) => {
  for (const rows of [1, 4]) {
    const texts = Array.from({ length: rows }, (_, row) => ({
      sequence: scope.sequence(model),
      tokens: someIds(30, 64, row),
    }));
    const { calls, bytes } = await counted(notes, () => model.score(texts));
    same(calls, 1, `Calls of score() with ${rows} rows of 30 tokens`);
    within(bytes, rows * 30, rows, `score() of ${rows} rows`);
  }
});

check("log-probabilities and alternatives come back with the ids", async (scope, model, notes) => {
  const budget = notes.perChunk ?? (() => 1);
  const row = {
    sequence: scope.sequence(model),
    tokens: someIds(9, 64, 5),
    count: 16,
    sampling: defaultSampling,
    alternatives: 5,
  };
  const { calls, bytes } = await counted(notes, () => model.sample([row]));
  assert(calls <= budget(16), `A chunk of 16 took ${calls} calls, allowed ${budget(16)}.`);
  within(bytes, 16 * 12, 1, "A chunk of 16 with 5 alternatives");
});
