// Ring "contract", fourth part: bad arguments get a typed error that names the value, and the engine works afterwards.
import { defaultSampling, type ErrorCode, type Model, type Row, type SampleRow, type Sampling } from "@doge-lm/core";
import { assert, rejects, same, throws } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { bitEqual } from "../compare.ts";
import { tokens } from "../random.ts";
import { forward } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { allowOnly } from "./contract.ts";

export const faultChecks: Check[] = [];
const check = inRing("contract", faultChecks);

/** All verbs that take rows, refused alike. */
async function allRefuse(model: Model, rows: readonly Row[], code: ErrorCode, what: string): Promise<Error> {
  await rejects(model.score(rows), code, `score(): ${what}`);
  await rejects(model.inspect(rows, ["logits"]), code, `inspect(): ${what}`);
  const draws = rows.map((row) => (row === null ? row : { ...row, count: 1, sampling: defaultSampling }));
  await rejects(model.sample(draws), code, `sample(): ${what}`);
  return rejects(model.forward(rows), code, `forward(): ${what}`);
}

/** Run `attempts` on a sequence of [1, 2, 3]; afterwards it and the model are as before. */
async function asBefore(scope: Scope, attempts: (model: Model, good: Row) => Promise<void>): Promise<void> {
  const model = await scope.model({ fixture: "native" });
  const expected = await forward(model, await scope.fed(model, tokens([1, 2, 3])), [4]);
  const sequence = await scope.fed(model, tokens([1, 2, 3]));
  await attempts(model, { sequence, tokens: tokens([4]) });
  same(sequence.length, 3, "Length afterwards");
  bitEqual(await forward(model, sequence, [4]), expected, "Logits afterwards");
}

check("ids outside the vocabulary are refused, with the id and the row", (scope) =>
  asBefore(scope, async (model, good) => {
    const other = scope.sequence(model);
    for (const id of [-1, 128, 2 ** 31 - 1, -(2 ** 31)]) {
      const rows = [good, { sequence: other, tokens: tokens([7, id]) }];
      const error = await allRefuse(model, rows, "invalid-token", `id ${id}`);
      assert(error.message.includes(String(id)), `The message should name the id ${id}: ${error.message}`);
      assert(/row 1\b/.test(error.message), `The message should name row 1: ${error.message}`);
    }
    same(other.length, 0, "Length of the row at fault");
  }),
);

check("a row without tokens on an empty sequence is refused", (scope) =>
  asBefore(scope, async (model, good) => {
    const error = await allRefuse(
      model,
      [good, { sequence: scope.sequence(model), tokens: tokens([]) }],
      "empty-prompt",
      "nothing to go on from",
    );
    assert(/row 1\b/.test(error.message), `The message should name row 1: ${error.message}`);
  }),
);

check("rows that are no rows are refused", (scope) =>
  asBefore(scope, async (model, good) => {
    await allRefuse(model, [good, good], "invalid-argument", "the same sequence twice");
    const other = await scope.ownModel({ fixture: "native", context: 16 });
    const foreign = { sequence: scope.sequence(other), tokens: tokens([1]) };
    await allRefuse(model, [foreign], "invalid-argument", "a sequence of another model");
    const wrong: [string, unknown][] = [
      ["ids that are no Int32Array", { ...good, tokens: [1, 2] }],
      ["no ids", { sequence: good.sequence }],
      ["no sequence", { tokens: tokens([1]) }],
      ["a made-up sequence", { sequence: { length: 0 }, tokens: tokens([1]) }],
      ["null", null],
    ];
    for (const [what, row] of wrong) await allRefuse(model, [row as Row], "invalid-argument", what);
  }),
);

check("no rows give no results", async ({ model }) => {
  const native = await model({ fixture: "native" });
  same(await native.forward([]), [], "forward([])");
  same(await native.score([]), [], "score([])");
  same(await native.sample([]), [], "sample([])");
  same(await native.inspect([], ["logits"]), [], "inspect([])");
});

check("options of a draw out of range are refused, with the option and its value", (scope) =>
  asBefore(scope, async (model, good) => {
    const row: SampleRow = { ...good, count: 2, sampling: defaultSampling };
    const bad: { readonly [Option in keyof Sampling]: readonly unknown[] } = {
      temperature: [-1, Number.NaN, Number.POSITIVE_INFINITY, "1"],
      topK: [-1, 1.5, Number.NaN],
      topP: [-0.1, 1.1, Number.NaN],
      minP: [-0.1, 1.1, Number.NaN],
      repetitionPenalty: [0, -1, Number.NaN, Number.POSITIVE_INFINITY],
      seed: [-1, 0.5, 2 ** 32, Number.NaN],
      stop: [[-1], [1.5], "x"],
    };
    for (const [option, values] of Object.entries(bad)) {
      for (const value of values) {
        const sampling = { ...defaultSampling, [option]: value } as Sampling;
        const error = await rejects(
          model.sample([{ ...row, sampling }]),
          "invalid-argument",
          `${option} ${String(value)}`,
        );
        assert(error.message.includes(option), `The message should name ${option}: ${error.message}`);
      }
    }
    for (const count of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      await rejects(model.sample([{ ...row, count }]), "invalid-argument", `count ${count}`);
    }
    for (const alternatives of [-1, 21, 1.5, Number.NaN]) {
      await rejects(model.sample([{ ...row, alternatives }]), "invalid-argument", `alternatives ${alternatives}`);
    }
    for (const allowed of [new Uint32Array(3), [1, 2, 3, 4]]) {
      const masked = { ...row, allowed } as SampleRow;
      await rejects(model.sample([masked]), "invalid-argument", `a mask of ${allowed.length} words for 128 ids`);
    }
  }),
);

check("a mask may be as long as the vocabulary needs, and bits beyond it mean nothing", async ({ model, fed }) => {
  const odd = await model({ fixture: "odd" }); // 131 ids: the fifth word has three bits in use
  const mask = allowOnly(odd.config.vocabSize, [130]);
  mask[4] = 0xfffffffc; // id 130, and 29 ids that do not exist
  const sequence = await fed(odd, tokens([1, 2]));
  const [drawn] = await odd.sample([
    { sequence, tokens: tokens([]), count: 3, sampling: defaultSampling, allowed: mask },
  ]);
  same(drawn!.ids, [130, 130, 130], "Draws where one id is allowed");
});

check("a rewind to no length is refused", async ({ model, fed }) => {
  const native = await model({ fixture: "native" });
  const sequence = await fed(native, tokens([1, 2, 3]));
  for (const length of [-1, 1.5, Number.NaN])
    throws(() => sequence.rewind(length), "invalid-argument", `rewind(${length})`);
  same(sequence.length, 3, "Length afterwards");
});

check("a refused call does not hold up others", async (scope) => {
  const model = await scope.model({ fixture: "native" });
  const [one, two] = [scope.sequence(model), scope.sequence(model)];
  const bad = model.forward([{ sequence: one, tokens: tokens([1, 999]) }]);
  const good = model.forward([{ sequence: two, tokens: tokens([1, 2]) }]);
  await rejects(bad, "invalid-token", "id 999");
  same((await good)[0]!.length, 128, "The call of another sequence");
  same((await forward(model, one, [1])).length, 128, "The next call of the refused one");
});
