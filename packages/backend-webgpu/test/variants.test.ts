// Every form of the kernels gives the numbers of the reference, and weights cut into parts give those of whole ones.

import { checks, runCheck, Stage } from "@doge-lm/conformance/checks";
import {
  type Backend,
  type Config,
  type DType,
  defaultSampling,
  type Floats,
  isDogeError,
  type Model,
  memoryCheckpoint,
  type Provider,
  readTensor,
  type Sequence,
  type Tokens,
} from "@doge-lm/core";
import { reference } from "@doge-lm/reference";
import { afterAll, describe, expect, test } from "vitest";
import { type WebgpuOptions, webgpu } from "../src/index.ts";
import { software } from "./software.ts";
import { seeded, small, variants } from "./support.ts";

const answer = await software().probe();
const absent = !answer.available;
const why = absent ? ` (skipped: ${answer.why})` : "";
/** Logits of this small model have a standard deviation of about 1; weights are the same numbers, sums are f32. */
const tolerance = 1e-4;

/** Root mean square of what rounding activations to 8 bits does to them: 0.02 to 0.03 is measured with 32 columns. */
const roundedTolerance = 0.06;

const ids = Int32Array.from({ length: 30 }, (_, index) => (index * index * 7 + 3) % 64);

/** Logits after a prompt beyond the window, then after a step; and some draws. */
async function text(model: Model): Promise<{ logits: Floats[]; drawn: number[] }> {
  const sequence = model.sequence();
  const [first] = await model.forward([{ sequence, tokens: ids }]);
  const [second] = await model.forward([{ sequence, tokens: Int32Array.of(9) }]);
  const sampling = { temperature: 0.9, topK: 20, topP: 0.95, minP: 0.01, repetitionPenalty: 1.1, seed: 7, stop: [] };
  const [drawn] = await model.sample([{ sequence, tokens: Int32Array.of(11), count: 6, sampling }]);
  return { logits: [first!, second!], drawn: [...drawn!.ids] };
}

/** Backends by their options: opening one is compiling, seconds of it for kernels with barriers. */
const opened = new Map<string, Promise<Backend>>();
afterAll(async () => {
  for (const backend of opened.values()) await (await backend).close();
});

async function open(options: WebgpuOptions): Promise<Backend> {
  const key = JSON.stringify(options);
  const opening = opened.get(key) ?? software(options).open();
  opened.set(key, opening);
  const backend = await opening;
  expect(backend.can.warnings).toBeUndefined(); // no other form took its place
  return backend;
}

/** What a backend makes of each of these models. */
async function on(
  backend: Backend,
  models: readonly (readonly [Config, DType])[],
): Promise<Awaited<ReturnType<typeof text>>[]> {
  const results = [];
  for (const [config, dtype] of models) {
    const model = await backend.load(seeded(config), { dtype });
    results.push(await text(model));
    model.close();
  }
  return results;
}

async function expected(config: Config, dtype: DType): Promise<Awaited<ReturnType<typeof text>>> {
  const backend = await reference().open();
  return text(await backend.load(seeded(config), { dtype }));
}

function near(found: Awaited<ReturnType<typeof text>>, wanted: Awaited<ReturnType<typeof text>>): void {
  found.logits.forEach((logits, call) => {
    const apart = logits.map((logit, id) => Math.abs(logit - wanted.logits[call]![id]!));
    expect(Math.max(...apart)).toBeLessThan(tolerance);
  });
  expect(found.drawn).toEqual(wanted.drawn);
}

/** Steps of a single text without a window, whose keys are dealt to four or eight teams in chunks of 64 slots, behind so many tokens:
 *  none, about a chunk, more chunks than teams. One is inspected, the next reads what it kept. */
