// Ring "numerics", fourth part: mixtures of experts under "reference" routing, where a state depends on where calls began.
import { defaultSampling } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { close, largestDifference, logSoftmax } from "../compare.ts";
import { someIds, tokens } from "../random.ts";
import { forward, inspectOne, logitsByCalls, tableRow } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const expertChecks: Check[] = [];
const check = inRing("numerics", expertChecks);

const fixtures = ["moe", "legacy-moe", "moe-index-bug"] as const;
const near = (actual: ArrayLike<number>, expected: ArrayLike<number>, what: string) =>
  close(actual, expected, tolerances.repeated, what);

async function forEach(scope: Scope, run: (model: Awaited<ReturnType<Scope["model"]>>, name: string) => Promise<void>) {
  for (const fixture of fixtures) await run(await scope.model({ fixture, routing: "reference" }), fixture);
}

check("reference routing mixes the tokens of a call, and of no other row", (scope) =>
  forEach(scope, async (model, name) => {
    const ids = someIds(21, 128, 80);
    const changed = ids.slice();
    changed[20] = (changed[20]! + 1) % 128;
    const whole = await logitsByCalls(model, scope.sequence(model), ids);
    const other = await logitsByCalls(model, scope.sequence(model), changed);
    // The quirk is there at all: a later token moves earlier logits.
    const { difference } = largestDifference(other.data.subarray(0, 20 * 128), whole.data.subarray(0, 20 * 128));
    assert(
      difference > 1e-3,
      `${name}: the last token of a call moved no earlier logits; this is not reference routing.`,
    );
    // Rows in company are as alone.
    const cuts = [21, 6, 13, 1];
    const together = await model.forward(
      cuts.map((cut) => ({ sequence: scope.sequence(model), tokens: ids.slice(0, cut) })),
    );
    for (const [row, cut] of cuts.entries()) {
      near(
        together[row]!,
        await forward(model, scope.sequence(model), ids.slice(0, cut)),
        `${name}: row of ${cut} tokens`,
      );
    }
  }),
);

check("every drawn id is a call of one, in every chunk", (scope) =>
  forEach(scope, async (model, name) => {
    const prompt = someIds(11, 128, 81);
    const sampling = { ...defaultSampling, seed: 21 };
    for (const chunks of [[9], [1, 1, 1, 1, 1, 1, 1, 1, 1], [4, 5]]) {
      const sequence = scope.sequence(model);
      const ids: number[] = [];
      for (const [index, count] of chunks.entries()) {
        const [drawn] = await model.sample([{ sequence, tokens: index === 0 ? prompt : tokens([]), count, sampling }]);
        ids.push(...drawn!.ids);
      }
      const steps = await logitsByCalls(
        model,
        scope.sequence(model),
        [...prompt, ...ids],
        [11, ...new Array(9).fill(1)],
      );
      near(await forward(model, sequence, []), tableRow(steps, 19), `${name}: chunks of ${chunks.join(", ")}`);
      // A token appended later is its own call as well.
      const more = await forward(model, sequence, [5, 6]);
      const expected = await logitsByCalls(
        model,
        scope.sequence(model),
        [...prompt, ...ids, 5, 6],
        [11, ...new Array(9).fill(1), 2],
      );
      near(more, tableRow(expected, 21), `${name}: a call of two behind ${chunks.join(", ")}`);
    }
  }),
);

check("a rewind into a call leaves what a call ending there would have left", (scope) =>
  forEach(scope, async (model, name) => {
    const ids = someIds(30, 128, 82);
    const ends = [8, 20, 30];
    // Cuts inside the third call, at a boundary, inside the second, at a boundary, and inside the first.
    for (const kept of [29, 25, 20, 19, 15, 8, 7, 1]) {
      const sequence = scope.sequence(model);
      let from = 0;
      for (const end of ends) {
        await forward(model, sequence, ids.slice(from, end));
        from = end;
      }
      const calls: number[] = [];
      for (const [index, end] of ends.entries()) {
        const start = ends[index - 1] ?? 0;
        if (start < kept) calls.push(Math.min(end, kept) - start);
      }
      const branch = scope.fork(sequence);
      const direct = scope.fork(sequence);
      for (const cut of [sequence, branch, direct]) {
        cut.rewind(kept);
        const plain = scope.sequence(model);
        const table = await logitsByCalls(model, plain, ids.slice(0, kept), calls);
        // Once without asking for the last logits, which may evaluate the cut call anew.
        if (cut !== direct)
          near(await forward(model, cut, []), tableRow(table, kept - 1), `${name}: rewound to ${kept}`);
        near(
          await forward(model, cut, ids.slice(20, 27)),
          await forward(model, plain, ids.slice(20, 27)),
          `${name}: ${kept}, then 7`,
        );
      }
    }
  }),
);

check("a rewind into drawn ids leaves calls of one", (scope) =>
  forEach(scope, async (model, name) => {
    const prompt = someIds(10, 128, 83);
    const sequence = scope.sequence(model);
    const [drawn] = await model.sample([
      { sequence, tokens: prompt, count: 8, sampling: { ...defaultSampling, seed: 3 } },
    ]);
    sequence.rewind(14);
    const ids = [...prompt, ...drawn!.ids.slice(0, 4)];
    const expected = await logitsByCalls(model, scope.sequence(model), ids, [10, 1, 1, 1, 1]);
    near(await forward(model, sequence, []), tableRow(expected, 13), `${name}: rewound to the fourth draw`);
    sequence.rewind(7);
    near(
      await forward(model, sequence, []),
      await forward(model, scope.sequence(model), prompt.slice(0, 7)),
      `${name}: into the prompt`,
    );
  }),
);

check("score under reference routing is that of the same calls", (scope) =>
  forEach(scope, async (model, name) => {
    const ids = someIds(25, 128, 84);
    const calls = [9, 1, 12, 3];
    const table = await logitsByCalls(model, scope.sequence(model), ids, calls);
    const expected = Float64Array.from(ids, (id, at) => (at === 0 ? 0 : logSoftmax(tableRow(table, at - 1))[id]!));
    const sequence = scope.sequence(model);
    const found: number[] = [];
    let from = 0;
    for (const count of calls) {
      const [ln] = await model.score([{ sequence, tokens: ids.slice(from, from + count) }]);
      found.push(...ln!);
      from += count;
    }
    close(found, expected, tolerances.logProbability, name, 1);
    near(await forward(model, sequence, []), tableRow(table, 24), `${name}: logits after score()`);
  }),
);

check("biases and values do not depend on the routing in layer 0", async (scope) => {
  const ids = someIds(20, 128, 85);
  const seen = [];
  for (const routing of ["reference", "per-token"] as const) {
    const model = await scope.model({ fixture: "moe", routing });
    seen.push(await inspectOne(model, scope.sequence(model), ids, ["layers.0.value", "layers.0.bias", "hidden"]));
  }
  for (const name of ["layers.0.value", "layers.0.bias"]) {
    const [left, right] = seen.map((tensors) => tensors.get(name));
    if (left !== undefined && right !== undefined) near(left.data, right.data, name);
  }
  const { difference } = largestDifference(seen[0]!.get("hidden")!.data, seen[1]!.get("hidden")!.data);
  assert(difference > 1e-3, "Both routings give the same hidden states.");
  same(seen[0]!.get("hidden")!.shape, seen[1]!.get("hidden")!.shape, "Shapes");
});
