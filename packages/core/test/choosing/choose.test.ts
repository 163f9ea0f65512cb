// choose(): the fastest by measurement, with a reason for every backend; names, spares, kept rates; and those that misbehave.
import { afterEach, describe, expect, test, vi } from "vitest";
import { type ChooseOptions, choose, isDogeError, type Provider, survey } from "../../src/index.ts";
import { checkpoint, config } from "../running/mock.ts";
import { absent, Clock, fake, memoryRates, never, withModels } from "./fakes.ts";

/** Shape, clock and store of a test; the budget is real time, of which a busy machine may need much. */
const settings = (clock: Clock, more: ChooseOptions = {}): ChooseOptions => ({
  ...{ config: { ...config, layers: 6 }, rates: memoryRates(), wanted: "auto", budget: 60_000, now: clock.now },
  ...more,
});
const states = ({ tried }: Awaited<ReturnType<typeof choose>>) => tried.map(({ name, state }) => [name, state]);
const brokenOpen: Provider = { ...fake("broken"), open: () => Promise.reject(new Error("the driver crashed")) };

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

describe("by measurement", () => {
  test("the fastest runs, wherever it stands in the list, and all are told of with their rates", async () => {
    const clock = new Clock();
    const slow = fake("slow", { clock, layerMs: 4 });
    const quick = fake("quick", { clock, layerMs: 0.5 });
    const choice = await choose([absent, slow, brokenOpen, quick], settings(clock));
    expect(choice.backend.name).toBe("quick");
    expect(states(choice)).toEqual([
      ["absent", "absent"],
      ["slow", "ready"],
      ["broken", "broken"],
      ["quick", "chosen"],
    ]);
    // 6 layers of 4 and 0.5 ms: T = t1 + 5 * (t2 - t1).
    expect(choice.tried.map(({ rate }) => rate?.tokensPerSecond)).toEqual([
      undefined,
      expect.closeTo(1000 / 24, 6),
      undefined,
      expect.closeTo(1000 / 3, 6),
    ]);
    expect(choice.tried[0]!.reason).toBe("There is no such device.");
    expect(choice.tried[1]!.reason).toBe("It decodes 41.7 tokens/s, and quick 333.");
    expect(choice.tried[2]!.reason).toBe("It should have worked and failed: the driver crashed.");
    expect(choice.tried[2]!.error).toBeInstanceOf(Error);
    expect(choice.tried[3]!.reason).toBe("It decodes 333 tokens/s, and no other is clearly faster.");
    expect(slow.opened.every(({ closed }) => closed)).toBe(true);
    expect(quick.opened.length).toBe(1);
    const model = await choice.backend.load(checkpoint());
    expect((await model.forward([{ sequence: model.sequence(), tokens: Int32Array.of(3) }])).length).toBe(1);
  });

  test("what a token costs once is not counted for every layer", async () => {
    const clock = new Clock();
    // A GPU: 2 ms to get there, little for a layer. With one slice alone it would seem to take 6 * 2.5 ms.
    const gpu = fake("gpu", { clock, layerMs: 0.5, tokenMs: 2 });
    const cpu = fake("cpu", { clock, layerMs: 1.5 });
    const choice = await choose([cpu, gpu], settings(clock));
    expect(choice.backend.name).toBe("gpu");
    expect(choice.tried[1]!.rate?.tokensPerSecond).toBeCloseTo(1000 / 5, 3);
  });

  test("a lead of less than a tenth does not count against the order of the list", async () => {
    const clock = new Clock();
    const [first, second] = [fake("first", { clock, layerMs: 1 }), fake("second", { clock, layerMs: 0.95 })];
    const choice = await choose([first, second], settings(clock));
    expect(choice.backend.name).toBe("first");
    expect(choice.tried[1]!.reason).toMatch(/not clearly more than the 167 of first/);
  });

  test("the only one that can run is not measured, nor is one that is asked for by name", async () => {
    const clock = new Clock();
    const [one, two] = [fake("one", { clock }), fake("two", { clock, layerMs: 0.1 })];
    const alone = await choose([absent, one], settings(clock));
    expect([states(alone)[1], alone.tried[1]!.reason]).toEqual([
      ["one", "chosen"],
      "It is the only one that can run here.",
    ]);
    const named = await choose([one, two], settings(clock, { wanted: "one" }));
    expect(states(named)).toEqual([
      ["one", "chosen"],
      ["two", "not asked"],
    ]);
    expect(named.tried.map(({ reason }) => reason)).toEqual([
      "It was asked for by name.",
      "one was asked for by name.",
    ]);
    expect([two.probes, two.opened.length, clock.time]).toEqual([0, 0, 0]);
    expect(one.opened.flatMap(({ log }) => log)).toEqual([]);
  });

  test("with measureAll every one that can run has a rate, also the only one, spares, and beside one that is named", async () => {
    const clock = new Clock();
    const all = settings(clock, { measureAll: true, spares: [fake("spare", { clock, layerMs: 9 })] });
    for (const wanted of ["auto", "one"]) {
      const choice = await choose([absent, fake("one", { clock })], { ...all, wanted });
      expect(choice.backend.name).toBe("one");
      expect(choice.tried.map(({ rate }) => rate !== undefined)).toEqual([false, true, true]);
    }
  });

  test("a backend without such weights is left out, and says which it has", async () => {
    const clock = new Clock();
    const q4: Provider = {
      ...fake("other"),
      probe: async () => ({ available: true, device: "d", dtypes: ["q4"], trains: false }),
    };
    const choice = await choose([q4, fake("one", { clock })], settings(clock, { dtype: "q8" }));
    expect(choice.tried[0]).toMatchObject({ state: "absent", reason: "It has no q8 weights, only q4." });
    expect(choice.tried[0]!.availability).toMatchObject({ available: false, code: "unsupported" });
  });

  test("a mixture of experts is measured too, with fewer of them", async () => {
    const clock = new Clock();
    const experts = { count: 4096, perToken: 4, side: 64, normalize: false, indexing: "expert" as const };
    const seen: number[] = [];
    const one = fake("one", { clock });
    const counting = withModels(one, (model) => {
      seen.push(model.config.experts!.count);
      return model;
    });
    const choice = await choose(
      [counting, fake("two", { clock, layerMs: 3 })],
      settings(clock, { config: { ...config, layers: 3, experts } }),
    );
    expect(choice.backend.name).toBe("one");
    expect(seen.slice(0, 2)).toEqual([256, 256]);
  });
});

