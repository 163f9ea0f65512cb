// What happens when the machine does not play along: no SIMD, no memory, a trap, a wrong result, a binary that is not there.
// The rows W1 to W6 of the list of faults, for one thread; faults-threads.test.ts has those of teams.
import { type Config, memoryCheckpoint, tensorShapes } from "@doge-lm/core";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type Exports, wasm } from "../src/index.ts";
import { checkpoint, config, fault, prompt } from "./small.ts";

/** One thread, on this one. */
const alone = { threads: 1 } as const;

afterEach(() => {
  vi.restoreAllMocks();
});

describe("W1: engines without what is needed", () => {
  test("without SIMD it is unavailable, and says since when engines have it", async () => {
    vi.spyOn(WebAssembly, "validate").mockReturnValue(false);
    const answer = await wasm(alone).probe();
    expect(answer).toMatchObject({ available: false, code: "unavailable" });
    expect(answer.available ? "" : answer.why).toContain("no SIMD");
    expect((await fault(wasm(alone).open())).code).toBe("unavailable");
  });

  test("without relaxed SIMD the plain binary runs, and the relaxed one is unavailable when asked for", async () => {
    const { validate } = WebAssembly;
    const [simd, relaxed] = [vi.fn(), vi.fn()];
    vi.spyOn(WebAssembly, "validate").mockImplementation((bytes) => {
      // The two probes differ in length: the relaxed one takes a third operand.
      const isRelaxed = bytes.byteLength > 38;
      (isRelaxed ? relaxed : simd)();
      return !isRelaxed && validate(bytes);
    });
    expect(await wasm(alone).probe()).toMatchObject({ available: true, device: "wasm simd128" });
    expect(await wasm({ binary: "relaxed" }).probe()).toMatchObject({ available: false, code: "unavailable" });
    expect(simd).toHaveBeenCalled();
    expect(relaxed).toHaveBeenCalled();
  });

  test("where relaxed SIMD has no dots, as in WebKitGTK 2.50 that is told to have it, the plain binary runs", async () => {
    const { validate } = WebAssembly;
    const refused = vi.fn(() => false);
    vi.spyOn(WebAssembly, "validate").mockImplementation((bytes) => {
      // i32x4.relaxed_dot_i8x16_i7x16_add_s
      const dots = Buffer.from(bytes as Uint8Array).includes(Buffer.of(0xfd, 0x93, 0x02));
      return dots ? refused() : validate(bytes);
    });
    expect(await wasm(alone).probe()).toMatchObject({ available: true, device: "wasm simd128" });
    expect(refused).toHaveBeenCalled();
  });

  test("W3: where a page forbids WebAssembly it is unavailable", async () => {
    vi.spyOn(WebAssembly, "Module").mockImplementation(
      class {
        constructor() {
          throw new WebAssembly.CompileError("refused by Content Security Policy");
        }
      } as never,
    );
    const answer = await wasm(alone).probe();
    expect(answer.available ? "" : answer.why).toContain("Content Security Policy");
  });

  test("W3: a binary that is not there is told of, with its address", async () => {
    const nowhere = new URL("./nowhere.wasm", import.meta.url);
    const { code, message } = await fault(wasm({ ...alone, assets: { simd: nowhere, relaxed: nowhere } }).open());
    expect(code).toBe("unavailable");
    expect(message).toContain("nowhere.wasm");
  });

  test("an engine that computes something else is refused", async () => {
    const silent = (exports: Exports): Exports => ({ ...exports, run: () => 0 });
    expect((await fault(wasm({ onInstance: silent }).open())).code).toBe("known-answer");
  });
});

