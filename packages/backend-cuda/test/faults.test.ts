// Rows C2 to C4 of the reliability table, on the host shim: memory that is refused, a device that is lost, handles used wrongly.

import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { sines, small } from "@doge-lm/conformance/models";
import { type Backend, type Config, checked, type Floats, isDogeError, nextTask, tensorShapes } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { CudaBackend, dtypes } from "../src/backend.ts";
import { builder, cudaOnHostShim, type ShimBinding, shimBinding, withoutShim } from "./shim.ts";

const config: Config = {
  ...small,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  biasHeads: 1,
  maxPositions: 128,
  window: 12,
  experts: { count: 16, perToken: 3, side: 4, normalize: false, indexing: "expert" },
};
const checkpoint = sines(config);
const prompt = Int32Array.from({ length: 30 }, (_, index) => (index * 11) % 40);
const sampling = { temperature: 0.9, topK: 10, topP: 0.9, minP: 0, repetitionPenalty: 1.1, seed: 3, stop: [] };

function opened(): { raw: CudaBackend; backend: Backend } {
  const raw = new CudaBackend("cuda-on-host-shim", shimBinding(), 0, { device: "host shim", dtypes, trains: false });
  return { raw, backend: checked(raw) };
}

/** All that a backend does, once: what it drew. */
async function everything(backend: Backend): Promise<number[]> {
  const model = await backend.load(checkpoint, { dtype: "q8" });
  try {
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: prompt }]);
    const fork = sequence.fork();
    sequence.rewind(25);
    const rows = [sequence, fork].map((each) => ({
      sequence: each,
      tokens: prompt.slice(0, 3),
      count: 12,
      sampling,
      alternatives: 2,
    }));
    const drawn = await model.sample(rows);
    await model.score([{ sequence, tokens: prompt }]);
    await model.inspect([{ sequence: fork, tokens: prompt.slice(0, 2) }], ["logits", "layers.0.bias"]);
    return drawn.flatMap(({ ids }) => [...ids]);
  } finally {
    model.close();
  }
}

/** The code of what `work` rejects with, or "done". */
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "done",
    (error: unknown) => (isDogeError(error) ? error.code : `no code: ${String(error)}`),
  );