async function dealt(backend: Backend, config: Config, dtype: DType, befores = [0, 1, 63, 64, 65, 600]): Promise<void> {
  const judge = await (await reference().open()).load(seeded(config), { dtype });
  const model = await backend.load(seeded(config), { dtype });
  for (const before of befores) {
    const tokens = Int32Array.from({ length: before + 2 }, (_, index) => (index * index * 7 + 3) % 64);
    const steps = async (model: Model) => {
      const sequence = model.sequence();
      if (before > 0) await model.forward([{ sequence, tokens: tokens.subarray(0, before) }]);
      const names = ["layers.0.bias", "layers.0.value", "logits"];
      const [inside] = await model.inspect([{ sequence, tokens: tokens.subarray(before, -1) }], names);
      const [logits] = await model.forward([{ sequence, tokens: tokens.subarray(-1) }]);
      return [...names.map((name) => inside!.get(name)!.data), logits!];
    };
    const wanted = await steps(judge);
    const apart = (await steps(model)).map((numbers, index) =>
      Math.max(...numbers.map((number, at) => Math.abs(number - wanted[index]![at]!))),
    );
    // A bias may be large: exp(A softplus(delta)).
    const near = apart.map((most, index) => most < tolerance * (index === 0 ? Math.max(1, ...wanted[0]!) : 1));
    expect({ dtype, before, apart, near }).toEqual({ dtype, before, apart, near: [true, true, true, true] });
  }
  expect(await stopped(model)).toEqual(await stopped(judge));
  model.close();
}

/** A text that stops in the middle of a submit, and goes on as if nothing had run behind the stop. */
async function stopped(model: Model): Promise<number[][]> {
  const tokens = ids.subarray(0, 5);
  const greedy = { ...defaultSampling, temperature: 0 };
  const sample = async (sequence: Sequence, tokens: Tokens, count: number, stop: readonly number[]) => {
    const [drawn] = await model.sample([{ sequence, tokens, count, sampling: { ...greedy, stop } }]);
    return [...drawn!.ids];
  };
  const whole = await sample(model.sequence(), tokens, 9, []);
  const sequence = model.sequence();
  return [
    whole,
    await sample(sequence, tokens, 9, [whole[4]!]),
    await sample(sequence, Int32Array.of(7), 9, []),
    [sequence.length],
  ];
}

/** A software adapter compiles kernels with barriers for seconds. */
const timeout = 300_000;

test("a GPU that would have to emulate packed products does without, whatever its compiler knows", async () => {
  const kernels = async (vendor: string) => {
    const features = new Set(["subgroups", "shader-f16"]);
    const gpu = {
      requestAdapter: async () => ({ info: { vendor, architecture: "one" }, features, limits: {} }),
      wgslLanguageFeatures: new Set(["subgroup_id", "packed_4x8_integer_dot_product"]),
    };
    const found = await webgpu({ gpu: gpu as unknown as GPU }).probe();
    return found.available ? found.details!.kernels : found.why;
  };
  expect(await kernels("nvidia")).toBe("subgroups + f16 + packed");
  expect(await kernels("apple")).toBe("subgroups + f16");
});

