// choose() among backends that take their time: a GPU that compiles its kernels for the first time, and a driver that does not answer.
import { afterEach, expect, test, vi } from "vitest";
import { choose } from "../../src/index.ts";
import { after, Clock, fake, memoryRates, passing, settings, slow } from "./fakes.ts";

afterEach(() => {
  vi.useRealTimers();
});

/** A GPU that would be twice as fast as the CPU. */
function both(clock: Clock, times: { openMs?: number; loadMs?: number }) {
  const gpu = fake("gpu", { clock, layerMs: 0.5 });
  return { gpu, list: () => [slow(gpu, times), fake("cpu", { clock, layerMs: 1 })] };
}

test("what it compiles for its first model is no part of the calibration: it is timed, and runs", async () => {
  const clock = new Clock();
  const { list } = both(clock, { openMs: 500, loadMs: 2000 });
  const { choice, milliseconds } = await passing(() => choose(list(), settings(clock, { budget: 1000 })));
  expect(choice.backend.name).toBe("gpu");
  expect(choice.tried[0]!.rate?.tokensPerSecond).toBeGreaterThan(0);
  expect(milliseconds).toBeLessThan(3000);
});

test("one that takes longer to open is not waited for; it is closed when it comes, and waited for again ten minutes later", async () => {
  const clock = new Clock();
  const rates = memoryRates();
  const { gpu, list } = both(clock, { openMs: 8000 });
  const { choice, milliseconds } = await passing(() => choose(list(), settings(clock, { rates })));
  expect(choice.backend.name).toBe("cpu");
  expect(choice.tried[0]).toMatchObject({ state: "ready", reason: expect.stringContaining("before it was ready") });
  expect(milliseconds).toBeGreaterThanOrEqual(2900);
  expect(milliseconds).toBeLessThan(3500);
  expect(gpu.opened).toEqual([]);
  await vi.advanceTimersByTimeAsync(8000);
  expect(gpu.opened.map(({ closed }) => closed)).toEqual([true]);
  expect(vi.getTimerCount()).toBe(0);
  // At once, it is not even opened.
  const again = await passing(() => choose(list(), settings(clock, { rates })));
  expect([again.choice.backend.name, gpu.opened.length]).toEqual(["cpu", 1]);
  expect(again.milliseconds).toBeLessThan(500);
});

test("one that goes on compiling is not closed before that is done: the driver has it the next time", async () => {
  const clock = new Clock();
  const { gpu, list } = both(clock, { loadMs: 8000 });
  const { choice, milliseconds } = await passing(() => choose(list(), settings(clock)));
  expect(choice.backend.name).toBe("cpu");
  expect(milliseconds).toBeLessThan(3500);
  await vi.advanceTimersByTimeAsync(3000);
  expect(gpu.opened.map(({ closed }) => closed)).toEqual([false]);
  await vi.advanceTimersByTimeAsync(3000);
  expect(gpu.opened.map(({ closed }) => closed)).toEqual([true]);
  expect(vi.getTimerCount()).toBe(0);
});

test("nor is one waited for when another is known from before", async () => {
  const clock = new Clock();
  const rates = memoryRates();
  await choose([fake("cpu", { clock, layerMs: 1 }), fake("other", { clock, layerMs: 2 })], settings(clock, { rates }));
  const { list } = both(clock, { openMs: 8000 });
  const { choice, milliseconds } = await passing(() => choose(list(), settings(clock, { rates })));
  expect(choice.backend.name).toBe("cpu");
  expect(milliseconds).toBeLessThan(3500);
});

test("where no other is ready, it is waited for", async () => {
  const clock = new Clock();
  const { gpu } = both(clock, {});
  const cpu = fake("cpu", { clock, layerMs: 1 });
  const list = [slow(gpu, { openMs: 8000 }), slow(cpu, { openMs: 6000 })];
  const { choice, milliseconds } = await passing(() => choose(list, settings(clock)));
  expect(choice.backend.name).toBe("cpu");
  expect(milliseconds).toBeGreaterThanOrEqual(5900);
  expect(milliseconds).toBeLessThan(7000);
});

test("one that is late takes its place behind the others, should they fail", async () => {
  const clock = new Clock();
  const { gpu } = both(clock, {});
  const failing = {
    ...fake("cpu", { clock }),
    open: () => after(9000).then(() => Promise.reject(new Error("no memory"))),
  };
  const timely = fake("third", { clock, lies: true });
  const { choice } = await passing(() => choose([slow(gpu, { openMs: 10_000 }), failing, timely], settings(clock)));
  expect(choice.backend.name).toBe("gpu");
});
