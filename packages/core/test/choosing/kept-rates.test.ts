// choose() and the rates it keeps: for whom they hold, how long, and what of a store that fails.
import { describe, expect, test } from "vitest";
import { type ChooseOptions, choose, type Provider } from "../../src/index.ts";
import { config } from "../running/mock.ts";
import { Clock, fake, memoryRates, never, settings } from "./fakes.ts";

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

  test("that none could be timed is kept for minutes: what hindered is over by then", async () => {
    const clock = new Clock();
    const rates = memoryRates();
    const list = () => [fake("slow", { clock, layerMs: 2 }), fake("quick", { clock })] as const;
    await choose(list(), settings(clock, { rates }));
    const aged = async (minutes: number) => {
      for (const [key, value] of rates.map) {
        if (JSON.parse(key).name !== "quick") continue;
        const none = { ...JSON.parse(value), tokensPerSecond: null, at: Date.now() - minutes * 60_000 };
        rates.map.set(key, JSON.stringify(none));
      }
      return (await choose(list(), settings(clock, { rates }))).backend.name;
    };
    expect([await aged(5), await aged(15)]).toEqual(["slow", "quick"]);
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
