// What happens to a team when the machine does not play along: the rows W1 to W6 of the list of faults, with threads.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { type Backend, loadDoge, memoryCheckpoint, nextTask, tensorShapes } from "@doge-lm/core";
import { afterEach, describe, expect, test, vi } from "vitest";
import { wasm } from "../src/index.ts";
import { checkpoint, config, fault, prompt } from "./small.ts";
import { workerScript, wrappedRun } from "./worker-script.ts";

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** What a fresh backend answers: the engine is none the worse for what went before. */
async function answer(backend: Backend): Promise<Float32Array> {
  const model = await backend.load(checkpoint);
  const [logits] = await model.forward([{ sequence: model.sequence(), tokens: prompt }]);
  model.close();
  return logits!;
}
async function freshAnswer(): Promise<Float32Array> {
  const backend = await wasm({ threads: 2 }).open();
  const logits = await answer(backend);
  await backend.close();
  return logits;
}

describe("W1: no shared memory, no workers", () => {
  test("without SharedArrayBuffer one thread computes, and device, threads and warnings say so", async () => {
    const expected = await freshAnswer();
    vi.stubGlobal("SharedArrayBuffer", undefined);
    for (const [threads, isolated] of [
      [undefined, undefined],
      [4, undefined],
      [4, true], // WebKitGTK's isolated pages
    ] as const) {
      vi.stubGlobal("crossOriginIsolated", isolated);
      const backend = await wasm({ threads, binary: "simd" }).open();
      expect(backend.can).toMatchObject({ device: "wasm simd128", threads: 1 });
      expect(backend.can.warnings).toEqual([expect.stringContaining("no shared memory")]);
      await backend.close();
    }
    const backend = await wasm({ threads: 2 }).open();
    expect(await answer(backend)).toEqual(expected);
    await backend.close();
  });

  test("a page that is not isolated is told which headers are missing: once on the console, always in info()", async () => {
    vi.stubGlobal("crossOriginIsolated", false);
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    for (let time = 0; time < 3; time++) {
      const doge = await loadDoge("packages/demo-model", { backend: wasm() });
      expect(doge.info().threads).toBe(1);
      expect(doge.info().warnings.at(-1)).toMatch(/Cross-Origin-Opener-Policy.*Cross-Origin-Embedder-Policy/);
      await doge.close();
    }
    expect(warn).toHaveBeenCalledTimes(1);
  });

  test("one thread asked for is no reason to warn, and starts no worker", async () => {
    vi.stubGlobal("crossOriginIsolated", false);
    expect((await wasm({ threads: 1 }).probe()) satisfies object).toMatchObject({ threads: 1, warnings: [] });
  });
});

describe("W2 and W5: a shared memory", () => {
  test("a device that cannot set 4 GiB of addresses aside gets a memory that grows less far", async () => {
    const { Memory } = WebAssembly;
    const asked: number[] = [];
    vi.spyOn(WebAssembly, "Memory").mockImplementation(
      class {
        constructor(limits: WebAssembly.MemoryDescriptor) {
          if (limits.maximum !== 1) asked.push(limits.maximum!);
          if (limits.maximum! > 16384) throw new RangeError("could not allocate memory");
          // biome-ignore lint/correctness/noConstructorReturn: what `new` gives has to be a memory
          return new Memory(limits);
        }
      } as never,
    );
    const backend = await wasm({ threads: 2 }).open();
    asked.length = 0;
    expect(await answer(backend)).toHaveLength(config.vocabSize);
    expect(asked).toEqual([65536, 32768, 16384]);
    await backend.close();
  });

  test("a machine that gives no memory is told of, and the backend goes on", async () => {
    const backend = await wasm({ threads: 2 }).open();
    const memory = vi.spyOn(WebAssembly, "Memory").mockImplementation(
      class {
        constructor() {
          throw new RangeError("could not allocate memory");
        }
      } as never,
    );
    expect((await fault(backend.load(checkpoint))).code).toBe("out-of-memory");
    memory.mockRestore();
    expect(await answer(backend)).toHaveLength(config.vocabSize);
    await backend.close();
  });

  test("a call that the memory cannot grow for rejects and changes nothing; when it grows, threads and views follow", async () => {
    const backend = await wasm({ threads: 2 }).open();
    const model = await backend.load(checkpoint, { room: 100_000 });
    const sequence = model.sequence();
    const [before] = await model.forward([{ sequence, tokens: prompt }]);
    const { room } = model;
    const many = () => Array.from({ length: 1200 }, () => ({ sequence: model.sequence(), tokens: prompt }));
    const grow = vi.spyOn(WebAssembly.Memory.prototype, "grow").mockImplementation(() => {
      throw new RangeError("could not grow memory");
    });
    expect((await fault(model.forward(many()))).code).toBe("out-of-memory");
    expect(grow).toHaveBeenCalled();
    grow.mockRestore();
    expect(model.room).toBe(room);
    for (const logits of await model.forward(many())) expect(logits).toEqual(before);
    expect((await model.forward([{ sequence, tokens: new Int32Array(0) }]))[0]).toEqual(before);
    await backend.close();
  });
});

