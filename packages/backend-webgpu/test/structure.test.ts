// How a text is driven through the device, counted by standing in the way of the device's own methods. Nothing here needs a GPU:
// Dawn's null device compiles every kernel and checks every call, and computes nothing.
//
//   dispatches of a token, L layers        dense   3L + 4    embed, L x (slices, output, mlp), head, draw; in the last layer gated, down
//                                          under a window that drops keys, among other texts, and barrier-free
//                                                  5L + 3    L x (qkv, attention, output, gated, down)
//                                          experts + 4L      router, choose, their down, their up
//   more of them for filters, seeds, alternatives, a full window or a long context: none
//   more of them for each further part of a split vocabulary: 2 (embed, head); of another split matrix: 1
import { type DType, defaultSampling, type Model, type SampleRow } from "@doge-lm/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Gpu } from "../src/device.ts";
import { formats } from "../src/kernels/formats.ts";
import { everyKernel } from "../src/kernels/index.ts";
import { matmul } from "../src/kernels/matmul.ts";
import { mergeWidthOf, sliceTeams } from "../src/kernels/slice-plan.ts";
import { Counter } from "./software.ts";
import { featuresFor, nullBackend, nullDawn, seeded, small, variants } from "./support.ts";

const gpu = await nullDawn();
const why = gpu === null ? " (skipped: the package webgpu, Dawn for Node, is not installed)" : "";
const K = 16;

const row = (model: Model, count: number, more: Partial<SampleRow> = {}): SampleRow => ({
  sequence: model.sequence(),
  tokens: Int32Array.from({ length: 7 }, (_, index) => index + 1),
  count,
  sampling: { ...defaultSampling, temperature: 0 },
  ...more,
});

