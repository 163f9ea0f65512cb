// checked(): arguments, lifetime, order, abort and loss, on a mock whose logits are a hash of the ids.
import { describe, expect, it } from "vitest";
import type { Model, Row, SampleRow, Sampling, Sequence } from "../../src/index.ts";
import { checked, checkedProvider, DogeError, defaultSampling, isDogeError, nextTask } from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend, mockProvider } from "../running/mock.ts";

const ids = (...values: number[]) => Int32Array.from(values);
const greedy: Sampling = { ...defaultSampling, temperature: 0 };
async function failure(promise: Promise<unknown>): Promise<DogeError> {
  try {
    await promise;
  } catch (error) {
    if (isDogeError(error)) return error;
    throw error;
  }
  throw new Error("it did not reject");
}
async function open(over = {}) {
  const raw = new MockBackend();
  const backend = checked(raw);
  return { raw, backend, model: await backend.load(checkpoint(over)) };
}
const forward = (model: Model, sequence: Sequence, ...tokens: number[]) =>
  model.forward([{ sequence, tokens: ids(...tokens) }]);

describe("arguments", () => {
  const bad: [string, (sequence: Sequence) => unknown, string, string][] = [
    ["no rows", () => 5, "invalid-argument", "rows is 5"],
    ["a row that is not one", () => [null], "invalid-argument", "row 0 is null"],
    ["no sequence", () => [{ tokens: ids(1) }], "invalid-argument", "row 0: its sequence is not one of this model's"],
    [
      "tokens of another kind",
      (sequence) => [{ sequence, tokens: [1, 2] }],
      "invalid-argument",
      "row 0: tokens is Array(2)",
    ],
    [
      "an id too large",
      (sequence) => [{ sequence, tokens: ids(3, 40) }],
      "invalid-token",
      "row 0, token 1: id 40 is outside the vocabulary of 40.",
    ],
    ["a negative id", (sequence) => [{ sequence, tokens: ids(-1) }], "invalid-token", "row 0, token 0: id -1"],
    [
      "a sequence twice",
      (sequence) => [1, 2].map((id) => ({ sequence, tokens: ids(id) })),
      "invalid-argument",
      "rows 0 and 1 are of the same sequence",
    ],
    ["nothing to go on from", (sequence) => [{ sequence, tokens: ids() }], "empty-prompt", "row 0"],
    [
      "too many tokens",
      (sequence) => [{ sequence, tokens: new Int32Array(33) }],
      "context-overflow",
      "row 0: 0 tokens and 33 more are 33; the context holds 32.",
    ],
  ];
  it.each(bad)("%s", async (_name, rows, code, words) => {
    const { model, raw } = await open();
    const sequence = model.sequence();
    for (const verb of ["forward", "score"] as const) {
      const error = await failure(model[verb](rows(sequence) as Row[]));
      expect(error.code).toBe(code);
      expect(error.message).toContain(words);
    }
    expect(raw.log).toEqual(["sequence"]);
    expect(sequence.length).toBe(0);
    expect((await forward(model, sequence, 3))[0]).toEqual(logitsAfter([3]));
  });

  it("names the second row when it is at fault", async () => {
    const { model } = await open();
    const rows = [ids(1), ids(2, 3, 99)].map((tokens) => ({ sequence: model.sequence(), tokens }));
    expect((await failure(model.forward(rows))).message).toContain("row 1, token 2: id 99 is outside");
  });

  const badDraws: [string, object, string][] = [
    ["a count below 0", { count: -1 }, "count is -1"],
    ["a count without end", { count: Infinity }, "count is Infinity"],
    ["a fraction of a count", { count: 1.5 }, "count is 1.5"],
    ["21 alternatives", { alternatives: 21 }, "alternatives is 21"],
    ["no sampling", { sampling: undefined }, "sampling is undefined"],
    ["a seed of 2^64", { sampling: { ...greedy, seed: 2 ** 64 } }, "seed is 18446744073709552000"],
    ["a NaN temperature", { sampling: { ...greedy, temperature: NaN } }, "temperature is NaN"],
    ["too few bits", { allowed: new Uint32Array(1) }, "allowed is Uint32Array(1); it must be a Uint32Array of 2 words"],
  ];
  it.each(badDraws)("sample refuses %s (T9)", async (_name, change, words) => {
    const { model } = await open();
    const good: SampleRow = { sequence: model.sequence(), tokens: ids(3), count: 2, sampling: greedy };
    const error = await failure(model.sample([good, { ...good, sequence: model.sequence(), ...change } as SampleRow]));
    expect(error.code).toBe("invalid-argument");
    expect(error.message).toContain(`row 1: ${words}`);
    expect((await model.sample([good]))[0]!.ids.length).toBe(2);
  });

  it.each([null, 5, {}])("rejects for the signal %j, which is none", async (signal) => {
    const { model } = await open();
    const call = model.forward([{ sequence: model.sequence(), tokens: ids(1) }], signal as never);
    expect(await failure(call)).toMatchObject({
      code: "invalid-argument",
      message: expect.stringContaining("signal is"),
    });
  });

  it("refuses a sequence of another model, bad names, bad rewinds and bad load options", async () => {
    const { model, backend } = await open();
    const other = await backend.load(checkpoint());
    expect((await failure(forward(model, other.sequence(), 1))).code).toBe("invalid-argument");
    const sequence = model.sequence();
    expect((await failure(model.inspect([{ sequence, tokens: ids(1) }], "logits" as never))).message).toContain(
      'names is "logits"',
    );
    for (const length of [-1, 0.5, NaN]) expect(() => sequence.rewind(length)).toThrow("rewind to");
    for (const [options, code] of [
      [{ dtype: "f64" }, "invalid-argument"],
      [{ dtype: "q4" }, "unsupported"],
      [{ routing: "x" }, "invalid-argument"],
      [{ context: 0 }, "invalid-argument"],
      [{ room: 1.5 }, "invalid-argument"],
      [{ signal: AbortSignal.abort() }, "aborted"],
    ] as const) {
      expect((await failure(backend.load(checkpoint(), options as never))).code).toBe(code);
    }
  });

  it("reads arrays before the call returns", async () => {
    const { model } = await open();
    const [a, b] = [model.sequence(), model.sequence()];
    const tokens = ids(3, 4);
    const stop = [7];
    const rows = [{ sequence: a, tokens }];
    const first = model.forward(rows);
    const second = model.sample([
      { sequence: b, tokens, count: 30, sampling: { ...greedy, stop }, allowed: Uint32Array.of(128, 0) },
    ]);
    tokens.fill(39);
    stop[0] = 8;
    rows.length = 0;
    expect((await first)[0]).toEqual(logitsAfter([3, 4]));
    expect([...(await second)[0]!.ids]).toEqual([7]);
  });

  it("an empty list of rows is an empty answer", async () => {
    const { model, raw } = await open();
    expect(await model.forward([])).toEqual([]);
    expect(await model.sample([])).toEqual([]);
    expect(raw.log).toEqual([]);
  });
});

