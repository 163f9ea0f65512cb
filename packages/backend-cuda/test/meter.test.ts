// What driving the device takes, counted where launches and copies are made: the structure of a decoding step, which on a GPU is most of
// its time.
import { sines, small } from "@doge-lm/conformance/models";
import { checked } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { CudaBackend, dtypes } from "../src/backend.ts";
import { type DeviceCounts, meterOf } from "../src/meter.ts";
import { shimBinding, withoutShim } from "./shim.ts";

const LAYERS = small.layers;
const checkpoint = sines(small);
const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 3, stop: [] };

describe.skipIf(withoutShim !== undefined)(`the meter${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  const opened = () => {
    const raw = new CudaBackend("cuda-on-host-shim", shimBinding(), 0, { device: "host shim", dtypes, trains: false });
    return { backend: checked(raw), meter: meterOf(shimBinding(), raw.device, 1) };
  };
  const between = (from: DeviceCounts, to: DeviceCounts): Record<string, number> =>
    Object.fromEntries(Object.entries(to).map(([name, value]) => [name, value - from[name as keyof DeviceCounts]]));

  test.each([2, 8, 9, 20])(
    "eight steps of %i rows are one launch of a graph, and bring back nothing but ids",
    async (rows) => {
      const { backend, meter } = opened();
      const model = await backend.load(checkpoint, { dtype: "bf16", room: 8192 });
      const sequences = Array.from({ length: rows }, () => model.sequence());
      await model.forward(sequences.map((sequence, row) => ({ sequence, tokens: Int32Array.of(row, 5, 9) })));
      const draw = async (count: number): Promise<Record<string, number>> => {
        const before = meter.counts();
        const drawn = await model.sample(
          sequences.map((sequence) => ({ sequence, tokens: new Int32Array(), count, sampling })),
        );
        expect(drawn.every(({ ids }) => ids.length === count)).toBe(true);
        for (const sequence of sequences) sequence.rewind(3);
        return between(before, meter.counts());
      };
      await draw(25); // memory is taken, the graph is captured
      const [few, many] = [await draw(9), await draw(25)];
      const steps = Object.fromEntries(Object.entries(many).map(([name, value]) => [name, value - few[name]!]));
      // A layer: two norms, four matrices, rope with keys, values and biases stored, attention; for many rows the values of layer 0
      // apart. A step: whose token is next, embedding, final norm, head, draw.
      const step = 5 + LAYERS * 8 + (rows >= 9 ? 1 : 0);
      expect(steps).toEqual({
        launches: 16 * step,
        submissions: 2,
        bytesIn: rows * 4, // the number of one page more
        bytesOut: 16 * rows * 4,
        allocations: 0,
        bytesHeld: 0,
      });
      await backend.close();
    },
  );

  test.each([
    ["without filters, one launch up to 64 draws", sampling, 1, { launches: 1, submissions: 1 }],
    ["without filters, one launch up to 64 draws", sampling, 65, { launches: 2, submissions: 2 }],
    [
      "with filters, two launches a draw",
      { ...sampling, temperature: 0.8, topP: 0.9 },
      1,
      { launches: 2, submissions: 1 },
    ],
    [
      "with filters, eight draws in a graph",
      { ...sampling, temperature: 0.8, topK: 20 },
      17,
      { launches: 34, submissions: 3 },
    ],
  ])("a text of one row that goes on is, %s", async (_, of, count, expected) => {
    const { backend, meter } = opened();
    const model = await backend.load(checkpoint, { dtype: "bf16", room: 8192 });
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: Int32Array.of(1, 5, 9) }]);
    const draw = async (): Promise<Record<string, number>> => {
      const before = meter.counts();
      const [drawn] = await model.sample([{ sequence, tokens: new Int32Array(), count, sampling: of }]);
      expect(drawn!.ids.length).toBe(count);
      sequence.rewind(3);
      return between(before, meter.counts());
    };
    await draw(); // memory is taken, the graph is captured
    expect(await draw()).toMatchObject({ ...expected, allocations: 0, bytesHeld: 0 });
    await backend.close();
  });

  test("a prompt beside many rows that go on is a pass of its own, and every row draws what it draws alone", async () => {
    const { backend, meter } = opened();
    const model = await backend.load(checkpoint, { dtype: "bf16", room: 8192 });
    const prompt = Int32Array.from({ length: 40 }, (_, index) => (index * 7) % 30);
    const of = { ...sampling, temperature: 0.8 };
    // The prompt stands among the others.
    const draw = async (rows: number, withPrompt: boolean): Promise<{ ids: number[][]; launches: number }> => {
      const texts = Array.from({ length: rows }, (_, row) => Int32Array.of(row, 5, 9));
      if (withPrompt) texts.splice(rows >> 1, 0, prompt);
      const before = meter.counts();
      const drawn = await model.sample(
        texts.map((tokens, row) => ({ sequence: model.sequence(), tokens, count: 1, sampling: { ...of, seed: row } })),
      );
      return { ids: drawn.map(({ ids }) => [...ids]), launches: between(before, meter.counts()).launches! };
    };
    const passes = async (rows: number): Promise<number> => {
      const [with_, without] = [await draw(rows, true), await draw(rows, false)];
      return with_.launches - without.launches;
    };
    const alone = (await draw(0, true)).launches;
    expect(await passes(7)).toBeLessThan(alone / 2);
    expect(await passes(8)).toBe(alone);
    const { ids } = await draw(8, true);
    const texts = Array.from({ length: 8 }, (_, row) => Int32Array.of(row, 5, 9));
    texts.splice(4, 0, prompt);
    for (const [row, tokens] of texts.entries()) {
      const [drawn] = await model.sample([
        { sequence: model.sequence(), tokens, count: 1, sampling: { ...of, seed: row } },
      ]);
      expect([...drawn!.ids]).toEqual(ids[row]);
    }
    await backend.close();
  });

  test("tokens whose logits nobody wants end with the keys of the last layer", async () => {
    const { backend, meter } = opened();
    const model = await backend.load(checkpoint, { dtype: "bf16", room: 8192 });
    const tokens = Int32Array.from({ length: 20 }, (_, index) => index);
    const launches = async (count: number): Promise<number> => {
      const before = meter.counts();
      await model.sample([{ sequence: model.sequence(), tokens, count, sampling }]);
      return between(before, meter.counts()).launches!;
    };
    // A layer as above, and the values of layer 0 apart; of the last one a norm, the projections and rope. Before them the embedding.
    expect(await launches(0)).toBe(1 + 8 * (LAYERS - 1) + 1 + 3);
    // Attention, its output, a norm and two matrices more; the final norm, the head and a draw.
    expect(await launches(1)).toBe(1 + 8 * LAYERS + 1 + 3);
    await backend.close();
  });

  test("a model tells what its weights take, and how keys and values are held", async () => {
    const { backend, meter } = opened();
    const before = meter.counts().bytesHeld;
    const sizes: number[] = [];
    for (const dtype of ["f32", "bf16", "q8"] as const) {
      const model = await backend.load(checkpoint, { dtype });
      expect(model.details).toMatchObject({ kvDtype: dtype === "f32" ? "f32" : "f16" });
      sizes.push(Number(model.details!.weightBytes));
      expect(meter.counts().bytesHeld - before).toBeGreaterThan(sizes.at(-1)!);
      model.close();
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    expect(sizes[0]).toBeGreaterThan(1.6 * sizes[1]!);
    expect(sizes[1]).toBeGreaterThan(1.1 * sizes[2]!);
    await backend.close();
  });

  test.each(dtypes)(
    "%s: a token's keys and values take 4 bytes a number in f32, else 2, and its biases 4",
    async (dtype) => {
      const { backend, meter } = opened();
      const held = async (room: number): Promise<number> => {
        const model = await backend.load(checkpoint, { dtype, room });
        const { bytesHeld } = meter.counts();
        model.close();
        await new Promise((resolve) => setTimeout(resolve, 0));
        return bytesHeld;
      };
      const { kvHeads, headDim, biasHeads } = small;
      const numbers = 2 * kvHeads * headDim * (dtype === "f32" ? 4 : 2);
      // Where a window keeps a key and until when are two more; of 16 tokens the number of their page.
      const token = LAYERS * (numbers + 4 * (biasHeads + 2 * kvHeads)) + 4 / 16;
      expect((await held(8192)) - (await held(4096))).toBe(4096 * token);
      await backend.close();
    },
  );

  test("ceilings are measured by loops that run, tensor cores only where there are some", async () => {
    const { backend, meter } = opened();
    const made = shimBinding().made();
    const rates = meter.rates(1 << 16);
    for (const rate of [rates.bytes, rates.macs, rates.tensorMacs])
      expect(Number.isFinite(rate) && rate > 0).toBe(true);
    expect(shimBinding().made()).toBe(made);
    const without = shimBinding().open(1);
    expect(meterOf(shimBinding(), without, 1).rates(1 << 12).tensorMacs).toBe(0);
    shimBinding().closeDevice(without);
    expect(() => meterOf(shimBinding(), shimBinding().open(1), 0).rates(16)).toThrow(
      expect.objectContaining({ code: "invalid-argument" }),
    );
    await backend.close();
  });
});
