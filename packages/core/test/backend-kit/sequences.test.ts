// Sequences over pages, on a toy device: through any calls, forks, rewinds, failures and closes each sees the keys its own ids
// leave under the mask, and pages and room come back.
import { describe, expect, test } from "vitest";
import { type PagedSequence, Pages, Sequences, type Task } from "../../src/backend-kit/index.ts";
import type { Routing } from "../../src/index.ts";
import { defaultSampling, isDogeError } from "../../src/index.ts";
import { keptOf, ToyPages } from "./toy-pages.ts";

const JOURNAL = 8;

function toy(over: { window?: number | null; count?: number; room?: number; routing?: Routing } = {}) {
  const { window = null, count = 200, room = 500, routing = "per-token" } = over;
  const device = new ToyPages({ count, slots: 4, window, journal: JOURNAL });
  const pages = new Pages(device.shape, device);
  device.isShared = (page) => pages.isShared(page);
  const sequences = new Sequences(pages, { scope: "toy", routing, room });
  /** Append tokens and keep their keys, as a backend's forward does: a tile of at most the journal at a time. */
  const forward = (sequence: PagedSequence, ids: readonly number[]) =>
    sequences.call("forward", [{ sequence, tokens: Int32Array.from(ids) }], async ([task]) => device.keep(task!));
  const seen = (sequence: PagedSequence) => device.seen(sequence.cache.pages, sequence.timeline.evaluated);
  return { device, pages, sequences, forward, seen };
}