describe("order", () => {
  it("calls, forks, rewinds and closes take effect in the order made, none awaited", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    const first = forward(model, sequence, 3, 4, 5);
    const fork = sequence.fork();
    sequence.rewind(1);
    const second = forward(model, sequence, 6);
    const third = forward(model, fork, 7);
    sequence.close();
    fork.rewind(2);
    const fourth = forward(model, fork, 8);
    expect([sequence.length, fork.length]).toEqual([0, 0]);
    expect((await first)[0]).toEqual(logitsAfter([3, 4, 5]));
    expect((await second)[0]).toEqual(logitsAfter([3, 6]));
    expect((await third)[0]).toEqual(logitsAfter([3, 4, 5, 7]));
    expect((await fourth)[0]).toEqual(logitsAfter([3, 4, 8]));
    expect(fork.length).toBe(3);
  });

  it("a rewind on a quiet model takes effect at once, and never lengthens", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    await forward(model, sequence, 3, 4, 5);
    const room = model.room;
    sequence.rewind(9);
    expect(sequence.length).toBe(3);
    sequence.rewind(1);
    expect(sequence.length).toBe(1);
    expect(model.room).toBe(room + 2);
  });

  it("length and room are as of the last call resolved", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    const room = model.room;
    const first = forward(model, sequence, 3, 4);
    const second = forward(model, sequence, 5);
    expect([sequence.length, model.room]).toEqual([0, room]);
    await first;
    expect([sequence.length, model.room]).toEqual([2, room - 2]);
    await second;
    expect([sequence.length, model.room]).toEqual([3, room - 3]);
  });

  it("overflow is judged in the turn of the call, for the whole of it", async () => {
    const { model } = await open();
    const [a, b] = [model.sequence(), model.sequence()];
    const first = model.forward([{ sequence: a, tokens: new Int32Array(30) }]);
    const second = model.forward([
      { sequence: b, tokens: ids(5) },
      { sequence: a, tokens: ids(1, 2, 3) },
    ]);
    await first;
    expect((await failure(second)).message).toContain("row 1: 30 tokens and 3 more are 33; the context holds 32.");
    expect([a.length, b.length]).toEqual([30, 0]);
    a.rewind(10);
    await forward(model, a, ...new Int32Array(22));
    expect(a.length).toBe(32);
  });

  it("count ends quietly at the context", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    const row = { sequence, tokens: new Int32Array(30), count: 100, sampling: greedy };
    const [drawn] = await model.sample([row]);
    expect([drawn!.ids.length, sequence.length]).toEqual([2, 32]);
    expect((await model.sample([{ ...row, tokens: ids() }]))[0]!.ids.length).toBe(0);
  });

  it("a call that rejects supersedes those behind it, on its sequences, on theirs and on forks", async () => {
    const { model } = await open();
    const [a, b, c, free] = [0, 1, 2, 3].map(() => model.sequence()) as [Sequence, Sequence, Sequence, Sequence];
    await forward(model, a, 9);
    const bad = forward(model, a, 3, 40);
    const direct = forward(model, a, 4);
    const both = model.forward([a, b].map((sequence) => ({ sequence, tokens: ids(5) })));
    const onTheirs = model.forward([b, c].map((sequence) => ({ sequence, tokens: ids(6) })));
    const fork = c.fork();
    const onFork = forward(model, fork, 7);
    const untouched = forward(model, free, 8);
    expect((await failure(bad)).code).toBe("invalid-token");
    for (const call of [direct, both, onTheirs, onFork]) {
      const error = await failure(call);
      expect(error.code).toBe("superseded");
      expect(isDogeError(error.cause, "invalid-token")).toBe(true);
    }
    expect((await untouched)[0]).toEqual(logitsAfter([8]));
    expect([a, b, c, fork].map((sequence) => sequence.length)).toEqual([1, 0, 0, 0]);
    // What is made after the rejection runs.
    expect((await forward(model, a, 4))[0]).toEqual(logitsAfter([9, 4]));
    expect((await forward(model, fork, 7))[0]).toEqual(logitsAfter([7]));
  });

  it("a failure inside leaves everything as it was", async () => {
    const { model, raw } = await open();
    const sequence = model.sequence();
    await forward(model, sequence, 3);
    raw.nanAfter = 11;
    const row = { sequence, tokens: ids(4, 11), count: 3, sampling: greedy };
    const error = await failure(model.sample([row]));
    expect(error.code).toBe("numerical");
    expect(error.message).toContain("row 0");
    expect(sequence.length).toBe(1);
    expect((await forward(model, sequence, 5))[0]).toEqual(logitsAfter([3, 5]));
  });
});

