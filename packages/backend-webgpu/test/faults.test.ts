// What happens when the machine does not play along: rows G1 to G7 of the table of faults (docs/decisions, the design of this
// backend). They run on the software adapter; what only a browser can do is said where it is missing.
import { choose, memoryCheckpoint, recovering } from "@doge-lm/core";
import { reference } from "@doge-lm/reference";
import { afterEach, describe, expect, test, vi } from "vitest";
import { DeviceLoss, load, type WebgpuOptions, webgpu } from "../src/index.ts";
import { software } from "./software.ts";
import { break_, fault, nullBackend, nullDawn, seeded, small, variants } from "./support.ts";

const answer = await software().probe();
const absent = !answer.available;
const why = absent ? ` (skipped: ${answer.why})` : "";
const dawn = await nullDawn();
const checkpoint = seeded({ ...small, layers: 1 });
const prompt = Int32Array.of(1, 2, 3);

afterEach(() => {
  vi.restoreAllMocks();
});

/** A WebGPU that gives these adapters, one after the other. */
const fakeGpu = (...adapters: unknown[]): GPU =>
  ({ requestAdapter: async () => adapters.shift() ?? null, wgslLanguageFeatures: new Set() }) as unknown as GPU;

describe("G1: no adapter, or one that is no GPU", () => {
  test("no WebGPU at all, or no adapter, is an absence with a reason", async () => {
    const none = await webgpu({ gpu: fakeGpu() }).probe();
    expect(none).toMatchObject({ available: false, code: "unavailable" });
    expect(none.available ? "" : none.why).toContain("no GPU");
    expect((await fault(webgpu({ gpu: fakeGpu() }).open())).code).toBe("unavailable");
  });

  test("a software adapter is taken only when asked for, and the reason says how to ask", async () => {
    const adapter = {
      info: { isFallbackAdapter: true, description: "Some Rasterizer" },
      features: new Set(),
      limits: {},
    };
    const refused = await webgpu({ gpu: fakeGpu(adapter) }).probe();
    expect(refused.available ? "" : refused.why).toMatch(/Some Rasterizer.*--backend webgpu/);
    const taken = await webgpu({ gpu: fakeGpu(adapter), software: true }).probe();
    expect(taken).toMatchObject({ available: true, device: "Some Rasterizer (software), barrier-free kernels" });
  });

  test("the next backend of the user's order runs, and the reason is kept", async () => {
    const { backend, tried } = await choose([webgpu({ gpu: fakeGpu() }), reference()]);
    expect(backend.name).toBe("reference");
    expect(tried[0]!.availability).toMatchObject({ available: false, code: "unavailable" });
    await backend.close();
  });

  test("an adapter that throws is told of", async () => {
    const gpu = { requestAdapter: () => Promise.reject(new Error("blocked by policy")) } as unknown as GPU;
    const refused = await webgpu({ gpu }).probe();
    expect(refused.available ? "" : refused.why).toContain("blocked by policy");
  });
});

describe.skipIf(dawn === null)(`G2 and G7 on the null device${dawn === null ? " (skipped: no Dawn)" : ""}`, () => {
  test("G2: what no binding of the device holds is refused with the numbers, before a weight is read", async () => {
    const backend = await nullBackend(dawn!, variants.base!, { bindingLimit: 100_000 });
    const read = vi.fn(checkpoint.read);
    const { code, message } = await fault(
      backend.load({ ...checkpoint, tensors: checkpoint.tensors, read }, { room: 1_000_000 }),
    );
    expect(code).toBe("out-of-memory");
    expect(message).toMatch(/takes [\d.]+ MiB and this device binds at most 0.1 MiB/);
    expect(read).not.toHaveBeenCalled();
    (await backend.load(checkpoint)).close();
    await backend.close();
  });

  test("G7: 200 times loaded and closed, nothing is left of any", async () => {
    const alive = new Set<GPUBuffer>();
    const onDevice = (device: GPUDevice): GPUDevice => {
      const create = device.createBuffer.bind(device);
      device.createBuffer = (descriptor) => {
        const buffer = create(descriptor);
        const destroy = buffer.destroy.bind(buffer);
        alive.add(buffer);
        buffer.destroy = () => {
          alive.delete(buffer);
          destroy();
          return undefined;
        };
        return buffer;
      };
      return device;
    };
    const backend = await nullBackend(dawn!, variants.base!, { onDevice });
    for (let cycle = 0; cycle < 200; cycle++) {
      const model = await backend.load(checkpoint, { context: 32 });
      if (cycle % 20 === 0) await model.forward([{ sequence: model.sequence(), tokens: prompt }]);
      expect(alive.size).toBeGreaterThan(5);
      model.close();
      expect(alive.size).toBe(0);
    }
    await backend.close();
  });
});