describe("names and spares", () => {
  test("DOGE_BACKEND names one where the caller does not; auto is none", async () => {
    const clock = new Clock();
    const list = () => [fake("slow", { clock, layerMs: 9 }), fake("quick", { clock })];
    vi.stubEnv("DOGE_BACKEND", "slow");
    expect((await choose(list(), settings(clock, { wanted: undefined }))).backend.name).toBe("slow");
    expect((await choose(list(), settings(clock, { wanted: "quick" }))).backend.name).toBe("quick");
    expect((await choose(list(), settings(clock, { wanted: "auto" }))).backend.name).toBe("quick");
    vi.stubEnv("DOGE_BACKEND", "none");
    const error = await choose(list(), settings(clock, { wanted: undefined })).catch((caught) => caught);
    expect([error.code, error.message]).toEqual(["invalid-argument", expect.stringContaining('"none"')]);
    expect(error.message).toContain("auto, slow, quick");
  });

  test("one that is named and cannot run is an error: no other is taken in its place", async () => {
    const clock = new Clock();
    const list = settings(clock, { wanted: "absent", spares: [fake("spare")] });
    const error = await choose([absent, fake("one")], list).catch((caught) => caught);
    expect(isDogeError(error, "unavailable")).toBe(true);
    expect(error.message).toBe(
      "[doge:core] The backend absent was asked for by name and did not open. absent: There is no such device. " +
        "Instead of it one, spare can be named, or auto, which takes the fastest that runs here.",
    );
    const alone = await choose([absent], settings(clock, { wanted: "absent" })).catch((caught) => caught);
    expect(alone.message).toMatch(/and did not open\. absent: There is no such device\.$/);
    // Asked for a survey it is no error, and the others say why they do not run.
    const tried = await survey([absent, fake("one", { clock })], settings(clock, { wanted: "absent" }));
    expect(tried[1]).toMatchObject({ state: "ready", reason: "absent was asked for by name." });
    expect(tried[1]!.rate).toBeDefined();
  });

  test("a spare is asked, but neither opened nor measured while another can run; then it runs", async () => {
    const clock = new Clock();
    const spare = fake("spare", { clock, layerMs: 0.01 });
    const choice = await choose([fake("one", { clock })], settings(clock, { spares: [spare] }));
    expect(states(choice)).toEqual([
      ["one", "chosen"],
      ["spare", "spare"],
    ]);
    expect(spare.opened.length).toBe(0);
    const last = await choose([absent, brokenOpen], settings(clock, { spares: [spare] }));
    expect([last.backend.name, last.tried[2]!.reason]).toEqual(["spare", "None of those before it can run here."]);
  });

  test("when none opens, every reason is in the error", async () => {
    const error = await choose([absent, brokenOpen], settings(new Clock())).catch((caught) => caught);
    expect(isDogeError(error, "unavailable")).toBe(true);
    expect(error.message).toContain(
      "absent: There is no such device. broken: It should have worked and failed: the driver crashed",
    );
    expect(error.cause.message).toBe("the driver crashed");
    await expect(choose([])).rejects.toThrow("No backend was given");
  });
});