describe.skipIf(absent)(`forms of the kernels${why}`, () => {
  const experts = { count: 16, perToken: 3, side: 4, normalize: true, indexing: "grid" } as const;
  const one: Config = { ...small, layers: 1 };

  test.each(["base", "subgroups"])("%s: dense, experts, q8, and steps dealt to teams", { timeout }, async (name) => {
    const models = [
      [one, "f32"],
      [{ ...one, experts }, "f32"],
      [one, "q8"],
    ] as const;
    const free: Config = { ...one, window: null, maxPositions: 1024 };
    // A stream that is whole, one in addends, the last of them not full, and a last layer without mlp.
    const deep = { layers: 3, intermediateSize: 600 };
    const backend = await open({ variant: variants[name]! });
    const found = await on(backend, models);
    for (const [index, [config, dtype]] of models.entries()) near(found[index]!, await expected(config, dtype));
    await dealt(backend, free, "f32");
    if (name !== "base") return await dealt(backend, { ...free, ...deep }, "f32", [1]);
    await dealt(backend, { ...free, heads: 2, headDim: 132 }, "q8");
    // Rows of several turns and a rest, biases everywhere and of every head, and heads enough for four teams each.
    const wide: Config = { ...free, ...deep, hiddenSize: 268, heads: 8, kvHeads: 4, headDim: 68, biasHeads: 8 };
    const biased: Config = { ...wide, attentionBias: true, mlpBias: true, qkNorm: false };
    for (const dtype of ["bf16", "q4"] as const) await dealt(backend, biased, dtype, [65, 300]);
  });

  // Where tokens begin a text alike, their biases tie in every layer, if attention over equal values gives that value to the bit.
  test("subgroups: the goldens under a keep window", { timeout }, async () => {
    const backend = await open({ variant: variants.subgroups! });
    const provider: Provider = { ...software(), open: async () => backend };
    const stage = new Stage({ provider, can: backend.can, notes: {} });
    const goldens = checks.filter(({ name }) => name.startsWith("golden logits: window"));
    expect(goldens).toHaveLength(2);
    for (const check of goldens) await runCheck(check, stage);
  });

  // Of other forms with f16 or packed integers, tools/adapters.ts judges what lavapipe computes: SwiftShader takes a minute to
  // compile them and has no f16.
  test("barrier-free, packed: activations in 8 bits, f32 as it was", { timeout }, async () => {
    const models = [
      [one, "f32"],
      [one, "q8"],
      [{ ...one, experts }, "q4"],
    ] as const;
    const [exact, ...rounded] = await on(await open({ variant: { packed: true } }), models);
    near(exact!, await expected(one, "f32"));
    for (const [index, [config, dtype]] of models.slice(1).entries()) {
      const wanted = await expected(config, dtype);
      rounded[index]!.logits.forEach((logits, call) => {
        const squares = logits.map((logit, id) => (logit - wanted.logits[call]![id]!) ** 2);
        const apart = Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length);
        expect(apart).toBeLessThan(roundedTolerance);
        expect(apart).toBeGreaterThan(tolerance); // or nothing was rounded
      });
    }
  });

  test("experts: the ties of scores go to the lowest id, in every form", { timeout }, async () => {
    // A router of zeros scores every pair alike: the experts are 0, 1, 2 for every token.
    const config: Config = { ...one, experts: { ...experts, indexing: "expert" } };
    const checkpoint = seeded(config);
    const router = "model.layers.0.mlp.router_gate.weight";
    const tensors = new Map<string, Float32Array>();
    for (const name of checkpoint.tensors.keys()) tensors.set(name, await readTensor(checkpoint, name));
    tensors.get(router)!.fill(0);
    const tied = memoryCheckpoint(config, tensors);
    const plain = await (await reference().open()).load(tied);
    const wanted = await plain.forward([{ sequence: plain.sequence(), tokens: ids }]);
    for (const name of ["barrier-free", "base"]) {
      const backend = await open({ variant: variants[name]! });
      const model = await backend.load(tied);
      const [found] = await model.forward([{ sequence: model.sequence(), tokens: ids }]);
      expect(Math.max(...found!.map((logit, id) => Math.abs(logit - wanted[0]![id]!)))).toBeLessThan(tolerance);
      model.close();
    }
  });

  test("a vocabulary larger than a binding of 1 MiB is cut, and gives the same bits", { timeout }, async () => {
    // 9,000 rows of 128 bytes: 1.1 MiB.
    const models = [[{ ...one, vocabSize: 9000 }, "f32"]] as const;
    expect(await on(await open({ bindingLimit: 2 ** 20 }), models)).toEqual(await on(await open({}), models));
  });

  test("layers larger than a binding are cut too, in every dtype", { timeout }, async () => {
    const wide: Config = { ...one, hiddenSize: 64, intermediateSize: 1200, heads: 8, maxPositions: 64 };
    const models = (["f32", "bf16", "q8", "q4"] as const).map((dtype) => [wide, dtype] as const);
    // Keys of a layer take 68 KiB; each matrix of the feed-forward 300, 150, 75 and 38 KiB.
    expect(await on(await open({ bindingLimit: 80_000 }), models)).toEqual(await on(await open({}), models));
  });

  test("heads wider than the kernels hold are refused in words", { timeout }, async () => {
    const loading = (await open({})).load(seeded({ ...one, headDim: 512 }));
    expect(await loading.catch((error) => isDogeError(error, "unsupported"))).toBe(true);
  });
});
