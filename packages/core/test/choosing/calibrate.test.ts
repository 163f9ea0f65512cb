// The calibration itself: the slices it loads, and what it makes of their times.
import { describe, expect, test } from "vitest";
import { type CalibrateOptions, calibrate, loadSlice } from "../../src/choosing/calibrate.ts";
import { sliceCheckpoint, sliceOf, weightsRead } from "../../src/choosing/slice.ts";
import { type Config, type Provider, readTensor, tensorShapes } from "../../src/index.ts";
import { config } from "../running/mock.ts";
import { Clock, fake, withModels } from "./fakes.ts";

const large: Config = {
  ...config,
  vocabSize: 32768,
  hiddenSize: 512,
  intermediateSize: 1024,
  layers: 16,
  heads: 4,
  headDim: 128,
};

describe("a slice", () => {
  test("has the widths of the model and its share of the vocabulary", () => {
    const one = sliceOf(large, 1, 256);
    expect(one).toMatchObject({
      layers: 1,
      vocabSize: 2048,
      hiddenSize: 512,
      intermediateSize: 1024,
      maxPositions: 256,
    });
    expect(sliceOf(large, 2, 256).vocabSize).toBe(4096);
    // 16 slices are the model, but for the last norm that each has.
    expect(16 * weightsRead(one)).toBe(weightsRead(large) + 15 * large.hiddenSize);
  });

  test("an untied head is read, the rows of other tokens and other experts are not", () => {
    const experts = { count: 4096, perToken: 8, side: 64, normalize: false, indexing: "expert" as const };
    expect(sliceOf({ ...large, experts }, 1, 256).experts).toEqual({ ...experts, count: 256, side: 16 });
    expect(sliceOf({ ...large, experts: { ...experts, perToken: 300 } }, 1, 256).experts!.count).toBe(4096);
    const router = 2 * 64 * 512 * large.layers;
    expect(weightsRead({ ...large, experts })).toBe(weightsRead(large) + router);
    expect(weightsRead({ ...large, tied: false })).toBe(weightsRead(large));
  });

  test("has weights that any piece of reads the same, finite, norms near 1 and the rest small", async () => {
    const source = sliceCheckpoint(sliceOf({ ...config, hiddenSize: 300 }, 1, 64));
    for (const [name, shape] of tensorShapes(source.config)) {
      const all = await readTensor(source, name);
      expect(all.length).toBe(shape.reduce((a, b) => a * b, 1));
      const near = /norm\.weight$|_residual$/.test(name) ? 1 : 0;
      expect(all.every((value) => Math.abs(value - near) <= 0.055)).toBe(true);
      const bytes = await source.read(name, 0, 2 * all.length);
      const from = all.length > 3 ? 6 : 0;
      expect(await source.read(name, from, from + 2)).toEqual(bytes.slice(from, from + 2));
    }
  });
});

describe("a calibration", () => {
  const options = (clock: Clock) => ({
    config: { ...config, layers: 10 },
    dtype: "f32" as const,
    milliseconds: 60_000,
    now: clock.now,
  });
  const rateOf = async (provider: Provider, options: CalibrateOptions) => {
    const backend = await provider.open();
    return calibrate(backend, await loadSlice(backend, 1, options), options);
  };

  test("takes one layer and two, and makes of them what all layers take", async () => {
    const clock = new Clock();
    const loaded: number[] = [];
    const counting = withModels(fake("one", { clock, layerMs: 2, tokenMs: 3 }), (model, layers) => {
      loaded.push(layers);
      return model;
    });
    expect(await rateOf(counting, options(clock))).toBeCloseTo(1000 / 23, 6);
    expect(loaded).toEqual([1, 2]);
  });

  test("of a model of one layer one slice is all there is", async () => {
    const clock = new Clock();
    const one = fake("one", { clock, layerMs: 2, tokenMs: 3 });
    expect(await rateOf(one, { ...options(clock), config })).toBeCloseTo(1000 / 5, 6);
  });

  test("counts the best of several timings: what else a machine does makes them longer only", async () => {
    const clock = new Clock();
    let calls = 0;
    const disturbed = fake("one", {
      clock,
      ready: (backend) => {
        const { onCall } = backend;
        backend.onCall = (...call) => {
          onCall(...call);
          if (++calls % 4 === 0) clock.time += 500;
        };
      },
    });
    expect(await rateOf(disturbed, options(clock))).toBeCloseTo(1000 / 10, 6);
  });

  test("where the second layer seems to cost more than the first, or nothing, it is bounded", async () => {
    for (const [two, expected] of [
      [5, 10],
      [0.5, 1.9],
    ] as const) {
      const clock = new Clock();
      const odd = fake("one", {
        clock,
        layerMs: 0,
        ready: (backend) => {
          backend.onCall = (_, rows, { layers }) => {
            for (const { tokens, count = 0 } of rows) clock.time += (tokens.length + count) * (layers === 1 ? 1 : two);
          };
        },
      });
      expect(await rateOf(odd, options(clock))).toBeCloseTo(1000 / expected, 6);
    }
  });

  test("leaves no model behind, and works by a clock that only tells tens of milliseconds", async () => {
    const clock = new Clock();
    const coarse = fake("one", { clock, layerMs: 0.05 });
    const now = () => Math.floor(clock.time / 20) * 20;
    const rate = await rateOf(coarse, { ...options(clock), now });
    expect(rate).toBeGreaterThan(500);
    expect(rate).toBeLessThan(12_000);
    const { log } = coarse.opened[0]!;
    expect(log.filter((entry) => entry === "close model").length).toBe(2);
  });
});