describe("kept rates", () => {
  test("are used by the next choice, which opens none but the best", async () => {
    const clock = new Clock();
    const rates = memoryRates();
    const list = () => [fake("slow", { clock, layerMs: 9 }), fake("quick", { clock })] as const;
    await choose(list(), settings(clock, { rates }));
    expect(rates.map.size).toBe(2);
    const { time } = clock;
    const [slow, quick] = list();
    const choice = await choose([slow, quick], settings(clock, { rates }));
    expect(choice.backend.name).toBe("quick");
    expect(choice.tried.map(({ rate }) => rate?.kept)).toEqual([true, true]);
    expect([slow.opened.length, quick.opened.length, clock.time]).toEqual([0, 1, time]);
    const again = await choose(list(), settings(clock, { rates, afresh: true }));
    expect(again.tried.map(({ rate }) => rate?.kept)).toEqual([false, false]);
  });

  test("hold for one device, driver, number of threads, shape, dtype, routing and version, and the keys say so", async () => {
    const clock = new Clock();
    const rates = memoryRates();
    const one = (device: string, over: object): Provider => ({
      ...fake("one", { clock }),
      probe: async () => ({ available: true, device, dtypes: ["f32", "q8"], trains: false, ...over }),
    });
    const two = () => fake("two", { clock });
    const run = (provider: Provider, more: ChooseOptions = {}) =>
      choose([provider, two()], settings(clock, { rates, ...more }));
    await run(one("a GPU", { details: { driver: "1" } }));
    const base = rates.map.size;
    await run(one("a GPU", { details: { driver: "1" } }));
    expect(rates.map.size).toBe(base);
    await run(one("another GPU", { details: { driver: "1" } }));
    await run(one("a GPU", { details: { driver: "2" } }));
    await run(one("a GPU", { details: { driver: "1" }, threads: 4 }));
    expect(rates.map.size).toBe(base + 3);
    await run(one("a GPU", { details: { driver: "1" } }), { dtype: "q8" });
    await run(one("a GPU", { details: { driver: "1" } }), { config: { ...config, layers: 7 } });
    await run(one("a GPU", { details: { driver: "1" } }), { routing: "per-token" });
    expect(rates.map.size).toBe(base + 3 + 6);
    const { version } = (await import("../../package.json", { with: { type: "json" } })).default;
    for (const key of rates.map.keys()) {
      expect(JSON.parse(key)).toMatchObject({
        version,
        machine: expect.stringContaining("V8"),
        shape: { hiddenSize: 8 },
      });
    }
    // Which ids end a text is no part of a shape.
    await run(one("a GPU", { details: { driver: "1" } }), { config: { ...config, layers: 6, eosIds: [5] } });
    expect(rates.map.size).toBe(base + 9);
  });

  test("what is seen in use takes the place of an estimate, the best of it, and decides the next time", async () => {
    const clock = new Clock();
    const rates = memoryRates();
    const list = () => [fake("slow", { clock, layerMs: 2 }), fake("quick", { clock })] as const;
    const choice = await choose(list(), settings(clock, { rates }));
    expect(choice.backend.name).toBe("quick");
    await choice.observe(50);
    await choice.observe(40);
    await choice.observe(Number.NaN);
    expect(choice.tried[1]!.rate).toEqual({ tokensPerSecond: 50, kept: false, real: true });
    const next = await choose(list(), settings(clock, { rates }));
    expect(next.backend.name).toBe("slow");
    expect(next.tried[1]!.rate).toEqual({ tokensPerSecond: 50, kept: true, real: true });
    await next.observe(45);
    const settled = await choose(list(), settings(clock, { rates }));
    expect(settled.backend.name).toBe("quick");
    await settled.observe(60);
    expect((await choose(list(), settings(clock, { rates }))).tried[1]!.rate?.tokensPerSecond).toBe(60);
  });

  test("are no older than a month", async () => {
    const clock = new Clock();
    const rates = memoryRates();
    const list = () => [fake("slow", { clock, layerMs: 2 }), fake("quick", { clock })] as const;
    await choose(list(), settings(clock, { rates }));
    for (const [key, value] of rates.map) {
      rates.map.set(key, JSON.stringify({ ...JSON.parse(value), at: Date.now() - 31 * 24 * 3600_000 }));
    }
    const again = await choose(list(), settings(clock, { rates }));
    expect(again.tried.map(({ rate }) => rate?.kept)).toEqual([false, false]);
  });

  test("of an older version are not looked at", async () => {
    const clock = new Clock();
    const rates = memoryRates();
    const list = () => [fake("slow", { clock, layerMs: 2 }), fake("quick", { clock })] as const;
    await choose(list(), settings(clock, { rates }));
    const old = memoryRates();
    for (const [key, value] of rates.map) {
      const wrong = JSON.stringify({
        ...JSON.parse(value),
        tokensPerSecond: JSON.parse(key).name === "slow" ? 9e9 : 1,
      });
      old.map.set(JSON.stringify({ ...JSON.parse(key), version: "0.0.1" }), wrong);
    }
    const again = await choose(list(), settings(clock, { rates: old }));
    expect([again.backend.name, again.tried.map(({ rate }) => rate?.kept)]).toEqual(["quick", [false, false]]);
    expect(old.map.size).toBe(4);
  });

  test.each([
    ["throws", { get: () => Promise.reject(new Error("no disk")), set: () => Promise.reject(new Error("no disk")) }],
    ["holds something else", { get: async () => "[1, 2", set: async () => {} }],
    ["holds an impossible rate", { get: async () => '{"tokensPerSecond": -1}', set: async () => {} }],
    ["never answers", { get: () => never<undefined>(), set: () => never<void>() }],
  ])("a store that %s is no reason to fail: rates are measured", async (_, rates) => {
    const clock = new Clock();
    const choice = await choose(
      [fake("slow", { clock, layerMs: 9 }), fake("quick", { clock })],
      settings(clock, { rates }),
    );
    expect(choice.backend.name).toBe("quick");
    expect(choice.tried[1]!.rate).toMatchObject({ kept: false });
  });
});