describe("W3: workers", () => {
  const broken = {
    "a script that is not there": () => new URL("./nowhere.js", import.meta.url),
    "a script that throws": () => workerScript('throw new Error("refused by policy");').script,
    "a script that ends": () => workerScript("process.exit(3);").script,
    "a script that cannot make an instance": () =>
      workerScript("WebAssembly.Instance = class { constructor() { throw new Error('no room'); } };").script,
  };

  test.each(Object.entries(broken))("%s: unavailable with the cause when threads were asked for", async (_, script) => {
    const { code, message } = await fault(wasm({ threads: 2, assets: { worker: script() } }).open());
    expect(code).toBe("unavailable");
    expect(message).toMatch(/nowhere\.js|refused by policy|ended with code 3|no room/);
    expect(message).toContain("threads: 1 needs no worker");
  });

  test.each(Object.entries(broken))(
    "%s: the calling thread computes when they were not, and says why",
    async (_, script) => {
      const backend = await wasm({ assets: { worker: script() } }).open();
      expect(backend.can.threads).toBe(1);
      expect(backend.can.warnings).toEqual([
        expect.stringMatching(/nowhere\.js|refused by policy|ended with code 3|no room/),
      ]);
      expect(await answer(backend)).toHaveLength(config.vocabSize);
      await backend.close();
    },
  );

  test("a binary that is not there: the same", async () => {
    const assets = { simdShared: new URL("./nowhere.wasm", import.meta.url) };
    expect((await fault(wasm({ binary: "simd", threads: 2, assets }).open())).message).toContain("nowhere.wasm");
    const backend = await wasm({ binary: "simd", assets }).open();
    expect(backend.can.warnings).toEqual([expect.stringContaining("nowhere.wasm")]);
    await backend.close();
  });

  test.each([
    ["ends", "process.exit(7)", "ended with code 7"],
    [
      "throws outside of the code",
      'setImmediate(() => { throw new Error("out of the blue"); }); return run(job, thread, 1e3)',
      "out of the blue",
    ],
  ])(
    "one that %s in the middle of a call: it and all behind it reject, and another backend works",
    async (_, what, cause) => {
      const expected = await freshAnswer();
      const { script, words } = wrappedRun(
        `if (thread === 1 && words[0]) { ${what}; } return run(job, thread, budget);`,
      );
      const backend = await wasm({ threads: 2, assets: { worker: script } }).open();
      const model = await backend.load(checkpoint, { context: 64, room: 4000 });
      const [one, two] = [model.sequence(), model.sequence()];
      expect((await model.forward([{ sequence: one, tokens: prompt }]))[0]).toEqual(expected);
      Atomics.store(words, 0, 1);
      const long = new Int32Array(60).fill(1);
      const calls = [
        model.forward([{ sequence: one, tokens: long }]),
        model.forward([{ sequence: two, tokens: prompt }]),
      ];
      const faults = await Promise.all(calls.map(fault));
      expect(faults.map(({ code }) => code)).toEqual(["device-lost", "device-lost"]);
      expect(faults[0]!.message).toContain(cause);
      expect((await fault(backend.load(checkpoint))).code).toBe("device-lost");
      await backend.close();
      expect(await freshAnswer()).toEqual(expected);
    },
  );
});

