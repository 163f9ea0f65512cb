// Decoding one row: the launch that makes all of its steps draws what the kernels for rows draw, on a device that brings weights to shared
// memory by itself and on one whose lanes copy them, at widths that fill neither a unit of the ring nor the last turn of a matrix.
import { sines, small } from "@doge-lm/conformance/models";
import { type Backend, type Checkpoint, type Config, checked, type DType, type Model } from "@doge-lm/core";
import { assertAgreesWithItself } from "@doge-lm/core/backend-kit";
import { describe, expect, test, vi } from "vitest";
import { CudaBackend, dtypes } from "../src/backend.ts";
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

// Blocks that wait for each other are threads on the shim, which beside other work wait for their turn too.
vi.setConfig({ testTimeout: 240_000 });

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

  test.each(dtypes)(
    "%s: a token's own key and value are those that its page keeps, alone and in any company",
    async (dtype) => {
      // Large queries, to which it shows what keys are rounded to; few tokens, for of many keys the own one weighs little; as many ids as are
      // told; and many rows on a device without tensor cores, for they round activations.
      const its: Config = { ...config, vocabSize: 20, layers: 1, headDim: 32 };
      const numbers = sines(its, (columns) => 1 / Math.sqrt(columns));
      const sharp: Checkpoint = {
        ...numbers,
        read: async (name, ...range) => {
          const bytes = await numbers.read(name, ...range);
          const scale = name.endsWith("q_norm.weight") ? 8 : 1;
          return new Uint8Array(new Float32Array(bytes.buffer).map((number) => scale * number).buffer);
        },
      };
      const found: { ids: number[]; logprobs: number[][] }[] = [];
      for (const [device, rows, clusters] of [
        [1, 1, 0],
        [1, 2, 0],
        [1, 9, 0],
        [0, 1, 1],
      ] as const) {
        process.env.DOGE_CLUSTERS = `${clusters}`;
        const raw = new CudaBackend("cuda-on-host-shim", binding, device, {
          device: "host shim",
          dtypes,
          trains: false,
        });
        const backend = checked(raw);
        const model = await backend.load(sharp, { dtype, room: 2048 });
        delete process.env.DOGE_CLUSTERS;
        const clustered = binding.clustered();
        const row = { tokens: Int32Array.of(5), count: 4, sampling };
        // Steps that tell more than ids are launched by a graph, which has clusters once a launch of its own had them.
        await model.sample([{ sequence: model.sequence(), ...row }]);
        const [drawn] = await model.sample(
          Array.from({ length: rows }, () => ({ sequence: model.sequence(), ...row, alternatives: 20 })),
        );
        expect(binding.clustered() - clustered).toBe(2 * clusters);
        const logprobs = [0, 1, 2, 3].map((draw) => {
          const all: number[] = [];
          for (let at = 20 * draw; at < 20 * (draw + 1); at++) all[drawn!.topIds[at]!] = drawn!.topLogprobs[at]!;
          return all;
        });
        found.push({ ids: [...drawn!.ids], logprobs });
        await backend.close();
      }
      const [alone, ...beside] = found;
      for (const { ids, logprobs } of beside) {
        expect(ids).toEqual(alone!.ids);
        const gaps = logprobs.flatMap((draw, index) =>
          draw.map((each, id) => Math.abs(each - alone!.logprobs[index]![id]!)),
        );
        expect(Math.max(...gaps)).toBeLessThan(2e-6);
      }
    },
  );

  test("a device whose draws of one row go wrong is refused", async () => {
    const backend = new CudaBackend("cuda-on-host-shim", binding, 0, { device: "host shim", dtypes, trains: false });
    const check = { engine: "This GPU", dtypes: ["f32"], few: 8, apart: 0.05, draws: 12 } as const;
    const wrong = (at: number): Backend => ({
      name: backend.name,
      can: backend.can,
      load: async (...from) => {
        const model = await backend.load(...from);
        const sample = model.sample.bind(model);
        model.sample = async (rows) => {
          const [drawn] = await sample(rows);
          return [
            { ...drawn!, ids: drawn!.ids.map((id, index) => (index === at ? (id + 1) % model.config.vocabSize : id)) },
          ];
        };
        return model;
      },
      close: async () => {},
    });
    try {
      await assertAgreesWithItself(wrong(-1), check);
      await expect(assertAgreesWithItself(wrong(11), check)).rejects.toThrow(/draws \d+ as draw 12 of a single text/);
    } finally {
      await backend.close();
    }
  });

  test("a model with a shorter ring takes no shared memory from one with a longer", async () => {
    const raw = new CudaBackend("cuda-on-host-shim", binding, 0, { device: "host shim", dtypes, trains: false });
    const backend = checked(raw);
    const draw = async (model: Model) => {
      const [found] = await model.sample([{ sequence: model.sequence(), tokens: text, count: 6, sampling }]);
      return [...found!.ids];
    };
    try {
      const long = await backend.load(checkpoint, { dtype: "bf16", room: 2048 });
      const alone = await draw(long);
      process.env.DOGE_RING = "1";
      const short = await backend.load(checkpoint, { dtype: "bf16", room: 2048 });
      expect(await draw(short)).toEqual(alone);
      expect(await draw(long)).toEqual(alone);
    } finally {
      delete process.env.DOGE_RING;
      await backend.close();
    }
  });
});
