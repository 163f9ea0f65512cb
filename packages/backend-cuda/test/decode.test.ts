// Decoding one row: the launch that makes all of its steps draws what the kernels for rows draw, on a device that brings weights to shared
// memory by itself and on one whose lanes copy them, at widths that fill neither a unit of the ring nor the last turn of a matrix.
import { type Config, checked, type DType } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { CudaBackend, dtypes } from "../src/backend.ts";
import { sines, small } from "./models.ts";
import { shimBinding, withoutShim } from "./shim.ts";

const config: Config = {
  ...small,
  vocabSize: 70,
  hiddenSize: 288,
  intermediateSize: 520,
  layers: 2,
  headDim: 16,
  maxPositions: 512,
  window: 512,
  attentionBias: true,
  mlpBias: true,
};
const checkpoint = sines(config, (columns) => 1 / Math.sqrt(columns));
const sampling = { temperature: 0.8, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 3, stop: [] };
// Keys for four chunks, which three slices share.
const text = Int32Array.from({ length: 200 }, (_, index) => (index * 37) % 70);

describe.skipIf(withoutShim !== undefined)(`decoding one row${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  const binding = withoutShim === undefined ? shimBinding() : (undefined as never);
  test.each(dtypes)("%s: alone on either device as beside another row", async (dtype: DType) => {
    const drawn: number[][] = [];
    for (const device of [0, 1]) {
      const raw = new CudaBackend("cuda-on-host-shim", binding, device, { device: "host shim", dtypes, trains: false });
      const backend = checked(raw);
      const model = await backend.load(checkpoint, { dtype, room: 2048 });
      for (const rows of [1, 2]) {
        const sequences = Array.from({ length: rows }, () => model.sequence());
        const found = await model.sample(
          sequences.map((sequence) => ({ sequence, tokens: text, count: 20, sampling })),
        );
        drawn.push(...found.map(({ ids }) => [...ids]));
      }
      await backend.close();
    }
    for (const ids of drawn) expect(ids).toEqual(drawn[0]);
  });
});
