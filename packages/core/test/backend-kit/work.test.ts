// Portions and pauses of work, streaming of tensors, and what a load refuses.
import { describe, expect, test, vi } from "vitest";
import { Breath, Pace, planLoad, TensorReader, transposed } from "../../src/backend-kit/index.ts";
import { isDogeError, memoryCheckpoint, tensorShapes } from "../../src/index.ts";
import { config } from "../running/mock.ts";

const code = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    return isDogeError(error) ? error.code : error;
  }
  return undefined;
};

describe("pace", () => {
  test("a portion comes to take the time it is meant to", () => {
    const pace = new Pace(20, 1000);
    const device = 50_000; // multiply-adds per millisecond
    for (let portion = 0; portion < 30; portion++) pace.measured(pace.budget, pace.budget / device);
    expect(pace.budget / device).toBeCloseTo(20, 1);
  });
  test("work too small to tell from a wait changes nothing", () => {
    const pace = new Pace(20, 1000);
    pace.measured(pace.budget / 9, 2);
    expect(pace.budget).toBe(20_000);
  });
  test("work that costs little and takes long counts, however much was thought possible, and at once", () => {
    const pace = new Pace(20, 1e6);
    pace.measured(pace.budget / 40, 20);
    expect(pace.budget).toBe(5e5);
  });
  test("one wild measurement is no portion of nothing, or of everything", () => {
    const pace = new Pace(20, 1000);
    for (let portion = 0; portion < 99; portion++) pace.measured(pace.budget, 1e12);
    expect(pace.budget).toBe(20 * 1e4);
    for (let portion = 0; portion < 99; portion++) pace.measured(pace.budget * 1e9, 0);
    expect(pace.budget).toBe(20 * 1e10);
  });
});

describe("breath", () => {
  test("a pause lets other work run, then notices an abort", async () => {
    const controller = new AbortController();
    setImmediate(() => controller.abort("enough"));
    const error: unknown = await new Breath(controller.signal, "toy").pause().catch((thrown: unknown) => thrown);
    expect(isDogeError(error, "aborted")).toBe(true);
    expect(String(error)).toContain("toy");
  });
  test("short work never waits, long work pauses", async () => {
    const breath = new Breath(undefined, "toy");
    await breath.pause();
    const turned = vi.fn();
    const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now());
    try {
      setImmediate(turned);
      for (let step = 0; step < 1000; step++) await breath.take();
      expect(turned).not.toHaveBeenCalled();
      clock.mockReturnValue(performance.now() + 1000);
      await breath.take();
      expect(turned).toHaveBeenCalled();
    } finally {
      clock.mockRestore();
    }
  });
});

describe("reading tensors", () => {
  const numbers = (count: number) => Float32Array.from({ length: count }, (_, index) => index % 8191);
  // Rows of 1000 numbers, in pieces that end within rows.
  const rows = 600;
  const wide = { ...config, hiddenSize: 1000, vocabSize: rows };
  const name = "model.embed_tokens.weight";
  const sizes = Array.from(
    tensorShapes(wide),
    ([tensor, shape]) => [tensor, shape.reduce((a, b) => a * b, 1)] as const,
  );
  const checkpoint = memoryCheckpoint(wide, new Map(sizes.map(([tensor, size]) => [tensor, numbers(size)])));

  test("whole rows come in order, whatever the pieces", async () => {
    const all = new Float32Array(rows * 1000);
    let next = 0;
    let pieces = 0;
    for await (const { row, data } of new TensorReader(checkpoint, "toy", undefined).rows(name, 1000)) {
      expect(row).toBe(next);
      expect(data.length % 1000).toBe(0);
      all.set(data, row * 1000);
      next += data.length / 1000;
      pieces++;
    }
    expect(next).toBe(rows);
    expect(pieces).toBeGreaterThan(1);
    expect(all).toEqual(numbers(rows * 1000));
  });
  test("an abort is noticed though nothing waits for a file", async () => {
    const controller = new AbortController();
    const read = async () => {
      for await (const _ of new TensorReader(checkpoint, "toy", controller.signal).pieces(name)) controller.abort();
    };
    const error: unknown = await read().catch((thrown: unknown) => thrown);
    expect(isDogeError(error, "aborted")).toBe(true);
  });
});

describe("a load", () => {
  test("takes the model's context, room for one, and the routing that its experts need", () => {
    expect(planLoad("toy", config, {})).toEqual({ dtype: "f32", routing: "per-token", context: 32, room: 32 });
    expect(planLoad("toy", config, { context: 8 }, 3)).toMatchObject({ context: 8, room: 24 });
    const experts = { count: 16, side: 4, perToken: 2, normalize: false, indexing: "expert" } as const;
    expect(planLoad("toy", { ...config, experts }, {}).routing).toBe("reference");
    expect(planLoad("toy", { ...config, experts }, { routing: "per-token" }).routing).toBe("per-token");
  });
  test("refuses a window with several biases to a head, a room below one context, and what was given up", () => {
    expect(code(() => planLoad("toy", { ...config, window: 4, biasHeads: 2 }, {}))).toBe("unsupported-layout");
    expect(code(() => planLoad("toy", config, { room: 31 }))).toBe("invalid-argument");
    expect(code(() => planLoad("toy", config, { signal: AbortSignal.abort() }))).toBe("aborted");
  });
});

test("a table of tokens by heads is turned to heads by tokens", () => {
  expect(transposed(Float32Array.of(1, 2, 3, 4, 5, 6), 3)).toEqual(Float32Array.of(1, 4, 2, 5, 3, 6));
});