describe.skipIf(withoutShim !== undefined)(`faults${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  const binding = withoutShim === undefined ? shimBinding() : (undefined as never);
  const bytes = (raw: CudaBackend): number => binding.counts(raw.device)[5]!;

  test("a device that computes wrongly is refused when it is opened, and leaves nothing", async () => {
    const made = binding.made();
    const off = async (...args: Parameters<ShimBinding["run"]>) => {
      const results = await binding.run(...args);
      for (const logits of results) if (logits instanceof Float32Array) logits[3]! += 0.01;
      return results;
    };
    const wrong = { ...binding, run: off as ShimBinding["run"] };
    await expect(cudaOnHostShim(wrong).open()).rejects.toMatchObject({ code: "known-answer" });
    expect(binding.made()).toBe(made);
    await (await cudaOnHostShim().open()).close();
  });

  test("a device whose prompts or steps are not what its plain kernels compute is refused too", async () => {
    const made = binding.made();
    for (const [wanted, what] of [
      [80, "a prompt of 80 tokens"],
      [1, "the step of a single text"],
    ] as const) {
      const off = async (...args: Parameters<ShimBinding["run"]>) => {
        const results = await binding.run(...args);
        const [, , vocabulary, rows] = args;
        // A text of 80 tokens in one call, or the last of them alone; the known answer's vocabulary is another.
        const hit = vocabulary === 96 && rows.length === 1 && rows[0]!.tokens.length === wanted;
        for (const logits of results) if (hit && logits instanceof Float32Array) logits[3]! += 0.3;
        return results;
      };
      const wrong = { ...binding, run: off as ShimBinding["run"] };
      await expect(cudaOnHostShim(wrong).open()).rejects.toMatchObject({
        code: "known-answer",
        message: expect.stringContaining(what),
      });
      expect(binding.made()).toBe(made);
    }
  });

  test("C2: memory refused at any point is out-of-memory, leaks nothing, and the device goes on", async () => {
    const { raw, backend } = opened();
    const expected = await everything(backend);
    expect(bytes(raw)).toBe(0);
    const made = binding.made();
    let refused = 0;
    for (;;) {
      binding.fail(refused, -1);
      const outcome = await codeOf(everything(backend));
      binding.fail(-1, -1);
      expect([bytes(raw), binding.made()], `after allocation ${refused} was refused`).toEqual([0, made]);
      if (outcome === "done") break;
      expect(outcome, `allocation ${refused}`).toBe("out-of-memory");
      refused++;
    }
    expect(refused).toBeGreaterThan(20);
    expect(await everything(backend)).toEqual(expected);
    await backend.close();
  });

  test("C2: a call refused for memory leaves its sequences as they were", async () => {
    const { backend } = opened();
    const model = await backend.load(checkpoint);
    const [sequence, twin] = [model.sequence(), model.sequence()];
    for (const each of [sequence, twin]) await model.forward([{ sequence: each, tokens: prompt.slice(0, 9) }]);
    const room = model.room;
    binding.fail(0, -1);
    expect(await codeOf(model.forward([{ sequence, tokens: prompt }]))).toBe("out-of-memory");
    binding.fail(-1, -1);
    expect([sequence.length, model.room]).toEqual([9, room]);
    const [one] = await model.forward([{ sequence, tokens: prompt }]);
    const [two] = await model.forward([{ sequence: twin, tokens: prompt }]);
    expect(one).toEqual(two);
    await backend.close();
  });

  test("C2: a model that does not fit is refused with needed and available, before a weight is read", async () => {
    const { backend } = opened();
    let read = 0;
    const counted = {
      ...checkpoint,
      read(...args: Parameters<typeof checkpoint.read>) {
        read++;
        return checkpoint.read(...args);
      },
    };
    const huge = backend.load(counted, { context: 16_000_000, room: 2_000_000_000 });
    await expect(huge).rejects.toMatchObject({
      code: "out-of-memory",
      message: expect.stringMatching(/no room for [\d.]+ MiB more: [\d.]+ MiB are available/),
    });
    expect(read).toBe(0);
    await backend.close();
  });

  test("DOGE_FILL fills a model's pages when they are taken: one piece of work more", async () => {
    const pieces = async () => {
      for (let operation = 0; ; operation++) {
        const { backend } = opened();
        binding.fail(-1, operation);
        const outcome = await codeOf(backend.load(checkpoint));
        binding.fail(-1, -1);
        await backend.close();
        if (outcome === "done") return operation;
      }
    };
    const without = await pieces();
    process.env.DOGE_FILL = "1";
    try {
      expect(await pieces()).toBe(without + 1);
    } finally {
      delete process.env.DOGE_FILL;
    }
  });

  test("C3: a device lost at any copy is dead for all models at once; it closes, and another opens", async () => {
    let expected: number[] | undefined;
    const made = binding.made();
    for (let operation = 0, survived = false; !survived; operation += 7) {
      const { backend } = opened();
      const other = operation % 2 === 0 ? await backend.load(checkpoint) : undefined;
      binding.fail(-1, operation);
      const outcome = await codeOf(everything(backend));
      survived = outcome === "done";
      if (!survived) {
        expect(outcome, `copy ${operation}`).toBe("device-lost");
        expect(await codeOf(backend.load(checkpoint))).toBe("device-lost");
        if (other !== undefined) {
          expect(() => other.sequence()).toThrow(expect.objectContaining({ code: "device-lost" }));
        }
        // CUDA has one context for a device and a process: until all have left it, it stays dead.
        expect(() => opened()).toThrow(
          expect.objectContaining({
            code: "device-lost",
            message: expect.stringMatching(/cudaErrorIllegalAddress: an illegal memory access.*close every backend/),
          }),
        );
      }
      binding.fail(-1, -1);
      await backend.close();
      const next = opened();
      expected ??= await everything(next.backend);
      if (operation % 35 === 0) expect(await everything(next.backend)).toEqual(expected);
      await next.backend.close();
      expect(binding.made(), `after copy ${operation}`).toBe(made);
    }
  });

  test("C3: two backends share a device's context, and its end; the last to close clears it", async () => {
    const [one, two] = [opened(), opened()];
    const models = [await one.backend.load(checkpoint), await two.backend.load(checkpoint)];
    binding.fail(-1, 0);
    const draw = (which: number) =>
      codeOf(models[which]!.sample([{ sequence: models[which]!.sequence(), tokens: prompt, count: 2, sampling }]));
    expect(await draw(0)).toBe("device-lost");
    expect(await draw(1)).toBe("device-lost");
    await one.backend.close();
    expect(() => opened()).toThrow(expect.objectContaining({ code: "device-lost" }));
    await two.backend.close();
    const { backend } = opened();
    expect((await everything(backend)).length).toBe(24);
    await backend.close();
  });

  test("C4: handles that were closed, or are none, are refused by the binding itself", () => {
    const { raw } = opened();
    const device = raw.device;
    binding.closeDevice(device);
    const closed = expect.objectContaining({ code: "closed" });
    expect(() => binding.closeDevice(device)).toThrow(closed);
    expect(() => binding.create(device, new Float64Array(27))).toThrow(closed);
    expect(() => binding.room(undefined as never)).toThrow(closed);
    expect(() => binding.run(device as never, 0, 40, [])).toThrow(closed);
    const again = binding.open(0);
    expect(() => binding.create(again, new Float64Array(3))).toThrow(
      expect.objectContaining({ code: "invalid-argument" }),
    );
    expect(() => binding.create(again, new Float64Array(27))).toThrow(
      expect.objectContaining({ code: "invalid-argument" }),
    );
    expect(() => binding.open(3)).toThrow(expect.objectContaining({ code: "unavailable" }));
    binding.closeDevice(again);
  });

  test("C4: closing while a call runs lets it finish, and nothing is left", async () => {
    const { raw, backend } = opened();
    const model = await backend.load(checkpoint);
    const sequence = model.sequence();
    const running = model.sample([{ sequence, tokens: prompt, count: 60, sampling }]);
    sequence.close();
    model.close();
    expect((await running)[0]!.ids.length).toBe(60);
    expect(await codeOf(model.forward([{ sequence, tokens: prompt }]))).toBe("closed");
    await nextTask();
    expect(bytes(raw)).toBe(0);
    await backend.close();
  });

  test("C4: two models of one device work at once, and each as if alone", async () => {
    const { backend } = opened();
    const models = await Promise.all([
      backend.load(checkpoint, { room: 256 }),
      backend.load(checkpoint, { room: 256, dtype: "bf16" }),
    ]);
    const draws = () =>
      models.map((model) => model.sample([{ sequence: model.sequence(), tokens: prompt, count: 40, sampling }]));
    const alone = [];
    for (const model of models) {
      alone.push(await model.sample([{ sequence: model.sequence(), tokens: prompt, count: 40, sampling }]));
    }
    expect(await Promise.all(draws())).toEqual(alone);
    await backend.close();
  });

  /** In a Worker: a model with the weights it was given, and a sequence. */
  const OPENED = `
    const device = binding.open(0);
    const model = binding.create(device, workerData.config);
    for (const [name, values] of workerData.tensors) binding.write(model, name, values);
    binding.ready(model);
    const sequence = binding.sequence(model);`;
  async function weightsOf(): Promise<{ readonly config: Float64Array; readonly tensors: [string, Floats][] }> {
    const tensors: [string, Floats][] = [];
    for (const name of tensorShapes(config).keys()) {
      const size = checkpoint.tensors.get(name)!.shape.reduce((product, each) => product * each, 1);
      tensors.push([name, Float32Array.from(new Float32Array((await checkpoint.read(name, 0, 4 * size)).buffer))]);
    }
    const numbers = [40, 16, 24, 2, 2, 1, 8, 1e-6, 128, 0, 10000, 1, 1, 1, 12, 0, 0, 1, 16, 3, 4, 0, 0, 0, 1, 128, 128];
    return { config: Float64Array.from(numbers), tensors };
  }

  test("C4: two threads of one process use the binding at once, each with its own devices", async () => {
    const path = builder.buildShim();
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      const binding = require(workerData.path);
      ${OPENED}
      binding.run(model, 0, 40, [{ sequence, tokens: workerData.prompt }]).then(([logits]) => {
        binding.closeModel(model);
        binding.closeDevice(device);
        parentPort.postMessage(logits);
      });`;
    const weights = await weightsOf();
    const results = await Promise.all(
      [0, 1].map(
        () =>
          new Promise<Float32Array>((resolve, reject) => {
            const worker = new Worker(source, { eval: true, workerData: { path, ...weights, prompt } });
            worker.once("message", resolve);
            worker.once("error", reject);
          }),
      ),
    );
    const { backend } = opened();
    const model = await backend.load(checkpoint);
    const [expected] = await model.forward([{ sequence: model.sequence(), tokens: prompt }]);
    for (const logits of results) expect(logits).toEqual(expected);
    await backend.close();
  });

  test.each([
    ["forward", 0],
    ["score", 1],
    ["sample", 2],
    ["inspect", 3],
  ])("C4: a Worker that is ended during %s ends alone, and leaves nothing on the device", async (_, verb) => {
    const before = shimBinding().made();
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      const binding = require(workerData.path);
      ${OPENED}
      const row = { sequence, tokens: workerData.prompt, count: 40, alternatives: 2, temperature: 1, topK: 5, topP: 1, minP: 0,
        repetitionPenalty: 1, seed: 1, stop: new Int32Array() };
      binding.run(model, workerData.verb, 40, [row]);
      parentPort.postMessage("begun");`;
    const workerData = { path: builder.buildShim(), ...(await weightsOf()), prompt, verb };
    const worker = new Worker(source, { eval: true, workerData });
    await once(worker, "message");
    expect(shimBinding().made()).toBeGreaterThan(before);
    await worker.terminate();
    expect(shimBinding().made()).toBe(before);
  });

  test("C4: models are loaded on two devices in turn, each made ready after the other was written to", async () => {
    const { config, tensors } = await weightsOf();
    const binding = shimBinding();
    const devices = [0, 1].map((index) => binding.open(index));
    const models = devices.map((device) => binding.create(device, config));
    for (const model of models) for (const [name, values] of tensors) binding.write(model, name, values);
    for (const model of models) expect(() => binding.ready(model)).not.toThrow();
    for (const model of models) binding.closeModel(model);
    for (const device of devices) binding.closeDevice(device);
  });
});