describe.skipIf(gpu === null).each(Object.keys(variants))(`the %s kernels${why}`, (name) => {
  const variant = variants[name]!;
  const counter = new Counter();
  let load: (over?: object, options?: object, dtype?: DType) => Promise<Model>;
  const closers: (() => Promise<void>)[] = [];
  /** Workgroups of each dispatch, in the grid's first direction. */
  const widths: number[] = [];
  const grids = (device: GPUDevice): GPUDevice => {
    const encoder = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (descriptor) => {
      const made = encoder(descriptor);
      const begin = made.beginComputePass.bind(made);
      made.beginComputePass = (options) => {
        const pass = begin(options);
        const dispatch = pass.dispatchWorkgroups.bind(pass);
        pass.dispatchWorkgroups = (x, y, z) => {
          widths.push(x);
          dispatch(x, y, z);
        };
        return pass;
      };
      return made;
    };
    return device;
  };

  beforeAll(() => {
    // Forms that differ in q8 alone are driven in q8.
    load = async (over = {}, options = {}, dtype = variant.packed || variant.f16 ? "q8" : "f32") => {
      const backend = await nullBackend(gpu!, variant, {
        tokensPerSubmit: K,
        onDevice: (device) => counter.onDevice(grids(device)),
        ...options,
      });
      closers.push(() => backend.close());
      return backend.load(seeded({ ...small, ...over }), { room: 2000, dtype });
    };
  });
  afterAll(async () => {
    for (const close of closers) await close();
  });

  /** Dispatches of one more token, in a chunk that begins with a draw. */
  async function perToken(model: Model, more: Partial<SampleRow> = {}): Promise<number> {
    const counts: number[] = [];
    for (const count of [1, 1, 1 + 10]) {
      counter.reset();
      await model.sample([row(model, count, more)]);
      counts.push(counter.counts.dispatches);
    }
    return (counts[2]! - counts[1]!) / 10;
  }

  test("WGSL of every kernel compiles", async () => {
    const adapter = (await gpu!.requestAdapter())!;
    const device = await adapter.requestDevice({ requiredFeatures: featuresFor(variant) });
    const kernels = everyKernel(variant);
    const own = new Gpu(device, variant);
    for (const kernel of kernels) {
      const { name, code, bindings, call } = kernel;
      device.pushErrorScope("validation");
      const { messages } = await device.createShaderModule({ label: name, code }).getCompilationInfo();
      const error = await device.popErrorScope();
      expect([name, error?.message, ...messages.map(({ message }) => message)]).toEqual([name, undefined]);
      // What every device has: eight storage buffers for a kernel.
      const storage = [...bindings, ...call].filter((binding) => binding !== "uniform").length;
      expect(storage).toBeLessThanOrEqual(8);
      // And the rest: 16 KiB of workgroup memory, 256 threads.
      await own.pipeline(kernel);
    }
    expect(new Set(kernels.map(({ name }) => name)).size).toBe(kernels.length);
    device.destroy();
  });

  /** Dispatches of a token for a single text without a window. */
  const dense = (layers: number) => (variant.serial ? 5 * layers + 3 : 3 * layers + 4);

  test.each([1, 2, 5, 8])(
    "a token of a dense model of %i layers takes 3L + 4 dispatches, 5L + 3 barrier-free",
    async (layers) => {
      expect(await perToken(await load({ layers, window: null }))).toBe(dense(layers));
    },
  );

  test("where the feed-forward's matrices are cut in three, each part takes one, and mlp is left out", async () => {
    // 4,096 rows of 128 bytes, 32 of 16 KiB.
    const wide = { layers: 3, window: null, intermediateSize: 4096 };
    const model = await load(wide, { bindingLimit: 200_000 }, "f32");
    expect(await perToken(model)).toBe((variant.serial ? 9 : 8) * 3 + 3);
  });

  test.each([1, 2, 5, 8])("under a window it takes 5L + 3", async (layers) => {
    expect(await perToken(await load({ layers }))).toBe(5 * layers + 3);
  });

  test("a model tells how its keys are held: f16 only where the form has it and the weights are rounded too", async () => {
    expect((await load()).details?.kvDtype).toBe(variant.f16 ? "f16" : "f32");
    expect((await load({}, {}, "f32")).details?.kvDtype).toBe("f32");
  });

  test("filters, seeds, penalties and alternatives take no more", async () => {
    const model = await load();
    const sampling = {
      ...defaultSampling,
      temperature: 0.8,
      topK: 5,
      topP: 0.9,
      minP: 0.01,
      repetitionPenalty: 1.2,
      seed: 9,
    };
    expect(await perToken(model, { sampling })).toBe(5 * small.layers + 3);
    expect(await perToken(model, { sampling, alternatives: 3 })).toBe(5 * small.layers + 3);
  });

  test("a window that is full takes no more", async () => {
    const model = await load();
    const tokens = Int32Array.from({ length: 60 }, (_, index) => index);
    expect(await perToken(model, { tokens })).toBe(5 * small.layers + 3);
  });

  test("without a window it takes no more, its keys dealt to several teams", async () => {
    for (const window of [null, small.maxPositions]) {
      const model = await load({ window });
      expect(await perToken(model)).toBe(dense(small.layers));
      widths.length = 0;
      await model.sample([row(model, 2)]);
      const dealt = widths.filter((groups) => groups === sliceTeams(small, 8)).length;
      expect(dealt).toBe(variant.serial ? 0 : small.layers);
    }
  });

  test("a single token whose logits nobody reads", async () => {
    const model = await load({ window: null });
    await model.sample([row(model, 0, { tokens: Int32Array.of(1) })]);
    const [logits] = await model.forward([row(model, 0, { tokens: Int32Array.of(1) })]);
    expect(logits).toHaveLength(small.vocabSize);
  });

  test("a mixture of experts takes 4L more, whatever its ids", async () => {
    const experts = { count: 16, perToken: 3, side: 4, normalize: false } as const;
    const free = await load({ window: null, experts: { ...experts, indexing: "expert" } });
    expect(await perToken(free)).toBe((variant.serial ? 9 : 8) * small.layers + 3);
    expect(await perToken(await load({ experts: { ...experts, indexing: "expert" } }))).toBe(9 * small.layers + 3);
    expect(await perToken(await load({ experts: { ...experts, indexing: "grid" } }))).toBe(9 * small.layers + 3);
  });

  test("each further part of the vocabulary takes two more", async () => {
    // 2,000 rows of 128 bytes.
    const model = await load({ vocabSize: 2000 }, { bindingLimit: 200_000 }, "f32");
    expect(await perToken(model)).toBe(5 * small.layers + 3 + 2);
  });

  test("rows share their dispatches", async () => {
    const model = await load();
    const counts: number[] = [];
    for (const count of [1, 1, 11]) {
      counter.reset();
      await model.sample(Array.from({ length: 5 }, () => row(model, count)));
      counts.push(counter.counts.dispatches);
    }
    expect((counts[2]! - counts[1]!) / 10).toBe(5 * small.layers + 3);
  });

  test("a chunk of n tokens is ceil(n / K) submits of one pass each, and reads 4 bytes a token", async () => {
    const model = await load();
    await model.sample([row(model, 60)]);
    for (const count of [1, 2, K, K + 1, 60]) {
      counter.reset();
      const [drawn] = await model.sample([row(model, count)]);
      expect(drawn!.ids.length).toBe(count);
      expect(counter.counts.submits).toBe(Math.ceil(count / K));
      expect(counter.counts.passes).toBe(Math.ceil(count / K));
      expect(counter.counts.bytesOut).toBe(4 * count);
    }
  });

  test("nothing is made and nothing written in the token loop: two writes a call, whatever its length", async () => {
    const model = await load();
    await model.sample([row(model, 60)]);
    for (const count of [1, 17, 60]) {
      counter.reset();
      await model.sample([row(model, count)]);
      expect(counter.counts.creates).toBe(0);
      expect(counter.counts.writes).toBe(2);
    }
  });
});