/** Whole numbers below a limit, from a linear congruential generator. */
function stream(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

describe.each([
  { window: null, routing: "per-token" },
  { window: 5, routing: "per-token" },
  { window: 20, routing: "per-token" },
  { window: 5, routing: "reference" },
] as const)("window $window, routing $routing", ({ window, routing }) => {
  test("every sequence sees what its ids leave, and everything comes back", async () => {
    const below = stream(11);
    const { device, pages, sequences, forward, seen } = toy({ window, routing });
    const { room } = sequences;
    let twins: { sequence: PagedSequence; ids: number[] }[] = [{ sequence: sequences.open(), ids: [] }];
    for (let step = 0; step < 3000; step++) {
      const twin = twins[below(twins.length)]!;
      const { sequence } = twin;
      const kind = below(12);
      const more = Array.from({ length: 1 + below(below(4) === 0 ? 30 : 5) }, () => below(50));
      if (kind < 5) {
        if (twin.ids.length + more.length > 60) continue;
        await forward(sequence, more);
        twin.ids = [...twin.ids, ...more];
        expect(seen(sequence), `step ${step}`).toEqual(keptOf(twin.ids, window));
      } else if (kind < 6) {
        const failing = sequences.call("forward", [{ sequence, tokens: Int32Array.from(more) }], async ([task]) => {
          device.keep(task!, task!.before + below(more.length));
          throw new Error("the device is gone");
        });
        await expect(failing).rejects.toThrow("the device is gone");
        expect(Array.from(sequence.timeline.ids)).toEqual(twin.ids);
      } else if (kind < 9) {
        const length = below(3) === 0 ? below(twin.ids.length + 1) : Math.max(0, twin.ids.length - below(JOURNAL));
        sequence.rewind(length);
        twin.ids = twin.ids.slice(0, length);
      } else if (kind < 11 && twins.length < 6) {
        twins.push({ sequence: sequence.fork(), ids: twin.ids });
      } else if (twins.length > 1) {
        sequence.close();
        twins = twins.filter((one) => one !== twin);
      }
      // Whatever happened to one, the others are evaluated as far as before and see what they saw.
      for (const other of twins) expect(Array.from(other.sequence.timeline.ids)).toEqual(other.ids);
    }
    for (const { sequence, ids } of twins) {
      await forward(sequence, [1]);
      expect(seen(sequence)).toEqual(keptOf([...ids, 1], window));
      sequence.close();
    }
    expect(sequences.room).toBe(room);
    expect(pages.free).toBe(pages.shape.count);
  });
});

test("a deep rewind and another text leave the pages of forks alone", async () => {
  const { sequences, forward, seen } = toy({ window: 5 });
  const ids = Array.from({ length: 40 }, (_, index) => index);
  const sequence = sequences.open();
  await forward(sequence, ids);
  const fork = sequence.fork();
  sequence.rewind(1); // further than the journal: all is computed anew
  await forward(sequence, [9]);
  expect(seen(sequence)).toEqual(keptOf([0, 9], 5));
  expect(seen(fork)).toEqual(keptOf(ids, 5));
});

test("a fork costs nothing until one of both writes, and then only what is written", async () => {
  const { device, pages, sequences, forward } = toy();
  const sequence = sequences.open();
  await forward(sequence, new Array(10).fill(7));
  const { free } = pages;
  const fork = sequence.fork();
  expect(pages.free).toBe(free);
  await forward(fork, [1]);
  expect(device.done.copied).toBe(1); // of three pages the last, half full
  expect(pages.free).toBe(free - 1);
});

test("a call without room takes nothing, and names what it needs", async () => {
  const { pages, sequences, forward } = toy({ room: 10 });
  const [one, other] = [sequences.open(), sequences.open()];
  await forward(one, [1, 2, 3, 4]);
  const { free } = pages;
  const tokens = Int32Array.of(1, 2, 3, 4);
  const error: unknown = await sequences
    .call(
      "forward",
      [
        { sequence: one, tokens },
        { sequence: other, tokens },
      ],
      async () => {},
    )
    .catch((thrown: unknown) => thrown);
  expect(isDogeError(error, "no-room")).toBe(true);
  expect(String(error)).toContain("room for 8 more tokens and 6 of 10 are left");
  expect([one.length, other.length, sequences.room, pages.free]).toEqual([4, 0, 6, free]);
});

test("too few pages are found out before any is taken", async () => {
  const { pages, sequences, forward } = toy({ count: 3, room: 100 });
  const sequence = sequences.open();
  await forward(sequence, [1, 2, 3, 4, 5]);
  const error: unknown = await forward(sequence, new Array(8).fill(1)).catch((thrown: unknown) => thrown);
  expect(isDogeError(error, "no-room")).toBe(true);
  expect([sequence.length, pages.free, pages.used]).toEqual([5, 1, 2]);
  await forward(sequence, new Array(7).fill(1));
});

describe("what a verb finds pending", () => {
  const spans = async (verb: "forward" | "score" | "sample" | "inspect", tokens: number[], count?: number) => {
    const { sequences, forward, device } = toy();
    const sequence = sequences.open();
    await forward(sequence, [1, 2, 3]);
    let found: unknown;
    const row = { sequence, tokens: Int32Array.from(tokens), ...(count === undefined ? {} : { count }) };
    await sequences.call(verb, [{ ...row, sampling: defaultSampling }], async ([task]: readonly Task[]) => {
      found = task!.sequence.timeline.pending();
      device.keep(task!);
      if (verb === "sample") task!.sequence.drew([8, 9], false, 1);
    });
    return { found, evaluated: sequence.timeline.evaluated, length: sequence.length };
  };

  test("forward without tokens asks about the last one anew", async () => {
    expect(await spans("forward", [])).toEqual({ found: [{ from: 2, to: 3 }], evaluated: 3, length: 3 });
  });
  test("score starts from the logits before its tokens", async () => {
    expect(await spans("score", [4])).toEqual({ found: [{ from: 2, to: 4 }], evaluated: 4, length: 4 });
  });
  test("inspect looks at its own tokens only", async () => {
    expect(await spans("inspect", [4, 5])).toEqual({ found: [{ from: 3, to: 5 }], evaluated: 5, length: 5 });
  });
  test("what was drawn is appended; the last id has no key yet", async () => {
    expect(await spans("sample", [4], 2)).toEqual({ found: [{ from: 3, to: 4 }], evaluated: 5, length: 6 });
  });
});