test("W4: a trap on one thread ends them all, though the others wait for it; another backend works", async () => {
  const expected = await freshAnswer();
  const { script, words } = wrappedRun("return run(thread === 1 && words[0] ? 0xffff0000 : job, thread, budget);");
  const backend = await wasm({ threads: 3, assets: { worker: script } }).open();
  const model = await backend.load(checkpoint);
  Atomics.store(words, 0, 1);
  const { code, message } = await fault(model.forward([{ sequence: model.sequence(), tokens: prompt }]));
  expect([code, message]).toEqual(["device-lost", expect.stringContaining("memory access out of bounds")]);
  await backend.close();
  expect(await freshAnswer()).toEqual(expected);
});

describe("W6: threads that stand still", () => {
  test("are noticed after ten seconds, and a machine that only slept is not blamed", async () => {
    const { script, words } = wrappedRun(
      "if (thread === 1) Atomics.wait(words, 0, 1); return run(job, thread, budget);",
    );
    const backend = await wasm({ threads: 2, assets: { worker: script } }).open();
    const model = await backend.load(checkpoint);
    const sequence = model.sequence();
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    Atomics.store(words, 0, 1);
    let settled = false;
    const call = fault(model.forward([{ sequence, tokens: prompt }])).finally(() => {
      settled = true;
    });
    await vi.advanceTimersByTimeAsync(9000);
    for (let task = 0; task < 100; task++) await nextTask();
    expect(settled).toBe(false);
    await vi.advanceTimersByTimeAsync(2000);
    expect(await call).toMatchObject({ code: "device-lost", message: expect.stringContaining("stood still") });
    vi.useRealTimers();
    await backend.close();
  });

  test("the calling thread never waits", async () => {
    const wait = vi.spyOn(Atomics, "wait");
    await freshAnswer();
    expect(wait).not.toHaveBeenCalled();
  });
});

describe("nothing is left", () => {
  const threadsOfProcess = () => readdirSync("/proc/self/task").length;

  test.skipIf(process.platform !== "linux")(
    "after 200 loads and closes: no thread, no memory",
    async () => {
      // 4 MB of weights: a hundredth of them left behind would show.
      const large = { ...config, vocabSize: 62_500 };
      const tensors = new Map(
        Array.from(tensorShapes(large), ([name, shape]) => [name, new Float32Array(shape.reduce((a, b) => a * b, 1))]),
      );
      const cycle = async () => {
        const backend = await wasm({ threads: 2 }).open();
        const model = await backend.load(memoryCheckpoint(large, tensors));
        await model.forward([{ sequence: model.sequence(), tokens: prompt }]);
        await backend.close();
      };
      for (let time = 0; time < 20; time++) await cycle();
      const [threads, bytes] = [threadsOfProcess(), process.memoryUsage.rss()];
      for (let time = 0; time < 180; time++) await cycle();
      expect(threadsOfProcess()).toBeLessThanOrEqual(threads);
      expect(process.memoryUsage.rss() - bytes).toBeLessThan(180e6);
    },
    120_000,
  );

  test.skipIf(process.platform !== "linux")("of a model that is closed while a call is on its way", async () => {
    const before = threadsOfProcess();
    const backend = await wasm({ threads: 2 }).open();
    const model = await backend.load(checkpoint);
    const call = model.forward([{ sequence: model.sequence(), tokens: prompt }]);
    const closing = backend.close();
    expect((await call)[0]).toHaveLength(config.vocabSize);
    await closing;
    expect(threadsOfProcess()).toBeLessThanOrEqual(before);
  });

  test("to keep a process alive that closes nothing, and what it awaits is answered", () => {
    const program = `
      const { load } = await import(${JSON.stringify(new URL("../src/index.ts", import.meta.url).href)});
      const doge = await load("packages/demo-model", { threads: 2 });
      const { ids } = await doge.generate("Hi", { maxNewTokens: 4 }).result();
      console.log(doge.info().threads, ids.length > 0);`;
    const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", program];
    expect(execFileSync(process.execPath, args, { encoding: "utf8", timeout: 30_000 })).toBe("2 true\n");
  });
});
