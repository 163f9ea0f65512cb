// Generations side by side on the mock: whatever comes together, is aborted or fails, each text is the one it would be alone, and
// the calls are shared as far as they can be.
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Floats, GenerateOptions, SampleRow, Sequence } from "../../src/index.ts";
import { checked, Doge, generate, isDogeError, nextTask, Scheduler } from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend } from "./mock.ts";

afterEach(() => vi.restoreAllMocks());

interface Setup {
  /** The clock is the mock's own: milliseconds that a token takes. */
  readonly tokenTime?: number;
  readonly rows?: number;
  readonly context?: number;
}
/** A Doge on the mock, and what reached the mock: the rows of every call. */
async function open({ rows, context, tokenTime }: Setup = {}) {
  let now = 0;
  if (tokenTime !== undefined) vi.spyOn(performance, "now").mockImplementation(() => now);
  const raw = new MockBackend();
  const calls: (readonly SampleRow[])[] = [];
  const opened = new Set<Sequence>();
  const load = raw.load.bind(raw);
  raw.load = async (source, options) => {
    const model = await load(source, options);
    const { sample, sequence } = model;
    const close = (one: Sequence): Sequence => {
      opened.add(one);
      const { close, fork } = one;
      one.close = () => {
        opened.delete(one);
        close.call(one);
      };
      one.fork = () => closeOf(fork.call(one));
      return one;
    };
    const closeOf = close;
    return Object.assign(model, {
      sequence: () => close(sequence()),
      sample: (all: readonly SampleRow[], signal?: AbortSignal) => {
        calls.push(all);
        const steps = Math.max(...all.map((row) => row.tokens.length + row.count));
        return sample(all, signal).finally(() => {
          now += steps * (tokenTime ?? 0);
        });
      },
    });
  };
  const backend = checked(raw);
  const model = await backend.load(checkpoint({ maxPositions: 400, eosIds: [] }), { context });
  const info = { source: "a mock", loadMs: 0, warnings: [], tried: [] };
  const doge = new Doge({ backend, model, tokenizer: null, chatTemplate: null, defaults: {}, info, rows });
  return { doge, model, raw, calls, opened };
}
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const prompt = (length: number, seed: number): number[] =>
  Array.from({ length }, (_, index) => 2 + ((seed * 31 + index * 7) % 38));

