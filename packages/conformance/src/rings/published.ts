// Ring "numerics", fourth part: the attention of the published models, which no fixture has: heads of 128, two to a key, over more tokens
// than a tile or a chunk of any backend holds. Engines have kernels of their own for prompts and for the step of a single text.
import { type Config, type DType, memoryCheckpoint } from "@doge-lm/core";
import { type Check, inRing } from "../check.ts";
import { close } from "../compare.ts";
import { randomTensors, someIds, tokens } from "../random.ts";
import { forward } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const publishedChecks: Check[] = [];
const check = inRing("numerics", publishedChecks);

/** Shaped as Doge-20M but for its depth, its feed-forward and its vocabulary. The window, as there, is as long as the context. */
const shape = {
  ...{
    hiddenSize: 256,
    heads: 2,
    kvHeads: 1,
    headDim: 128,
    biasHeads: 1,
    layers: 2,
    intermediateSize: 64,
    vocabSize: 96,
  },
  ...{ maxPositions: 256, window: 256 },
} as const satisfies Partial<Config>;
const context = 160;

async function everyWay(scope: Scope, dtype: DType): Promise<void> {
  const { checkpoint } = await scope.fixture("native");
  const config: Config = { ...checkpoint.config, ...shape };
  const backend = await scope.stage.backend();
  const model = await backend.load(memoryCheckpoint(config, randomTensors(config, 101)), {
    dtype,
    context,
    room: 20 * context,
  });
  scope.later(() => model.close());
  const tolerance = dtype === "f32" ? tolerances.repeated : tolerances.roundedRepeat;
  const near = (actual: Float32Array, expected: Float32Array, what: string) =>
    close(actual, expected, tolerance, `${dtype}: ${what}`);
  const text = someIds(144, config.vocabSize, 50);
  for (const past of [1, 64, 140]) {
    const whole = await forward(model, scope.sequence(model), text.slice(0, past + 3));
    const sequence = await scope.fed(model, text.slice(0, past));
    const beside = scope.fork(sequence);
    // Three steps, for each reads what the one before it kept.
    let [alone, together]: [Float32Array, Float32Array] = [whole, whole];
    for (let at = past; at < past + 3; at++) {
      alone = await forward(model, sequence, [text[at]!]);
      const step = tokens([text[at]!]);
      const company = scope.fork(beside);
      [together] = (await model.forward([
        { sequence: beside, tokens: step },
        { sequence: company, tokens: step },
      ])) as [Float32Array];
    }
    near(alone, whole, `three steps behind ${past} tokens`);
    near(together, whole, `three steps behind ${past} tokens, beside another text`);
  }
}

for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
  check(
    `heads of 128: a prompt = steps of one text = steps of two: ${dtype}`,
    (scope) => everyWay(scope, dtype),
    ({ can }) => (can.dtypes.includes(dtype) ? undefined : `the backend has no ${dtype}`),
  );
}