describe("backends that misbehave", () => {
  test("one whose known answer is wrong is broken, though its probe says yes and it would be the fastest", async () => {
    const clock = new Clock();
    const liar = fake("liar", { clock, layerMs: 0.001, lies: true });
    const choice = await choose(
      [liar, fake("slow", { clock, layerMs: 9 }), fake("slower", { clock, layerMs: 19 })],
      settings(clock),
    );
    expect(choice.backend.name).toBe("slow");
    expect(choice.tried[0]).toMatchObject({
      state: "broken",
      reason: expect.stringMatching(/computes the logit .* is right/),
    });
    expect(liar.opened.every(({ closed }) => closed)).toBe(true);
    const alone = await choose([fake("liar", { lies: true })], settings(clock)).catch((caught) => caught);
    expect([alone.code, alone.cause.code]).toEqual(["unavailable", "known-answer"]);
  });

  test("and one whose known answer is no number, is missing or is too short", async () => {
    const clock = new Clock();
    const nan = fake("odd", { clock, lies: true, ready: (backend) => Object.assign(backend, { nanAfter: 9 }) });
    const answering = (logits: Float32Array<ArrayBuffer>[]) =>
      withModels(fake("odd", { clock, lies: true }), (model) => ({
        ...model,
        sequence: () => model.sequence(),
        forward: async () => logits,
      }));
    const numberless = answering([new Float32Array(19).fill(Number.NaN)]);
    for (const odd of [nan, numberless, answering([]), answering([new Float32Array(3)])]) {
      const choice = await choose([odd, fake("slow", { clock, layerMs: 9 })], settings(clock));
      expect(choice.backend.name).toBe("slow");
      expect(choice.tried[0]).toMatchObject({ state: "broken", error: expect.any(Error) });
    }
    const { tried } = await choose([numberless, fake("slow", { clock, layerMs: 9 })], settings(clock));
    expect(tried[0]!.reason).toMatch(/computes the logit NaN where .* is right/);
  });

  test("and one whose probe throws, at once or later, or answers with nothing", async () => {
    const clock = new Clock();
    const odd = (probe: () => unknown): Provider => ({ ...fake("odd"), probe: probe as Provider["probe"] });
    const thrown = () => {
      throw new Error("the driver crashed");
    };
    for (const probe of [thrown, async () => thrown(), () => undefined, async () => null]) {
      const choice = await choose([odd(probe), fake("one", { clock })], settings(clock));
      expect(choice.backend.name).toBe("one");
      expect(choice.tried[0]!.state).toBe("broken");
      expect(choice.tried[0]!.reason).toMatch(/\.$/);
    }
  });

  test("so is one that takes no time at all", async () => {
    const clock = new Clock();
    const instant = fake("instant", { clock, layerMs: 0 });
    const choice = await choose([instant, fake("slow", { clock, layerMs: 9 })], settings(clock));
    expect(choice.backend.name).toBe("slow");
    expect(choice.tried[0]).toMatchObject({
      state: "broken",
      reason: expect.stringContaining("no memory is fast enough"),
    });
  });

  test("and one that draws less than is asked for, or what is no id", async () => {
    const clock = new Clock();
    for (const ids of [[], [1, 2], Array.from({ length: 16 }, () => 1e6)]) {
      const odd = withModels(fake("odd", { clock }), (model) => ({
        ...model,
        sequence: () => model.sequence(),
        get room() {
          return model.room;
        },
        sample: async (rows, signal) => {
          const drawn = await model.sample(rows, signal);
          return rows[0]!.count === 16 ? [{ ...drawn[0]!, ids: Int32Array.from(ids) }] : drawn;
        },
      }));
      const choice = await choose([odd, fake("slow", { clock, layerMs: 9 })], settings(clock));
      expect(choice.backend.name).toBe("slow");
      expect(choice.tried[0]).toMatchObject({
        state: "broken",
        reason: expect.stringContaining("16 ids are asked for"),
      });
    }
  });

  test("one that hangs in its calibration loses its part of the time, and no more", async () => {
    const clock = new Clock();
    const hanging = withModels(fake("hanging", { clock }), (model) => ({
      ...model,
      sequence: () => model.sequence(),
      sample: never,
    }));
    const rates = memoryRates();
    const list = [hanging, fake("one", { clock, layerMs: 9 })];
    const choice = await choose(list, settings(clock, { rates, budget: 2000 }));
    expect(choice.backend.name).toBe("one");
    expect(choice.tried[0]).toMatchObject({
      state: "ready",
      reason: expect.stringContaining("part of the calibration was over"),
    });
    expect(choice.tried[0]!.rate).toBeUndefined();
    // That is kept as well: it is not waited for again, and one is not opened only to be measured in vain.
    const second = fake("hanging", { clock });
    const again = await choose([second, fake("one", { clock })], settings(clock, { rates, budget: 60_000 }));
    expect([again.backend.name, second.opened.length]).toEqual(["one", 0]);
    expect(again.tried[0]!.reason).toContain("part of the calibration was over");
    const afresh = await choose([second, fake("one", { clock })], settings(clock, { rates, afresh: true }));
    expect(afresh.tried[0]!.rate).toMatchObject({ kept: false });
  });

  test("where none can be timed the list decides, and nothing of it is kept", async () => {
    const clock = new Clock();
    const rates = memoryRates();
    const hanging = (name: string) =>
      withModels(fake(name, { clock }), (model) => ({ ...model, sequence: () => model.sequence(), sample: never }));
    const choice = await choose([hanging("a"), hanging("b")], settings(clock, { rates, budget: 150 }));
    expect([choice.backend.name, rates.map.size]).toEqual(["a", 0]);
    expect(choice.tried[0]!.reason).toBe("It comes first in the list, and none could be timed.");
  });

  test("the last of the list is measured first: what it leaves of the time is for those before it", async () => {
    const clock = new Clock();
    const order: string[] = [];
    const noted = (name: string) =>
      withModels(fake(name, { clock }), (model) => {
        order.push(name);
        return model;
      });
    await choose([noted("a"), noted("b"), noted("c")], settings(clock, { config: { ...config, layers: 1 } }));
    expect(order).toEqual(["c", "b", "a"]);
  });

  test("what was timed of one layer counts when the second slice hangs", async () => {
    const clock = new Clock();
    const hanging = withModels(fake("hanging", { clock, layerMs: 0.5, tokenMs: 0.5 }), (model, layers) =>
      layers === 2 ? { ...model, sequence: () => model.sequence(), sample: never } : model,
    );
    const choice = await choose([hanging, fake("one", { clock, layerMs: 9 })], settings(clock, { budget: 2000 }));
    expect(choice.tried[0]!.rate?.tokensPerSecond).toBeCloseTo(1000 / 6, 3);
    expect(choice.backend.name).toBe("hanging");
  });

  test("one that hangs in its probe, or when it is opened, is broken after a while", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const clock = new Clock();
    const deaf: Provider = { ...fake("deaf"), probe: never };
    const stuck: Provider = { ...fake("stuck"), open: never };
    const choosing = choose([deaf, stuck, fake("one", { clock })], settings(clock));
    for (let step = 0; step < 50; step++) await vi.advanceTimersByTimeAsync(1000);
    const choice = await choosing;
    expect(choice.backend.name).toBe("one");
    expect(choice.tried.slice(0, 2).map(({ state, reason }) => [state, reason])).toEqual([
      ["broken", "It should have worked and failed: Its probe gave no answer in 5 seconds."],
      ["broken", "It should have worked and failed: Opening it gave no answer in 30 seconds."],
    ]);
  });

  test("one that opens too late is closed then", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const late = fake("late");
    const { promise, resolve } = Promise.withResolvers<void>();
    const provider: Provider = { ...late, open: () => promise.then(() => late.open()) };
    const choosing = choose([provider, fake("one")], settings(new Clock()));
    for (let step = 0; step < 40; step++) await vi.advanceTimersByTimeAsync(1000);
    expect((await choosing).backend.name).toBe("one");
    resolve();
    await vi.advanceTimersByTimeAsync(1000);
    expect(late.opened.map(({ closed }) => closed)).toEqual([true]);
  });

  test("an abort ends it wherever it is, and what was opened is closed", async () => {
    const early = await choose([fake("one")], { signal: AbortSignal.abort() }).catch((caught) => caught);
    expect(isDogeError(early, "aborted")).toBe(true);
    const clock = new Clock();
    for (const stage of ["probe", "open", "sample"] as const) {
      const one = fake("one", { clock });
      const { signal, ...controller } = withAbort();
      const stop = <T>(): Promise<T> => {
        setTimeout(controller.abort, 5);
        return never();
      };
      const staged: Provider =
        stage === "sample"
          ? withModels(one, (model) => ({ ...model, sequence: () => model.sequence(), sample: stop }))
          : { ...one, [stage]: stop };
      const error = await choose([staged, fake("two", { clock })], settings(clock, { signal })).catch(
        (caught) => caught,
      );
      expect([stage, isDogeError(error, "aborted")]).toEqual([stage, true]);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(one.opened.every(({ closed }) => closed)).toBe(true);
    }
  });
});

function withAbort() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}