describe("generations side by side", () => {
  it("share their calls, and each is what it is alone", async () => {
    const { doge, calls } = await open();
    const prompts = [3, 1, 7, 2].map((length, seed) => prompt(length, seed));
    const options = { maxNewTokens: 40 };
    const alone = [];
    for (const ids of prompts) alone.push([...(await doge.generate(ids, options).result()).ids]);
    const before = calls.length;
    calls.length = 0;
    const together = await Promise.all(prompts.map((ids) => doge.generate(ids, options).result()));
    expect(together.map(({ ids }) => [...ids])).toEqual(alone);
    expect(calls.length).toBeLessThan(before);
    expect(calls.some((rows) => rows.length === 4)).toBe(true);
    // A step of a call serves every row that still draws.
    const served = sum(calls.flat().map((row) => row.count));
    expect(served).toBeGreaterThanOrEqual(4 * 40);
  });

  it("no more run at once than there are rows; the others wait in their order", async () => {
    const { doge, calls } = await open({ rows: 2 });
    const seeds = [0, 1, 2, 3, 4, 5];
    const runs = seeds.map((seed) => doge.generate(prompt(2, seed), { maxNewTokens: 12 }).result());
    expect((await Promise.all(runs)).every(({ ids }) => ids.length === 12)).toBe(true);
    expect(Math.max(...calls.map((rows) => rows.length))).toBe(2);
    const begun = calls.flat().flatMap(({ tokens }) => (tokens.length > 0 ? [tokens[0]!] : []));
    expect(begun).toEqual(seeds.map((seed) => prompt(2, seed)[0]));
  });

  it("one enters only when what it may need has room beside the others, and all come", async () => {
    const { doge, model, calls } = await open({ context: 20 }); // the mock has room for 80 tokens
    const results = await Promise.all(
      Array.from({ length: 12 }, (_, index) => doge.generate(prompt(4, index), { maxNewTokens: 16 }).result()),
    );
    expect(results.every(({ ids }) => ids.length === 16)).toBe(true);
    expect(Math.max(...calls.map((rows) => rows.length))).toBe(4);
    expect(model.room).toBeGreaterThanOrEqual(0);
    // Where the model's own account is too good, a call that does not fit is made again when others have left.
    Object.defineProperty(model, "room", { value: 1e6 });
    const more = await Promise.all(
      Array.from({ length: 12 }, (_, index) => doge.generate(prompt(4, index), { maxNewTokens: 16 }).result()),
    );
    expect(more.map(({ ids }) => [...ids])).toEqual(results.map(({ ids }) => [...ids]));
  });

  it("an abort takes out its own text within a call's time and disturbs no other", async () => {
    const { doge, opened } = await open();
    const controller = new AbortController();
    const [a, c] = [1, 3].map((seed) => doge.generate(prompt(3, seed), { maxNewTokens: 60 }).result());
    const b = doge.generate(prompt(3, 2), { maxNewTokens: 300, signal: controller.signal });
    let seen = 0;
    for await (const { ids } of b) {
      seen += ids.length;
      if (seen > 5) controller.abort();
    }
    const result = await b.result();
    expect([result.stopReason, result.ids.length]).toEqual(["abort", seen]);
    const alone = await open();
    for (const [run, seed] of [
      [a, 1],
      [c, 3],
    ] as const) {
      const expected = await alone.doge.generate(prompt(3, seed), { maxNewTokens: 60 }).result();
      expect([...(await run!).ids]).toEqual([...expected.ids]);
    }
    expect(opened.size).toBeLessThanOrEqual(8);
  });

  it("a text that fails rejects alone", async () => {
    const { doge, raw } = await open();
    const expected: number[][] = [];
    for (const seed of [1, 2, 3]) {
      expected.push([...(await doge.generate(prompt(3, seed), { maxNewTokens: 30 }).result()).ids]);
    }
    // An id that only the second text has.
    const bad = expected[1]!.findIndex((id, at) => at > 4 && !expected[0]!.includes(id) && !expected[2]!.includes(id));
    expect(bad).toBeGreaterThan(0);
    raw.nanAfter = expected[1]![bad]!;
    const results = await Promise.allSettled(
      [1, 2, 3].map((seed) => doge.generate(prompt(3, seed), { maxNewTokens: 30 }).result()),
    );
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect((results[1] as PromiseRejectedResult).reason).toSatisfy((error) => isDogeError(error, "numerical"));
    for (const index of [0, 2]) {
      const { ids } = (results[index] as PromiseFulfilledResult<{ ids: Int32Array }>).value;
      expect([...ids]).toEqual(expected[index]);
    }
  });

  it("a long prompt comes in slices, so that a text that runs goes on between them", async () => {
    const { doge, calls } = await open({ tokenTime: 1 });
    const running = doge.generate([3], { maxNewTokens: 200 });
    const reader = running[Symbol.asyncIterator]();
    await reader.next();
    await reader.next();
    const reading = (async () => {
      while (!(await reader.next()).done);
    })();
    calls.length = 0;
    const newcomer = doge.generate(prompt(300, 5), { maxNewTokens: 2 });
    const { ids } = await newcomer.result();
    const slices = calls.flatMap((rows, at) => rows.filter(({ tokens }) => tokens.length > 0).map(() => at));
    expect(slices.length).toBeGreaterThan(2);
    expect(Math.max(...calls.flat().map(({ tokens }) => tokens.length))).toBeLessThan(300);
    const between = calls.slice(slices[0], slices.at(-1)).filter((rows) => rows.some(({ count }) => count > 0));
    expect(between.length).toBeGreaterThan(1);
    await reading;
    const alone = await (await open()).doge.generate(prompt(300, 5), { maxNewTokens: 2 }).result();
    expect([...ids]).toEqual([...alone.ids]);
  });

  it("under reference routing a prompt stays whole, in a call of its own, and draws come between prompts", async () => {
    const { doge, model, calls } = await open();
    Object.defineProperty(model, "routing", { value: "reference" });
    const first = doge.generate([3], { maxNewTokens: 40 }).result();
    await nextTask();
    const others = [1, 2, 3].map((seed) => doge.generate(prompt(100, seed), { maxNewTokens: 3 }).result());
    await Promise.all([first, ...others]);
    const prompts = calls.flatMap((rows, at) => (rows.some(({ tokens }) => tokens.length === 100) ? [at] : []));
    expect(prompts.length).toBe(3);
    for (const at of prompts) expect(calls[at]!.length).toBe(1);
    for (const [index, at] of prompts.entries()) if (index > 0) expect(at).toBeGreaterThan(prompts[index - 1]! + 1);
  });

  it("many texts are scored together, as each alone", async () => {
    const { doge, raw } = await open();
    const texts = [5, 1, 90, 12, 3].map((length, seed) => prompt(length, seed));
    const alone = [];
    for (const ids of texts) alone.push(await doge.score(ids));
    raw.log.length = 0;
    const controller = new AbortController();
    const [together, given] = await Promise.all([
      Promise.all(texts.map((ids) => doge.score(ids))),
      doge.score(prompt(200, 9), undefined, controller.signal).catch((error: unknown) => error),
      nextTask().then(() => controller.abort()),
    ]);
    expect(together).toEqual(alone);
    expect(isDogeError(given, "aborted")).toBe(true);
    expect(raw.log.filter((entry) => entry === "score").length).toBeLessThan(texts.length + 2);
  });

  it("a session that is closed while nobody reads its answer waits for it, and keeps nothing", async () => {
    const { doge, opened } = await open();
    const owner = {};
    const idle = doge.generateFor(owner, prompt(3, 1), { maxNewTokens: 200 });
    await idle[Symbol.asyncIterator]().next();
    await doge.forget(owner);
    expect((await idle.result()).ids.length).toBe(200);
    expect(opened.size).toBe(0);
  });

  it("what was asked for before a close finishes its chunk; what waits for a row says closed", async () => {
    const { doge } = await open({ rows: 2 });
    const runs = [1, 2, 3].map((seed) => doge.generate(prompt(2, seed), { maxNewTokens: 1 }).result());
    await nextTask();
    const results = Promise.allSettled(runs);
    await doge.close();
    expect((await results).map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
  });
});

describe("the scheduler", () => {
  it("serves generate() on a model: texts of one scheduler share calls", async () => {
    const { model, calls } = await open();
    const scheduler = new Scheduler(model);
    const runs = [[3], [4, 5]].map((ids) =>
      generate(scheduler, Int32Array.from(ids), { temperature: 0, stop: [], maxNewTokens: 20 }).result(),
    );
    expect((await Promise.all(runs)).map(({ ids }) => ids.length)).toEqual([20, 20]);
    expect(calls.some((rows) => rows.length === 2)).toBe(true);
  });

  it("takes back a prompt that was aborted between its slices", async () => {
    const { model } = await open({ tokenTime: 1 });
    const scheduler = new Scheduler(model);
    const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0, stop: [] };
    const [one, two] = [model.sequence(), model.sequence()];
    const controller = new AbortController();
    const tokens = Int32Array.from(prompt(300, 1));
    const long = scheduler.sample({ sequence: one, tokens, count: 1, sampling }, controller.signal);
    const other = scheduler.sample({ sequence: two, tokens: Int32Array.of(3), count: 1, sampling });
    await other;
    expect(one.length).toBeGreaterThan(0); // a slice of it is there
    controller.abort();
    await expect(long).rejects.toSatisfy((error) => isDogeError(error, "aborted"));
    expect(one.length).toBe(0);
    const [logits] = (await model.forward([{ sequence: one, tokens: Int32Array.of(9) }])) as [Floats];
    expect(logits).toEqual(logitsAfter([9]));
  });

  it("property: company, arrivals, aborts and failures change no text", async () => {
    const arbitrary = fc.record({
      rows: fc.integer({ min: 1, max: 5 }),
      context: fc.constantFrom(60, 400),
      texts: fc.array(
        fc.record({
          length: fc.integer({ min: 1, max: 40 }),
          seed: fc.nat(9),
          count: fc.integer({ min: 0, max: 19 }),
          delay: fc.nat(30),
          abortAfter: fc.option(fc.nat(20)),
          leaveAfter: fc.option(fc.nat(12)),
          kind: fc.constantFrom("greedy", "drawn", "host", "masked", "score"),
        }),
        { minLength: 1, maxLength: 7 },
      ),
    });
    const optionsOf = (kind: string, seed: number): GenerateOptions => ({
      ...(kind === "greedy" ? { temperature: 0 } : { temperature: 1.3, topK: 12, seed }),
      ...(kind === "host" ? { typicalP: 0.7 } : {}),
      ...(kind === "masked" ? { noRepeatNgramSize: 1 } : {}),
      logprobs: 1,
    });
    const alone = await open();
    await fc.assert(
      fc.asyncProperty(arbitrary, async ({ rows, context, texts }) => {
        const { doge, opened } = await open({ rows, context });
        const tasks = async (count: number) => {
          for (let task = 0; task < count; task++) await nextTask();
        };
        await Promise.all(
          texts.map(async ({ length, seed, count, delay, abortAfter, leaveAfter, kind }) => {
            await tasks(delay);
            const ids = prompt(length, seed);
            if (kind === "score") {
              expect((await doge.score(ids)).logprobs).toEqual((await alone.doge.score(ids)).logprobs);
              return;
            }
            const options = { ...optionsOf(kind, seed), maxNewTokens: count };
            const controller = new AbortController();
            const run = doge.generate(ids, { ...options, signal: controller.signal });
            if (abortAfter !== null) void tasks(abortAfter).then(() => controller.abort());
            let read = 0;
            if (leaveAfter !== null) for await (const piece of run) if ((read += piece.ids.length) > leaveAfter) break;
            const got = await run.result();
            const { signal: _, ...plain } = { ...options, signal: undefined };
            const expected = await alone.doge.generate(ids, plain).result();
            const whole = abortAfter === null && leaveAfter === null;
            if (whole) expect(got.ids.length).toBe(expected.ids.length);
            expect([...got.ids]).toEqual([...expected.ids.slice(0, got.ids.length)]);
            expect(got.logprobs).toEqual(expected.logprobs!.slice(0, got.ids.length));
          }),
        );
        expect(opened.size).toBeLessThanOrEqual(8);
        await doge.close();
      }),
      { numRuns: 200 },
    );
  });
});
