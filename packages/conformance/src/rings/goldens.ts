// Ring "numerics", first part: the committed goldens, made by another implementation (transformers, eager, float32).
import type { Model } from "@doge-lm/core";
import { defaultSampling } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { close, greedyAgrees } from "../compare.ts";
import { type Fixture, fixtureNames, type GoldenCase } from "../fixtures.ts";
import { tokens } from "../random.ts";
import { forward, inspectOne, logitsByCalls } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const goldenChecks: Check[] = [];
const check = inRing("numerics", goldenChecks);

/** The model a case is for: its routing, and a context in which it fits (the RoPE fixture goes beyond its positions). */
const modelOf = (scope: Scope, fixture: Fixture, golden: GoldenCase): Promise<Model> =>
  scope.model({
    fixture: fixture.name,
    ...(golden.routing === undefined ? {} : { routing: golden.routing }),
    context: Math.max(fixture.checkpoint.config.maxPositions, 128),
  });

const title = (golden: GoldenCase): string => (golden.routing ? `${golden.name} (${golden.routing})` : golden.name);

for (const name of fixtureNames) {
  check(`golden logits: ${name}`, async (scope) => {
    const fixture = await scope.fixture(name);
    let compared = 0;
    for (const golden of fixture.cases) {
      const expected = fixture.array(golden, "logits");
      if (expected === undefined) continue;
      const model = await modelOf(scope, fixture, golden);
      const table = await logitsByCalls(model, scope.sequence(model), golden.ids, golden.calls);
      const found = table.data.subarray(golden.logitsFrom! * table.width);
      close(found, expected.data, tolerances.logits, `${name}, ${title(golden)}`, golden.logitsStd);
      // The same text through forward(), which shows the last position of each call only.
      const sequence = scope.sequence(model);
      let from = 0;
      for (const length of golden.calls!) {
        const logits = await forward(model, sequence, golden.ids.slice(from, from + length));
        from += length;
        const at = (from - 1 - golden.logitsFrom!) * table.width;
        if (at < 0) continue;
        const what = `${name}, ${title(golden)}, forward() to position ${from - 1}`;
        close(logits, expected.data.subarray(at, at + table.width), tolerances.logits, what, golden.logitsStd);
      }
      compared++;
    }
    assert(compared > 0, `The fixture ${name} has no golden logits.`);
  });

  check(`golden greedy text: ${name}`, async (scope) => {
    const fixture = await scope.fixture(name);
    const cases = fixture.cases.filter((golden) => golden.greedy !== undefined);
    assert(cases.length > 0, `The fixture ${name} has no greedy text.`);
    for (const golden of cases) {
      const model = await modelOf(scope, fixture, golden);
      const sampling = { ...defaultSampling, temperature: 0 };
      for (const chunk of [golden.greedy!.length, 1, 5]) {
        const sequence = scope.sequence(model);
        const ids: number[] = [];
        while (ids.length < golden.greedy!.length) {
          const count = Math.min(chunk, golden.greedy!.length - ids.length);
          const prompt = tokens(ids.length === 0 ? golden.ids : []);
          const [drawn] = await model.sample([{ sequence, tokens: prompt, count, sampling }]);
          same(drawn!.ids.length, count, "Number of draws");
          ids.push(...drawn!.ids);
        }
        const what = `${name}, ${title(golden)}, chunks of ${chunk}`;
        greedyAgrees(ids, golden.greedy!, golden.margins!, tolerances.greedyMargin, what);
      }
    }
  });
}

check("golden scores", async (scope) => {
  let compared = 0;
  for (const name of fixtureNames) {
    const fixture = await scope.fixture(name);
    for (const golden of fixture.cases) {
      const expected = fixture.array(golden, "score");
      if (expected === undefined) continue;
      const model = await modelOf(scope, fixture, golden);
      const [ln] = await model.score([{ sequence: scope.sequence(model), tokens: tokens(golden.ids) }]);
      same([ln!.length, ln![0]], [golden.ids.length, 0], `${name}: ids scored, and the first one's number`);
      close(ln!.subarray(1), expected.data, tolerances.logProbability, `${name}, ${title(golden)}`, 1);
      compared++;
    }
  }
  assert(compared > 0, "No fixture has golden scores.");
});

check("golden hidden states, and biases and values where the backend shows them", async (scope) => {
  let compared = 0;
  for (const name of fixtureNames) {
    const fixture = await scope.fixture(name);
    for (const golden of fixture.cases) {
      const names = Object.keys(golden.arrays ?? {}).filter(
        (array) => array === "hidden" || array.startsWith("layers."),
      );
      if (names.length === 0) continue;
      const model = await modelOf(scope, fixture, golden);
      const seen = await inspectOne(model, scope.sequence(model), tokens(golden.ids), [...names, "no.such.tensor"]);
      assert(!seen.has("no.such.tensor"), "inspect() invented a tensor that does not exist.");
      assert(seen.has("hidden"), `inspect() left out "hidden", which every backend has.`);
      for (const array of names) {
        const tensor = seen.get(array);
        if (tensor === undefined) continue;
        const expected = fixture.array(golden, array)!;
        const what = `${name}, ${title(golden)}, ${array}`;
        same(tensor.shape, expected.shape, `${what}: shape`);
        close(tensor.data, expected.data, tolerances.tensor, what);
        compared++;
      }
    }
  }
  assert(compared > 0, "No fixture has golden hidden states.");
});
