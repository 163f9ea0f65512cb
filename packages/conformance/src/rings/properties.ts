// Ring "numerics", second part: properties that need no golden. However a text is put through a model, it says the same.
import type { Floats, Model, Tokens } from "@doge-lm/core";
import { same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { bitEqual, close, logSoftmax } from "../compare.ts";
import { someIds, tokens } from "../random.ts";
import { forward, inspectOne, logitsByCalls, logitsBySteps, tableRow } from "../runs.ts";
import type { ModelSpec, Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const propertyChecks: Check[] = [];
const check = inRing("numerics", propertyChecks);

/** Every layout in which a token's logits depend on the tokens up to it alone. */
const causal: readonly ModelSpec[] = [
  { fixture: "native" },
  { fixture: "legacy" },
  { fixture: "odd" },
  { fixture: "window" },
  { fixture: "window-zero" },
  { fixture: "rope", context: 128 },
  { fixture: "rope-linear" },
  { fixture: "moe", routing: "per-token" },
  { fixture: "legacy-moe", routing: "per-token" },
];
/** All dense windows are below this length, and the RoPE fixture's 32 positions. Ids repeat. */
const length = 61;

async function forEachCausal(
  scope: Scope,
  run: (model: Model, ids: Tokens, name: string) => Promise<void>,
): Promise<void> {
  for (const spec of causal) {
    const model = await scope.model(spec);
    await run(model, someIds(length, model.config.vocabSize, 20, 15), spec.fixture);
  }
}
const near = (actual: Floats, expected: Floats, what: string) => close(actual, expected, tolerances.repeated, what);

check("a prompt in one call = single steps = calls of any length", (scope) =>
  forEachCausal(scope, async (model, ids, name) => {
    const whole = await logitsByCalls(model, scope.sequence(model), ids);
    const steps = await logitsBySteps(model, scope.sequence(model), ids);
    near(steps.data, whole.data, `${name}: single steps`);
    const calls = await logitsByCalls(model, scope.sequence(model), ids, [7, 1, 1, 17, 16, 15, 4]);
    near(calls.data, whole.data, `${name}: calls of 7, 1, 1, 17, 16, 15 and 4`);
    const sequence = scope.sequence(model);
    const [logits] = [await forward(model, sequence, ids)];
    near(logits, tableRow(whole, length - 1), `${name}: forward() of all`);
  }),
);

check("a change of the last token leaves earlier logits alone", (scope) =>
  forEachCausal(scope, async (model, ids, name) => {
    const before = await logitsByCalls(model, scope.sequence(model), ids);
    const changed = ids.slice();
    changed[length - 1] = (changed[length - 1]! + 1) % model.config.vocabSize;
    const after = await logitsByCalls(model, scope.sequence(model), changed);
    const upTo = (length - 1) * before.width;
    bitEqual(after.data.subarray(0, upTo), before.data.subarray(0, upTo), `${name}: logits before the last token`);
  }),
);

check("one row alone = the same row in company", (scope) =>
  forEachCausal(scope, async (model, ids, name) => {
    // Rows of different pasts and lengths; empty ones among them.
    const cuts = [
      [0, 61],
      [20, 61],
      [40, 41],
      [60, 60],
      [5, 38],
    ] as const;
    const alone: Floats[] = [];
    for (const [past, end] of cuts) {
      alone.push(await forward(model, await scope.fed(model, ids.slice(0, past)), ids.slice(past, end)));
    }
    const rows = [];
    for (const [past, end] of cuts)
      rows.push({ sequence: await scope.fed(model, ids.slice(0, past)), tokens: ids.slice(past, end) });
    const together = await model.forward(rows);
    same(together.length, rows.length, `${name}: rows that came back`);
    for (const [index, logits] of together.entries())
      near(logits, alone[index]!, `${name}: row ${index} of ${rows.length}`);
    for (const [index, { sequence }] of rows.entries())
      same(sequence.length, cuts[index]![1], `${name}: length of row ${index}`);
    // Another order of the rows.
    const again = [];
    for (const [past, end] of cuts)
      again.push({ sequence: await scope.fed(model, ids.slice(0, past)), tokens: ids.slice(past, end) });
    const reversed = (await model.forward(again.reverse())).reverse();
    for (const [index, logits] of reversed.entries())
      near(logits, alone[index]!, `${name}: row ${index}, rows reversed`);
  }),
);

check("many rows of one token = each of them alone", async (scope) => {
  for (const fixture of ["native", "window"]) {
    const model = await scope.model({ fixture });
    const past = someIds(30, model.config.vocabSize, 21, 9);
    const parent = await scope.fed(model, past);
    const rows = Array.from({ length: 33 }, (_, row) => ({ sequence: scope.fork(parent), tokens: tokens([row]) }));
    const together = await model.forward(rows);
    for (const row of [0, 1, 16, 31, 32]) {
      near(together[row]!, await forward(model, scope.fork(parent), [row]), `${fixture}: row ${row} of 33`);
    }
  }
});

check("score = log-softmax of forward", (scope) =>
  forEachCausal(scope, async (model, ids, name) => {
    const table = await logitsByCalls(model, scope.sequence(model), ids);
    const expected = Float64Array.from(ids, (id, at) => (at === 0 ? 0 : logSoftmax(tableRow(table, at - 1))[id]!));
    const [ln] = await model.score([{ sequence: scope.sequence(model), tokens: ids }]);
    close(ln!, expected, tolerances.logProbability, `${name}: in one call`, 1);
    // In calls, behind a forward() and in company: the first number of a call needs the logits of the token before it.
    const [one, two] = [await scope.fed(model, ids.slice(0, 12)), scope.sequence(model)];
    const found: number[][] = [Array.from(expected.subarray(0, 12)), []];
    for (const [from, to] of [
      [12, 13],
      [13, 40],
      [40, 40],
      [40, 61],
    ] as const) {
      const start = two.length;
      const rows = [
        { sequence: one, tokens: ids.slice(from, to) },
        { sequence: two, tokens: ids.slice(start, start + 5) },
      ];
      const scores = await model.score(rows);
      for (const row of [0, 1]) found[row]!.push(...scores[row]!);
    }
    close(found[0]!, expected, tolerances.logProbability, `${name}: in calls, in company`, 1);
    close(found[1]!, expected.subarray(0, 20), tolerances.logProbability, `${name}: its company`, 1);
    // Logits stay what they were: score() leaves the sequence where forward() would.
    near(await forward(model, one, []), tableRow(table, length - 1), `${name}: logits after score()`);
  }),
);

check("rewind and replay = fresh", (scope) =>
  forEachCausal(scope, async (model, ids, name) => {
    const table = await logitsByCalls(model, scope.sequence(model), ids);
    const sequence = await scope.fed(model, ids);
    const other = someIds(8, model.config.vocabSize, 22);
    for (const kept of [60, 58, 50, 24, 33, 9, 1, 0]) {
      sequence.rewind(kept);
      same(sequence.length, kept, `${name}: length after a rewind to ${kept}`);
      // Another future first, so that what the rewind left is overwritten, then the old one.
      await forward(model, sequence, other);
      sequence.rewind(kept);
      near(
        await forward(model, sequence, ids.slice(kept)),
        tableRow(table, length - 1),
        `${name}: replay from ${kept}`,
      );
      sequence.rewind(kept + 1);
      near(await forward(model, sequence, []), tableRow(table, kept), `${name}: logits at ${kept} again`);
      await forward(model, sequence, ids.slice(kept + 1));
    }
  }),
);

check("logits and hidden states of inspect are those of forward, token by token and in company", async (scope) => {
  for (const spec of causal.slice(0, 4)) {
    const model = await scope.model(spec);
    const ids = someIds(20, model.config.vocabSize, 23, 8);
    const whole = await inspectOne(model, scope.sequence(model), ids, ["hidden", "logits"]);
    const { hiddenSize, vocabSize } = model.config;
    same(
      [whole.get("hidden")?.shape, whole.get("logits")?.shape],
      [
        [20, hiddenSize],
        [20, vocabSize],
      ],
      "Shapes",
    );
    const rows = [
      { sequence: await scope.fed(model, ids.slice(0, 8)), tokens: ids.slice(8) },
      { sequence: scope.sequence(model), tokens: ids.slice(0, 3) },
    ];
    const parts = await model.inspect(rows, ["hidden", "logits"]);
    for (const [name, width] of [
      ["hidden", hiddenSize],
      ["logits", vocabSize],
    ] as const) {
      const all = whole.get(name)!.data;
      near(parts[0]!.get(name)!.data, all.slice(8 * width), `${spec.fixture}: ${name} of tokens 8 to 20`);
      near(parts[1]!.get(name)!.data, all.slice(0, 3 * width), `${spec.fixture}: ${name} of tokens 0 to 3`);
    }
    near(await forward(model, rows[0]!.sequence, []), whole.get("logits")!.data.slice(19 * vocabSize), "forward()");
  }
});

check("long texts: one call = calls of 97 = a fork, a rewind and steps near the end", async (scope) => {
  // Beyond pages, tiles and the first growth of any buffer: 1,100 tokens, where nothing is dropped and where a window is.
  for (const fixture of ["legacy", "native"]) {
    const model = await scope.model({ fixture, context: 1200 });
    const ids = someIds(1100, model.config.vocabSize, 24);
    const expected = await forward(model, scope.sequence(model), ids);
    const calls = scope.sequence(model);
    for (let from = 0; from < 1067; from += 97) await forward(model, calls, ids.slice(from, from + 97));
    const branch = scope.fork(calls);
    near(await forward(model, calls, ids.slice(1067)), expected, `${fixture}: calls of 97`);
    await forward(model, branch, someIds(70, model.config.vocabSize, 25));
    branch.rewind(1050);
    let logits = expected;
    for (let at = 1050; at < 1100; at++) logits = await forward(model, branch, ids.slice(at, at + 1));
    near(logits, expected, `${fixture}: fork, rewind and 50 steps`);
  }
});