// Each opens devices of its own, and a software adapter compiles for seconds.
describe.skipIf(absent)(`G3 to G6 on the software adapter${why}`, { timeout: 180_000 }, () => {
  /** Opens with a device at hand. */
  async function withDevice(options: WebgpuOptions = {}) {
    const devices: GPUDevice[] = [];
    const provider = software({
      ...options,
      onDevice: (device) => {
        devices.push(device);
        return options.onDevice?.(device) ?? device;
      },
    });
    return { provider, devices };
  }
  test("G3: a device that is lost while weights arrive is a typed error", async () => {
    const { provider, devices } = await withDevice();
    const backend = await provider.open();
    let pieces = 0;
    const watched = memoryCheckpoint(
      checkpoint.config,
      new Map(
        await Promise.all(
          [...checkpoint.tensors].map(async ([name, { shape }]) => {
            const bytes = await checkpoint.read(name, 0, 4 * shape.reduce((a, b) => a * b, 1));
            return [name, new Float32Array(bytes.slice().buffer)] as const;
          }),
        ),
      ),
    );
    const read: typeof watched.read = (name, from, to, signal) => {
      if (++pieces === 3) devices[0]!.destroy();
      return watched.read(name, from, to, signal);
    };
    expect((await fault(backend.load({ ...watched, read }))).code).toBe("device-lost");
    await backend.close();
  });

  test("G3: lost in the middle of a text, it is survived: the ids are evaluated anew and the text goes on as it was", async () => {
    const { provider, devices } = await withDevice();
    const losses = vi.fn();
    const backend = await recovering(provider, { onLoss: losses }).open();
    const model = await backend.load(checkpoint);
    const [whole, broken] = [model.sequence(), model.sequence()];
    const sampling = { temperature: 0.9, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 3, stop: [] };
    const call = (sequence: typeof whole, tokens: Int32Array<ArrayBuffer>) =>
      model.sample([{ sequence, tokens, count: 8, sampling }]);
    const [expected] = await call(whole, prompt);
    const [expectedMore] = await call(whole, new Int32Array(0));
    const [first] = await call(broken, prompt);
    break_(devices[0]!);
    const [more] = await call(broken, new Int32Array(0));
    expect([...first!.ids, ...more!.ids]).toEqual([...expected!.ids, ...expectedMore!.ids]);
    expect(losses).toHaveBeenCalledTimes(1);
    expect(devices.length).toBe(2);
    await backend.close();
  });

  test("G3: lost behind the submit of a score, it is survived too, and what was scored stands behind the text", async () => {
    const { provider, devices } = await withDevice();
    const backend = await recovering(provider).open();
    const model = await backend.load(checkpoint);
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: prompt }]);
    const more = Int32Array.of(4, 5, 6);
    const expected = await model.score([{ sequence, tokens: more }]);
    sequence.rewind(prompt.length);
    const { queue } = devices[0]!;
    const submit = queue.submit.bind(queue);
    queue.submit = (buffers) => {
      submit(buffers);
      queue.submit = submit;
      break_(devices[0]!);
      return undefined;
    };
    expect(await model.score([{ sequence, tokens: more }])).toEqual(expected);
    expect(devices.length).toBe(2);
    expect(sequence.length).toBe(prompt.length + more.length);
    await backend.close();
  });

  test("G3: a device that was destroyed on purpose is not brought back", async () => {
    const { provider, devices } = await withDevice();
    const backend = await recovering(provider).open();
    const model = await backend.load(checkpoint);
    devices[0]!.destroy();
    const { code, message } = await fault(model.forward([{ sequence: model.sequence(), tokens: prompt }]));
    expect(code).toBe("device-lost");
    expect(message).toContain("destroyed");
    expect(devices.length).toBe(1);
    await backend.close();
  });

  test("G4: memory that the device does not give is typed, and what was made is given back", async () => {
    let refuse = false;
    let alive = 0;
    const onDevice = (device: GPUDevice): GPUDevice => {
      const create = device.createBuffer.bind(device);
      const pop = device.popErrorScope.bind(device);
      device.createBuffer = (descriptor) => {
        const buffer = create(descriptor);
        const destroy = buffer.destroy.bind(buffer);
        alive++;
        buffer.destroy = () => {
          alive--;
          destroy();
          return undefined;
        };
        return buffer;
      };
      device.popErrorScope = async () => {
        const error = await pop();
        return refuse ? ({ message: "no memory left" } as GPUError) : error;
      };
      return device;
    };
    const { provider } = await withDevice({ onDevice });
    const backend = await provider.open();
    const before = alive;
    refuse = true;
    const { code, message } = await fault(backend.load(checkpoint));
    refuse = false;
    expect(code).toBe("out-of-memory");
    expect(message).toMatch(/needs [\d.]+ MiB.*no memory left/);
    expect(alive).toBe(before);
    const model = await backend.load(checkpoint);
    expect((await model.forward([{ sequence: model.sequence(), tokens: prompt }]))[0]!.length).toBe(small.vocabSize);
    await backend.close();
  });

  test("G5: a driver that computes something else is refused", async () => {
    const onDevice = (device: GPUDevice): GPUDevice => {
      const create = device.createShaderModule.bind(device);
      device.createShaderModule = ({ code, ...rest }) =>
        create({ ...rest, code: code.replaceAll("+ shape.epsilon)", "* 1.01 + shape.epsilon)") });
      return device;
    };
    const { provider } = await withDevice({ onDevice });
    const { code, message } = await fault(provider.open());
    expect(code).toBe("known-answer");
    expect(message).toContain("SwiftShader");
  });

  test("G5: a form of the kernels that a driver computes wrongly, or refuses, is left for a plainer one, which is said", async () => {
    const spoilt = (from: string, to: string) => (device: GPUDevice) => {
      const create = device.createShaderModule.bind(device);
      device.createShaderModule = ({ code, ...rest }) => create({ ...rest, code: code.replaceAll(from, to) });
      return device;
    };
    const packed = { name: "barrier-free + packed", serial: true, packed: true };
    const base = { name: "base", serial: false, subgroups: false, packed: false };
    for (const [{ name, ...variant }, from, to, said] of [
      [packed, "dot4I8Packed(", "2 * dot4I8Packed(", /computes the logit .* where .* is right \(q8/],
      [packed, "requires packed_4x8_integer_dot_product", "requires no_such_feature", /refuses the kernel "matmul q8/],
      // What only the step of a single text without a window goes through.
      [
        base,
        "weightsOfSlots[mine] = weight;",
        "weightsOfSlots[mine] = 2.0 * weight;",
        /for the step of a single text \(f32/,
      ],
    ] as const) {
      const backend = await software({ variant, onDevice: spoilt(from, to) }).open();
      const { device, details, warnings = [] } = backend.can;
      expect(device).toMatch(/, barrier-free kernels$/);
      expect(details?.kernels).toBe("barrier-free");
      expect(warnings.length).toBe(1);
      expect(warnings[0]).toMatch(said);
      expect(warnings[0]).toContain(`The barrier-free kernels take the place of the ${name} ones`);
      const model = await backend.load(checkpoint, { dtype: "q8" });
      expect((await model.forward([{ sequence: model.sequence(), tokens: prompt }]))[0]!.length).toBe(small.vocabSize);
      await backend.close();
    }
  }, 300_000);

  test("G6: a readback that comes late, as in a hidden tab, loses nothing", async () => {
    let late = 0;
    const onDevice = (device: GPUDevice): GPUDevice => {
      const create = device.createBuffer.bind(device);
      device.createBuffer = (descriptor) => {
        const buffer = create(descriptor);
        const map = buffer.mapAsync.bind(buffer);
        buffer.mapAsync = async (...args) => {
          await map(...args);
          await new Promise((resolve) => setTimeout(resolve, late));
          return undefined;
        };
        return buffer;
      };
      return device;
    };
    const { provider } = await withDevice({ onDevice, tokensPerSubmit: 2 });
    const backend = await provider.open();
    const model = await backend.load(checkpoint);
    const sampling = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 5, stop: [] };
    const row = () => ({ sequence: model.sequence(), tokens: prompt, count: 7, sampling });
    const [expected] = await model.sample([row()]);
    late = 60;
    const [found] = await model.sample([row()]);
    expect(found!.ids).toEqual(expected!.ids);
    await backend.close();
  });
});

test("the cause of a loss says whether anybody wanted it", () => {
  expect(new DeviceLoss("destroyed", "").reason).toBe("destroyed");
});

test.each(["tokensPerSubmit", "bindingLimit"])("%s that is no number of them is refused with a code", async (name) => {
  for (const value of [0, -1, 1.5, Number.NaN, "2"]) {
    const options = { [name]: value } as WebgpuOptions;
    expect(() => webgpu(options)).toThrow(new RegExp(`${name} is .*; it must be a whole number above 0`));
    expect((await fault(load({}, options))).code).toBe("invalid-argument");
  }
});