describe("W2 and W5: memory", () => {
  test("a model beyond what 32 bits address is refused with the numbers, before a weight is read", async () => {
    const read = vi.fn(checkpoint.read);
    const backend = await wasm(alone).open();
    const huge = backend.load({ ...checkpoint, config, tensors: checkpoint.tensors, read }, { room: 2 ** 26 });
    const { code, message } = await fault(huge);
    expect(code).toBe("out-of-memory");
    expect(message).toMatch(/needs [\d.]+ MiB and 4096.0 MiB are available/);
    expect(read).not.toHaveBeenCalled();
    const model = await backend.load(checkpoint);
    expect((await model.forward([{ sequence: model.sequence(), tokens: prompt }]))[0]!.length).toBe(40);
    await backend.close();
  });

  test("a machine that gives no memory is told of", async () => {
    const backend = await wasm(alone).open();
    const memory = vi.spyOn(WebAssembly, "Memory").mockImplementation(
      class {
        constructor() {
          throw new RangeError("could not allocate memory");
        }
      } as never,
    );
    expect((await fault(backend.load(checkpoint))).code).toBe("out-of-memory");
    memory.mockRestore();
    await (await backend.load(checkpoint)).close();
    await backend.close();
  });

  test("a call whose results do not fit rejects and changes nothing", async () => {
    const backend = await wasm(alone).open();
    const model = await backend.load(checkpoint, { room: 100_000 });
    const sequence = model.sequence();
    const [before] = await model.forward([{ sequence, tokens: prompt }]);
    const room = model.room;
    const grow = vi.spyOn(WebAssembly.Memory.prototype, "grow").mockImplementation(() => {
      throw new RangeError("could not grow memory");
    });
    const many = Array.from({ length: 1200 }, () => ({ sequence: model.sequence(), tokens: prompt }));
    expect((await fault(model.forward(many))).code).toBe("out-of-memory");
    grow.mockRestore();
    expect(model.room).toBe(room);
    const [after] = await model.forward([{ sequence, tokens: new Int32Array(0) }]);
    expect(after).toEqual(before);
    await backend.close();
  });

  test("memory grows with the tokens in use, in steps, and not with the room; what is closed is used again", async () => {
    let memory: WebAssembly.Memory | undefined;
    const onInstance = (exports: Exports): Exports => {
      memory = exports.memory as WebAssembly.Memory;
      return exports;
    };
    const backend = await wasm({ onInstance }).open();
    const model = await backend.load(checkpoint, { room: 1_000_000 });
    const megabytes = () => memory!.buffer.byteLength / 2 ** 20;
    expect(megabytes()).toBeLessThan(2);
    const use = async (count: number) => {
      const rows = Array.from({ length: count }, () => ({ sequence: model.sequence(), tokens: prompt }));
      await model.forward(rows);
      for (const { sequence } of rows) sequence.close();
    };
    await use(1);
    expect(megabytes()).toBeLessThan(3);
    await use(3000);
    const most = megabytes();
    expect(most).toBeGreaterThan(4);
    expect(most % 1).toBe(0);
    await use(3000);
    expect(megabytes()).toBe(most);
    await backend.close();
  });

  test("views stay right when the memory grows between calls", async () => {
    const backend = await wasm(alone).open();
    const model = await backend.load(checkpoint, { room: 100_000 });
    const sequence = model.sequence();
    const [before] = await model.forward([{ sequence, tokens: prompt }]);
    const many = Array.from({ length: 1200 }, () => ({ sequence: model.sequence(), tokens: prompt }));
    for (const logits of await model.forward(many)) expect(logits).toEqual(before);
    const [after] = await model.forward([{ sequence, tokens: new Int32Array(0) }]);
    expect(after).toEqual(before);
    await backend.close();
  });
});

test("W4: a trap loses the device: every model of the backend says so, and another backend works", async () => {
  let broken = false;
  const trapping = (exports: Exports): Exports => ({
    ...exports,
    run(job, thread, budget) {
      // An address beyond the memory: a trap of the engine itself.
      return exports.run(broken ? 0xffff_0000 : job, thread, budget);
    },
  });
  const backend = await wasm({ onInstance: trapping }).open();
  const [model, other] = [await backend.load(checkpoint), await backend.load(checkpoint)];
  const [expected] = await model.forward([{ sequence: model.sequence(), tokens: prompt }]);
  const [one, two] = [model.sequence(), other.sequence()];
  broken = true;
  expect((await fault(model.forward([{ sequence: one, tokens: prompt }]))).code).toBe("device-lost");
  broken = false;
  expect((await fault(other.forward([{ sequence: two, tokens: prompt }]))).code).toBe("device-lost");
  expect((await fault(backend.load(checkpoint))).code).toBe("device-lost");
  await backend.close();

  const second = await wasm(alone).open();
  const fresh = await second.load(checkpoint);
  expect((await fresh.forward([{ sequence: fresh.sequence(), tokens: prompt }]))[0]).toEqual(expected);
  await second.close();
});

test("an abort stops a load even when its checkpoint never waits for anything", async () => {
  const backend = await wasm(alone).open();
  // 16 million weights of a file that is there at once: more than a second of packing.
  const large: Config = { ...config, vocabSize: 250_000, hiddenSize: 64 };
  const tensors = new Map(
    Array.from(tensorShapes(large), ([name, shape]) => [name, new Float32Array(shape.reduce((a, b) => a * b, 1))]),
  );
  const controller = new AbortController();
  setImmediate(() => controller.abort()); // comes only if the load lets the event loop turn
  const loading = backend.load(memoryCheckpoint(large, tensors), { signal: controller.signal });
  expect((await fault(loading)).code).toBe("aborted");
  await backend.close();
});
