// What the conformance suite does not ask of every backend: how the reference rewinds beyond its journal, what its inspect
// shows, and that its weights are the numbers of their dtype.
import { small as smallest } from "@doge-lm/conformance/models";
import type { Config, DType, Model, Sequence } from "@doge-lm/core";
import {
  dequantizeQ4,
  dequantizeQ8,
  fromBf16,
  memoryCheckpoint,
  quantizable,
  quantizeQ4,
  quantizeQ8,
  tensorShapes,
  toBf16,
} from "@doge-lm/core";
import { describe, expect, it } from "vitest";
import { reference } from "../src/index.ts";

const small: Config = { ...smallest, hiddenSize: 36, intermediateSize: 20, layers: 2, headDim: 6, window: 8 };
const withExperts: Config = {
  ...small,
  experts: { count: 16, perToken: 4, side: 4, normalize: false, indexing: "expert" },
};

/** Numbers in -1 … 1 from a counter: the same on every machine. */
function someNumbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

function someWeights(config: Config): Map<string, Float32Array> {
  const tensors = new Map<string, Float32Array>();
  for (const [name, shape] of tensorShapes(config)) {
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    const scale = shape.length === 1 ? 0.4 : 2 / Math.sqrt(shape.at(-1)!);
    const around = /norm|residual/.test(name) ? 1 : 0;
    tensors.set(
      name,
      someNumbers(size, tensors.size + 1).map((value) => around + scale * value),
    );
  }
  return tensors;
}

async function load(
  config: Config,
  options: { dtype?: DType; context?: number; room?: number; weights?: Map<string, Float32Array> } = {},
) {
  const { weights = someWeights(config), ...rest } = options;
  const backend = await reference().open();
  return backend.load(memoryCheckpoint(config, weights), rest);
}

const ids = (count: number, seed = 7) =>
  Int32Array.from(someNumbers(count, seed), (value) => Math.floor((value + 1) * 20) % 40);

async function logits(model: Model, sequence: Sequence, tokens: Int32Array<ArrayBuffer>): Promise<Float32Array> {
  return (await model.forward([{ sequence, tokens }]))[0]!;
}

describe("sequences", () => {
  for (const [name, config] of [
    ["dense", small],
    ["experts under reference routing", withExperts],
  ] as const) {
    it(`go back across the window, within the journal and beyond it (${name})`, async () => {
      const model = await load(config);
      const text = ids(150);
      for (const length of [149, 120, 87, 86, 60, 9, 8, 1]) {
        const sequence = model.sequence();
        const fresh = model.sequence();
        for (let from = 0; from < 150; from += 10) await logits(model, sequence, text.slice(from, from + 10));
        sequence.rewind(length);
        // The same calls: under reference routing they are part of the state. A rewind within one cuts it short.
        for (let from = 0; from < length; from += 10)
          await logits(model, fresh, text.slice(from, Math.min(length, from + 10)));
        const next = text.slice(length, length + 1);
        expect(await logits(model, sequence, next)).toEqual(await logits(model, fresh, next));
        sequence.close();
        fresh.close();
      }
    });
  }

  it("go on from the last token as if it had just been appended", async () => {
    const model = await load(small);
    const sequence = model.sequence();
    const text = ids(30);
    const first = await logits(model, sequence, text);
    expect(await logits(model, sequence, new Int32Array(0))).toEqual(first);
    expect(sequence.length).toBe(30);
  });

  it("share the room of a common past", async () => {
    const model = await load(small, { context: 30, room: 30 });
    const parent = model.sequence();
    await logits(model, parent, ids(10));
    expect(model.room).toBe(20);
    const child = parent.fork();
    await logits(model, child, ids(5));
    expect(model.room).toBe(15);
    parent.rewind(4);
    parent.close();
    await logits(model, child, ids(1));
    expect(model.room).toBe(14);
    const other = model.sequence();
    await expect(logits(model, other, ids(15))).rejects.toMatchObject({ code: "no-room" });
    child.close();
    await logits(model, other, ids(30));
    expect(model.room).toBe(0);
  });

  it("count the draws of a sample call before it begins", async () => {
    const model = await load(small, { context: 14, room: 14 });
    await logits(model, model.sequence(), ids(2));
    const sequence = model.sequence();
    const sampling = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 3, stop: [] };
    const row = { sequence, tokens: ids(8), sampling };
    await expect(model.sample([{ ...row, count: 5 }])).rejects.toMatchObject({ code: "no-room" });
    expect(sequence.length).toBe(0);
    const [drawn] = await model.sample([{ ...row, count: 4 }]);
    expect(drawn!.ids).toHaveLength(4);
    expect(model.room).toBe(0);
  });
});

