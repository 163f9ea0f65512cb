// choose() among backends that misbehave: wrong answers, no answers, hanging at any time; and an abort.
import { afterEach, describe, expect, test, vi } from "vitest";
import { choose, isDogeError, type Provider } from "../../src/index.ts";
import { config } from "../running/mock.ts";
import { Clock, fake, memoryRates, never, passing, settings, withModels } from "./fakes.ts";

afterEach(() => {
  vi.useRealTimers();
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

  test("and one whose probe throws, at once or later, or answers with nothing; no timer is left", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
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
      expect(vi.getTimerCount()).toBe(0);
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
      reason: expect.stringContaining("calibration was over"),
    });
    expect(choice.tried[0]!.rate).toBeUndefined();
    // That is kept as well: it is not waited for again, and one is not opened only to be measured in vain.
    const second = fake("hanging", { clock });
    const again = await choose([second, fake("one", { clock })], settings(clock, { rates, budget: 60_000 }));
    expect([again.backend.name, second.opened.length]).toEqual(["one", 0]);
    expect(again.tried[0]!.reason).toContain("calibration was over");
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
      withModels(fake(name, { clock }), (model) => ({
        ...model,
        sequence: () => model.sequence(),
        sample: (rows, signal) => {
          if (order.at(-1) !== name) order.push(name);
          return model.sample(rows, signal);
        },
      }));
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

  test("one that hangs in its probe, or when it is opened and there is no other, is broken after a while", async () => {
    const clock = new Clock();
    const deaf: Provider = { ...fake("deaf"), probe: never };
    const stuck: Provider = { ...fake("stuck"), open: never };
    const { choice } = await passing(() =>
      choose([deaf, stuck], settings(clock, { spares: [fake("one", { clock })] })),
    );
    expect(choice.backend.name).toBe("one");
    expect(choice.tried.slice(0, 2).map(({ state, reason }) => [state, reason])).toEqual([
      ["broken", "It should have worked and failed: Its probe gave no answer in 5 seconds."],
      ["broken", "It should have worked and failed: Opening it gave no answer in 60 seconds."],
    ]);
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