describe("abort", () => {
  it("before the call, while it waits and while it runs; what was there before stays", async () => {
    const { model, raw } = await open();
    const sequence = model.sequence();
    await forward(model, sequence, 3);
    const calls = raw.log.length;
    const before = failure(model.forward([{ sequence, tokens: ids(4) }], AbortSignal.abort("enough")));
    const error = await before;
    expect([error.code, error.cause]).toEqual(["aborted", "enough"]);
    expect(raw.log.length).toBe(calls);

    const controller = new AbortController();
    const running = failure(model.forward([{ sequence, tokens: new Int32Array(25) }], controller.signal));
    const other = model.sequence();
    const waiting = failure(model.forward([{ sequence: other, tokens: ids(4) }], controller.signal));
    const behind = failure(forward(model, other, 5));
    for (let task = 0; task < 8; task++) await nextTask(); // the mock is among its 25 tokens
    controller.abort();
    expect((await waiting).code).toBe("aborted");
    expect((await behind).code).toBe("superseded");
    expect((await running).code).toBe("aborted");
    expect([sequence.length, other.length]).toEqual([1, 0]);
    expect((await forward(model, sequence, 4))[0]).toEqual(logitsAfter([3, 4]));
  });

  it("a waiting call is told at once, not after the one before it", async () => {
    const { model } = await open();
    const [a, b] = [model.sequence(), model.sequence()];
    const controller = new AbortController();
    const order: string[] = [];
    const long = model.forward([{ sequence: a, tokens: new Int32Array(32) }]).then(() => order.push("long"));
    const waiting = model
      .forward([{ sequence: b, tokens: ids(1) }], controller.signal)
      .catch(() => order.push("waiting"));
    controller.abort();
    await Promise.all([long, waiting]);
    expect(order).toEqual(["waiting", "long"]);
  });
});

