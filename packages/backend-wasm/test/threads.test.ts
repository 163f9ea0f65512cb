// The number of threads cannot change a bit, nor can slices; and a team leaves nothing behind.
import { type Backend, type Checkpoint, isDogeError, openCheckpoint, type Routing } from "@doge-lm/core";
import { folder } from "@doge-lm/core/node";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { load, wasm } from "../src/index.ts";
import { usualThreads } from "../src/threads.ts";
import { everything, ids } from "./everything.ts";
import { wrappedRun } from "./worker-script.ts";

const fixtures = new URL("../../conformance/fixtures/", import.meta.url);
const cases = [
  { fixture: "odd", routing: undefined },
  { fixture: "window", routing: undefined },
  { fixture: "legacy", routing: undefined },
  { fixture: "moe", routing: "reference" },
  { fixture: "moe", routing: "per-token" },
] satisfies { fixture: string; routing: Routing | undefined }[];

const open: Backend[] = [];
afterEach(async () => {
  for (const backend of open.splice(0)) await backend.close();
});
async function opened(...options: Parameters<typeof wasm>): Promise<Backend> {
  const backend = await wasm(...options).open();
  open.push(backend);
  return backend;
}

describe.each(cases)("$fixture, $routing", ({ fixture, routing }) => {
  let checkpoint: Checkpoint;
  beforeAll(async () => {
    checkpoint = await openCheckpoint(folder(new URL(fixture, fixtures).pathname));
  });

  test.each(["f32", "q8"] as const)(
    "%s: 2, 3 and 5 threads give the bits of one, whole and in slices",
    async (dtype) => {
      const options = { context: 240, room: 2000, routing, dtype };
      const one = await opened({ threads: 1 });
      const expected = await everything(await one.load(checkpoint, options));
      for (const threads of [2, 3, 5]) {
        const backend = await opened({ threads });
        expect(await everything(await backend.load(checkpoint, options)), `${threads} threads`).toEqual(expected);
      }
      const { script, words } = wrappedRun("Atomics.add(words, 0, 1); return run(job, thread, 1);");
      const sliced = await opened({ threads: 2, assets: { worker: script } });
      const found = await everything(await sliced.load(checkpoint, options));
      expect(found, "2 threads in the smallest slices").toEqual(expected);
      expect(words[0]! / 2).toBeGreaterThan(50);
    },
  );
});

test("an abort after any number of slices of a team takes all of the call back", async () => {
  const checkpoint = await openCheckpoint(folder(new URL("window", fixtures).pathname));
  const { script } = wrappedRun("return run(job, thread, 1);");
  const backend = await opened({ threads: 2, assets: { worker: script } });
  const model = await backend.load(checkpoint, { context: 240, room: 2000 });
  const tokens = ids(90, checkpoint.config.vocabSize, 5);
  const sequence = model.sequence();
  const [expected] = await model.forward([{ sequence, tokens: tokens.slice(0, 40) }]);
  const { room } = model;
  for (const after of [1, 3, 8]) {
    const controller = new AbortController();
    const call = model.forward([{ sequence, tokens }], controller.signal);
    for (let turn = 0; turn < after; turn++) await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    const error = await call.catch((reason: unknown) => reason);
    expect(isDogeError(error, "aborted"), String(error)).toBe(true);
    expect([sequence.length, model.room]).toEqual([40, room]);
    const [logits] = await model.forward([{ sequence, tokens: new Int32Array(0) }]);
    const apart = logits!.map((logit, id) => Math.abs(logit - expected![id]!));
    expect(Math.max(...apart)).toBeLessThan(1e-4);
  }
});

describe("how many", () => {
  test("the device says it, and so do the capabilities", async () => {
    const backend = await opened({ threads: 3, binary: "simd" });
    expect(backend.can).toMatchObject({ device: "wasm simd128 x3", threads: 3, warnings: [] });
    expect(await wasm({ threads: 3, binary: "simd" }).probe()).toMatchObject(backend.can);
  });

  test.each([0, -1, 1.5, Number.NaN, 65, "2"])("%s threads are refused with a code", async (threads) => {
    const make = () => wasm({ threads: threads as number });
    expect(make).toThrow(/threads is .*whole number from 1 to 64/);
    try {
      make();
    } catch (error) {
      expect(isDogeError(error, "invalid-argument")).toBe(true);
    }
    const loading = load({}, { threads: threads as number });
    await expect(loading).rejects.toMatchObject({
      code: "invalid-argument",
      message: expect.stringMatching(/threads is/),
    });
  });

  test("without a wish: all of a few processors, half of many, never more than eight", () => {
    expect([1, 2, 4, 6, 8, 12, 16, 128].map((count) => usualThreads(count))).toEqual([1, 2, 4, 4, 4, 6, 8, 8]);
  });
});
