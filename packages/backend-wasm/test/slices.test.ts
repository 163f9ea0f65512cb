// A call may be cut into slices anywhere: the results are the same to the bit, and an abort between two of them leaves every
// sequence as it was.
import { type Backend, type Checkpoint, isDogeError, type Model, openCheckpoint, type Routing } from "@doge-lm/core";
import { folder } from "@doge-lm/core/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Exports, wasm } from "../src/index.ts";
import { everything, ids } from "./everything.ts";

const fixtures = new URL("../../conformance/fixtures/", import.meta.url);
const cases = [
  { fixture: "odd", routing: undefined },
  { fixture: "window", routing: undefined },
  { fixture: "legacy", routing: undefined },
  { fixture: "moe", routing: "reference" },
  { fixture: "moe", routing: "per-token" },
] satisfies { fixture: string; routing: Routing | undefined }[];

let slices = 0;
let betweenSlices = () => {};
/** Gives every call into WebAssembly the smallest budget: one unit of work. */
const smallest = (exports: Exports): Exports => ({
  ...exports,
  run(job, thread) {
    slices++;
    betweenSlices();
    return exports.run(job, thread, 1);
  },
});

describe.each(cases)("$fixture, $routing", ({ fixture, routing }) => {
  let backends: Backend[];
  let checkpoint: Checkpoint;
  let whole: Model;
  let sliced: Model;
  beforeAll(async () => {
    checkpoint = await openCheckpoint(folder(new URL(fixture, fixtures).pathname));
    backends = [await wasm({ threads: 1 }).open(), await wasm({ onInstance: smallest }).open()];
    const options = { context: 240, room: 2000, routing };
    [whole, sliced] = (await Promise.all(backends.map((backend) => backend.load(checkpoint, options)))) as [
      Model,
      Model,
    ];
  });
  afterAll(async () => {
    for (const backend of backends) await backend.close();
  });

  test("many slices give what one gives", async () => {
    const expected = await everything(whole);
    slices = 0;
    expect(await everything(sliced)).toEqual(expected);
    expect(slices).toBeGreaterThan(50);
  });

  test("an abort after any number of slices takes all of the call back", async () => {
    const tokens = ids(90, checkpoint.config.vocabSize, 5);
    const sequence = sliced.sequence();
    const start = tokens.slice(0, 40);
    await sliced.forward([{ sequence, tokens: start }]);
    const room = sliced.room;
    const [expected] = await whole.forward([{ sequence: whole.sequence(), tokens: start }]);
    for (const after of [1, 3, 8]) {
      const controller = new AbortController();
      let left = after;
      betweenSlices = () => {
        if (--left === 0) controller.abort();
      };
      const error = await sliced.forward([{ sequence, tokens }], controller.signal).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      betweenSlices = () => {};
      expect(isDogeError(error, "aborted"), String(error)).toBe(true);
      expect([sequence.length, sliced.room]).toEqual([40, room]);
      const [logits] = await sliced.forward([{ sequence, tokens: new Int32Array(0) }]);
      // Keys that came back from the journal stand in other slots, so sums may run in another order.
      const apart = logits!.map((logit, id) => Math.abs(logit - expected![id]!));
      expect(Math.max(...apart)).toBeLessThan(1e-4);
    }
  });
});