describe("lifetime", () => {
  it("a close lets earlier calls finish and refuses later ones", async () => {
    const { model, raw } = await open();
    const sequence = model.sequence();
    const first = forward(model, sequence, 3);
    sequence.close();
    sequence.close();
    expect((await failure(forward(model, sequence, 4))).code).toBe("closed");
    expect(() => sequence.fork()).toThrow("closed");
    expect(() => sequence.rewind(0)).toThrow("closed");
    expect((await first)[0]).toEqual(logitsAfter([3]));
    const other = model.sequence();
    const second = forward(model, other, 5);
    model.close();
    model.close();
    const late = forward(model, other, 6);
    expect(() => model.sequence()).toThrow("closed");
    expect((await second)[0]).toEqual(logitsAfter([5]));
    expect((await failure(late)).code).toBe("closed");
    expect(raw.log.filter((entry) => entry === "close model").length).toBe(1);
  });

  it("closing the backend finishes what was asked before, then closes all", async () => {
    const { backend, model, raw } = await open();
    const sequence = model.sequence();
    const call = forward(model, sequence, 3);
    const loading = backend.load(checkpoint());
    const closing = backend.close();
    expect(backend.close()).toBe(closing);
    expect((await failure(backend.load(checkpoint()))).code).toBe("closed");
    expect((await failure(forward(model, sequence, 4))).code).toBe("closed");
    expect((await call)[0]).toEqual(logitsAfter([3]));
    const late = await loading;
    await closing;
    expect(() => late.sequence()).toThrow("closed");
    expect(raw.log.slice(-1)).toEqual(["close backend"]);
    expect(raw.log.filter((entry) => entry === "close model").length).toBe(2);
  });

  it("a lost device is dead for every model of the backend; only close works", async () => {
    const { backend, model, raw } = await open();
    const other = await backend.load(checkpoint());
    const [a, b] = [model.sequence(), other.sequence()];
    raw.fail = new DogeError("device-lost", "the mock is gone");
    const first = failure(forward(model, a, 3));
    const behind = failure(forward(model, a, 4));
    const elsewhere = failure(forward(model, model.sequence(), 4));
    expect((await first).message).toContain("the mock is gone");
    expect((await behind).code).toBe("device-lost");
    expect((await elsewhere).code).toBe("device-lost");
    expect((await failure(forward(other, b, 3))).code).toBe("device-lost");
    expect((await failure(backend.load(checkpoint()))).code).toBe("device-lost");
    expect(() => b.fork()).toThrow("lost");
    b.close();
    model.close();
    await backend.close();
    expect(raw.closed).toBe(true);
  });

  it("checking twice changes nothing, and what a backend can is frozen", async () => {
    const raw = new MockBackend();
    const backend = checked(raw);
    expect(checked(backend)).toBe(backend);
    expect(Object.isFrozen(backend.can) && Object.isFrozen(backend.can.dtypes)).toBe(true);
    expect(Object.isFrozen(raw.can)).toBe(false);
    const provider = checkedProvider(mockProvider());
    expect(checkedProvider(provider)).toBe(provider);
    const availability = await provider.probe();
    expect(availability).toEqual({ available: true, ...raw.can });
    expect(Object.isFrozen(availability)).toBe(true);
    expect(checked(await provider.open())).toBeInstanceOf(Object);
    const absent = checkedProvider({
      name: "absent",
      probe: async () => ({ available: false, code: "unavailable", why: "no such device" }),
      open: async () => raw,
    });
    const error = await failure(absent.open());
    expect([error.code, error.message]).toEqual(["unavailable", "[doge:absent] no such device"]);
    expect((await failure(provider.open(AbortSignal.abort()))).code).toBe("aborted");
  });
});
