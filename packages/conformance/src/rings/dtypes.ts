// Ring "numerics", fifth part: weights held as bf16, q8 or q4 are core's numbers, and cost no more than they may.
import {
  type Checkpoint,
  type DType,
  dequantizeQ4,
  dequantizeQ8,
  type Floats,
  fromBf16,
  memoryCheckpoint,
  quantizable,
  quantizeQ4,
  quantizeQ8,
  readTensor,
  toBf16,
} from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { close, divergence } from "../compare.ts";
import type { DemoModel } from "../demo.ts";
import { someIds } from "../random.ts";
import { logitsByCalls, logitsBySteps, tableRow } from "../runs.ts";
import type { Scope, Stage } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const dtypeChecks: Check[] = [];
const check = inRing("numerics", dtypeChecks);

type Rounded = Exclude<DType, "f32">;

/** The f32 checkpoint whose weights are exactly what `dtype` holds. */
async function roundedCheckpoint(checkpoint: Checkpoint, dtype: Rounded): Promise<Checkpoint> {
  const tensors = new Map<string, Float32Array>();
  for (const [name, { shape }] of checkpoint.tensors) {
    const values = await readTensor(checkpoint, name);
    tensors.set(name, quantizable(name) ? rounded(values, shape.at(-1)!, dtype) : values);
  }
  return memoryCheckpoint(checkpoint.config, tensors);
}

function rounded(values: Float32Array, columns: number, dtype: Rounded): Float32Array {
  if (dtype === "bf16") return fromBf16(toBf16(values));
  if (dtype === "q8") return dequantizeQ8(quantizeQ8(values, columns), columns);
  return dequantizeQ4(quantizeQ4(values, columns), columns);
}

/** Logits at every position of some of the demo model's texts. */
async function demoTables(scope: Scope, demo: DemoModel, dtype: DType): Promise<Floats[][]> {
  const backend = await scope.stage.backend();
  const model = await backend.load(demo.checkpoint, { context: 512, dtype });
  scope.later(() => model.close());
  const tables = [];
  for (const { ids: prompt, continuation, endsAfter } of demo.texts.slice(0, 4)) {
    const ids = [...prompt, ...continuation.slice(0, endsAfter)];
    const table = await logitsByCalls(model, scope.sequence(model), ids);
    tables.push(Array.from(ids, (_, at) => tableRow(table, at)));
  }
  return tables;
}
/** Those in f32, of each backend: every dtype is compared with the same. */
const exact = new WeakMap<Stage, Promise<Floats[][]>>();

const mean = (numbers: readonly number[]): number => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;

for (const dtype of ["bf16", "q8", "q4"] as const) {
  const skip: Check["skip"] = ({ can }) => (can.dtypes.includes(dtype) ? undefined : `the backend has no ${dtype}`);

  check(
    `weights are held as core rounds them: ${dtype}`,
    async (scope) => {
      // Without a selection (window, experts) that rounding could turn: what differs is the arithmetic alone.
      for (const fixture of ["native", "legacy", "rope-linear"]) {
        const { checkpoint } = await scope.fixture(fixture);
        const model = await scope.model({ fixture, dtype });
        same(model.dtype, dtype, "model.dtype");
        const backend = await scope.stage.backend();
        const roundedWeights = await roundedCheckpoint(checkpoint, dtype);
        const exact = await backend.load(roundedWeights, { context: 64 });
        scope.later(() => exact.close());
        const again = await backend.load(roundedWeights, { context: 64, dtype });
        scope.later(() => again.close());
        const ids = someIds(40, model.config.vocabSize, 90);
        const expected = await logitsByCalls(exact, scope.sequence(exact), ids);
        const twice = await logitsByCalls(again, scope.sequence(again), ids);
        const once = await logitsByCalls(model, scope.sequence(model), ids);
        close(twice.data, once.data, tolerances.sameWeights, `${fixture}: weights that are ${dtype} already`);
        for (const found of [once, await logitsBySteps(model, scope.sequence(model), ids)]) {
          const apart = mean(Array.from(ids, (_, at) => divergence(tableRow(expected, at), tableRow(found, at))));
          const bound = tolerances.klActivations[dtype];
          assert(
            apart <= bound,
            `${fixture}: mean KL from f32 arithmetic on the same weights is ${apart}, allowed ${bound}.`,
          );
        }
      }
    },
    skip,
  );

  check(
    `quality on the demo model: ${dtype}`,
    async (scope) => {
      const demo = await scope.stage.demo();
      if (typeof demo === "string") return scope.skip(demo);
      const tables = exact.get(scope.stage) ?? demoTables(scope, demo, "f32");
      exact.set(scope.stage, tables);
      const [wanted, held] = [await tables, await demoTables(scope, demo, dtype)];
      const found = wanted.flatMap((table, text) =>
        Array.from(table, (logits, at) => divergence(logits, held[text]![at]!)),
      );
      const bound = tolerances.klDemo[dtype];
      assert(mean(found) <= bound, `Mean KL to f32 over ${found.length} tokens is ${mean(found)}, allowed ${bound}.`);
    },
    skip,
  );
}