describe("inspect", () => {
  it("shows a stream that is gated, then added to, layer by layer", async () => {
    const weights = someWeights(withExperts);
    const model = await load(withExperts, { weights });
    const names = ["embedding"];
    for (const layer of [0, 1])
      for (const part of ["attention", "mlp", "residual"]) names.push(`layers.${layer}.${part}`);
    const [seen] = await model.inspect([{ sequence: model.sequence(), tokens: ids(11) }], names);
    const { hiddenSize } = small;
    let before = seen!.get("embedding")!.data;
    for (const layer of [0, 1]) {
      const part = (name: string) => seen!.get(`layers.${layer}.${name}`)!.data;
      const gate = (name: string) => weights.get(`model.layers.${layer}.${name}_residual`)!;
      const expected = before.map((value, index) => {
        const channel = index % hiddenSize;
        const middle = Math.fround(gate("input")[channel]! * value + part("attention")[index]!);
        return gate("post_attention")[channel]! * middle + part("mlp")[index]!;
      });
      expect(part("residual")).toEqual(expected);
      before = part("residual");
    }
  });

  it("shows the appended tokens only, in their shapes, and nothing for names it does not have", async () => {
    const model = await load(small);
    const sequence = model.sequence();
    const text = ids(20);
    const names = [
      "hidden",
      "logits",
      "layers.1.bias",
      "layers.1.value",
      "layers.0.key",
      "layers.0.query",
      "layers.9.bias",
    ];
    const [whole] = await model.inspect([{ sequence: model.sequence(), tokens: text }], names);
    await logits(model, sequence, text.slice(0, 12));
    const [part] = await model.inspect([{ sequence, tokens: text.slice(12) }], names);
    expect([...part!.keys()].sort()).toEqual(names.slice(0, -1).sort());
    const shapes = Object.fromEntries([...part!].map(([name, { shape }]) => [name, shape]));
    expect(shapes).toEqual({
      hidden: [8, 36],
      logits: [8, 40],
      "layers.0.key": [8, 12],
      "layers.0.query": [8, 24],
      "layers.1.value": [8, 12],
      "layers.1.bias": [2, 8],
    });
    expect(part!.get("logits")!.data).toEqual(whole!.get("logits")!.data.slice(12 * 40));
    const bias = (tensor: Float32Array, length: number, head: number) =>
      tensor.slice(head * length, (head + 1) * length);
    for (const head of [0, 1]) {
      const all = bias(whole!.get("layers.1.bias")!.data, 20, head);
      expect(bias(part!.get("layers.1.bias")!.data, 8, head)).toEqual(all.slice(12));
    }
    const [empty] = await model.inspect([{ sequence, tokens: new Int32Array(0) }], ["logits", "hidden"]);
    expect(empty!.get("logits")!.shape).toEqual([0, 40]);
    expect(empty!.get("hidden")!.shape).toEqual([0, 36]);
  });
});

describe("dtypes", () => {
  const rounding = {
    bf16: (values: Float32Array) => fromBf16(toBf16(values)),
    q8: (values: Float32Array, columns: number) => dequantizeQ8(quantizeQ8(values, columns), columns),
    q4: (values: Float32Array, columns: number) => dequantizeQ4(quantizeQ4(values, columns), columns),
  };
  for (const dtype of ["bf16", "q8", "q4"] as const) {
    it(`${dtype} computes with exactly the numbers that core makes of the weights`, async () => {
      const weights = someWeights(withExperts);
      const rounded = new Map(weights);
      for (const [name, shape] of tensorShapes(withExperts)) {
        if (quantizable(name)) rounded.set(name, rounding[dtype](weights.get(name)!, shape.at(-1)!));
      }
      const model = await load(withExperts, { dtype, weights });
      expect(model.dtype).toBe(dtype);
      const text = ids(25);
      const found = await logits(model, model.sequence(), text);
      const same = await load(withExperts, { weights: rounded });
      expect(found).toEqual(await logits(same, same.sequence(), text));
      const exact = await load(withExperts, { weights });
      expect(found).not.toEqual(await logits(exact, exact.sequence(), text));
    });
  }
});

describe("load", () => {
  it("refuses a window over more biases than key/value heads", async () => {
    await expect(load({ ...small, qkNorm: false, biasHeads: 4 })).rejects.toMatchObject({ code: "unsupported-layout" });
  });
});