test.each([
  [8, 64, 512],
  [6, 128, 1024],
  [8, 256, 2048],
])("a step of %i heads of %i numbers has workgroup memory for %i", (heads, headDim, widest) => {
  expect(mergeWidthOf({ ...small, heads, headDim })).toBe(widest);
  const { code } = matmul(variants.base!, {
    ...{ format: formats.q8, ending: "residual", norm: false, span: "one", merge: { slices: 4, widest, addends: 32 } },
  });
  const arrays = code.matchAll(/var<workgroup> \w+: array<(f32|vec4f), (\d+)>/g);
  const bytes = Array.from(arrays, ([, type, count]) => (type === "f32" ? 4 : 16) * Number(count));
  expect(bytes.reduce((sum, one) => sum + one, 0)).toBeLessThan(6 * widest + 1024);
});

test.skipIf(gpu === null)(`weights that arrive are submitted, and waited for, a part at a time${why}`, async () => {
  // Bytes written behind the last submit, and behind the last wait.
  let [unsubmitted, unfinished, mostUnsubmitted, mostUnfinished, all] = [0, 0, 0, 0, 0];
  const onDevice = (device: GPUDevice): GPUDevice => {
    const { queue } = device;
    const [write, submit, done] = [queue.writeBuffer, queue.submit, queue.onSubmittedWorkDone];
    queue.writeBuffer = (...args: Parameters<GPUQueue["writeBuffer"]>) => {
      const bytes = args[2].byteLength;
      [unsubmitted, unfinished, all] = [unsubmitted + bytes, unfinished + bytes, all + bytes];
      [mostUnsubmitted, mostUnfinished] = [
        Math.max(mostUnsubmitted, unsubmitted),
        Math.max(mostUnfinished, unfinished),
      ];
      return write.apply(queue, args);
    };
    queue.submit = (buffers) => {
      unsubmitted = 0;
      return submit.call(queue, buffers);
    };
    queue.onSubmittedWorkDone = async () => {
      const before = unfinished - unsubmitted;
      await done.call(queue);
      unfinished -= before;
    };
    return device;
  };
  const backend = await nullBackend(gpu!, variants.base!, { onDevice });
  await backend.load(seeded({ ...small, vocabSize: 40_000, hiddenSize: 512, layers: 1 }), { context: 64, room: 64 });
  await backend.close();
  const MiB = 2 ** 20;
  expect(all).toBeGreaterThan(76 * MiB);
  expect(mostUnsubmitted).toBeLessThan(18 * MiB);
  expect(mostUnfinished).toBeLessThan(70 * MiB);
  expect(unsubmitted).toBe(0);
});

test.skipIf(gpu === null)(`kernels are compiled while weights arrive${why}`, async () => {
  let asked = 0;
  let askedAtFirst: number | undefined;
  const { promise: read, resolve } = Promise.withResolvers<void>();
  const onDevice = (device: GPUDevice): GPUDevice => {
    const compile = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = async (descriptor) => {
      asked++;
      await read; // no compiler is done before: whoever waits for one before the last weight, waits for good
      return compile(descriptor);
    };
    return device;
  };
  const backend = await nullBackend(gpu!, variants.base!, { onDevice });
  const checkpoint = seeded(small);
  const watched: typeof checkpoint.read = (name, ...rest) => {
    askedAtFirst ??= asked;
    if (name === "model.norm.weight") resolve();
    return checkpoint.read(name, ...rest);
  };
  const model = await backend.load({ ...checkpoint, tensors: checkpoint.tensors, read: watched });
  expect(asked).toBeGreaterThan(10);
  expect(askedAtFirst).toBe(asked);
  model.close();
  await backend.close();
});

test.skipIf(gpu === null)(`a tile of many heads is no more workgroups than a dispatch may have${why}`, async () => {
  // Tokens that are routed together go through a layer together, however many they are.
  const experts = { count: 16, perToken: 3, side: 4, normalize: false, indexing: "expert" } as const;
  const many = {
    heads: 64,
    kvHeads: 64,
    biasHeads: 64,
    headDim: 4,
    window: null,
    maxPositions: 2048,
    layers: 1,
    experts,
  };
  const backend = await nullBackend(gpu!, variants.base!);
  const model = await backend.load(seeded({ ...small, ...many }), { routing: "reference" });
  const tokens = Int32Array.from({ length: 1100 }, (_, index) => index % small.vocabSize);
  const [logits] = await model.forward([{ sequence: model.sequence(), tokens }]);
  expect(logits).toHaveLength(small.vocabSize);
  // Whatever the device refuses is heard of behind the call.
  const [more] = await model.forward([{ sequence: model.sequence(), tokens: tokens.subarray(0, 1) }]);
  expect(more).toHaveLength(small.vocabSize);
  await backend.close();
});
