// A lost device is survived: another is opened, the weights come again, and sequences are evaluated anew from their ids.
import { describe, expect, test, vi } from "vitest";
import {
  type Backend,
  type Checkpoint,
  DogeError,
  defaultSampling,
  type LastingCheckpoint,
  type Provider,
  recovering,
} from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend } from "../running/mock.ts";

const lost = (reason: "unknown" | "destroyed" = "unknown") =>
  new DogeError("device-lost", "The device is gone.", { cause: Object.assign(new Error("gone"), { reason }) });

/** A provider whose every device is a mock of its own. */
function devices() {
  const opened: MockBackend[] = [];
  const provider: Provider = {
    name: "mock",
    probe: async () => ({ available: true, device: "a few lines", dtypes: ["f32"], trains: false }),
    open: async (): Promise<Backend> => {
      opened.push(new MockBackend());
      return opened.at(-1)!;
    },
  };
  return { opened, provider };
}
const tokens = (...ids: number[]) => Int32Array.from(ids);

describe("a device that is lost", () => {
  test("the call runs once more on another, with all that the sequence held", async () => {
    const { opened, provider } = devices();
    const onLoss = vi.fn();
    const backend = await recovering(provider, { onLoss }).open();
    const model = await backend.load(checkpoint());
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: tokens(3, 4) }]);
    const [drawn] = await model.sample([{ sequence, tokens: tokens(5), count: 3, sampling: defaultSampling }]);
    opened[0]!.fail = lost();
    const [logits] = await model.forward([{ sequence, tokens: tokens(6) }]);
    expect(logits).toEqual(logitsAfter([3, 4, 5, ...drawn!.ids, 6]));
    expect(sequence.length).toBe(7);
    expect(opened.length).toBe(2);
    expect(opened[0]!.closed).toBe(true);
    expect(onLoss).toHaveBeenCalledTimes(1);
  });

  test("every sequence and model of it comes back when it is used, forks and rewinds made meanwhile included", async () => {
    const { opened, provider } = devices();
    const backend = await recovering(provider).open();
    const [one, two] = [await backend.load(checkpoint()), await backend.load(checkpoint())];
    const [a, b] = [one.sequence(), two.sequence()];
    await one.forward([{ sequence: a, tokens: tokens(1, 2, 3) }]);
    await two.forward([{ sequence: b, tokens: tokens(7, 8) }]);
    opened[0]!.fail = lost();
    await two.forward([{ sequence: b, tokens: tokens(9) }]);
    const fork = a.fork();
    a.rewind(1);
    expect((await one.forward([{ sequence: a, tokens: tokens(5) }]))[0]).toEqual(logitsAfter([1, 5]));
    expect((await one.forward([{ sequence: fork, tokens: tokens(4) }]))[0]).toEqual(logitsAfter([1, 2, 3, 4]));
    expect(opened.length).toBe(2);
  });

  test("a stop id still holds afterwards", async () => {
    const { opened, provider } = devices();
    const backend = await recovering(provider).open();
    const model = await backend.load(checkpoint());
    const sequence = model.sequence();
    const sampling = { ...defaultSampling, stop: Array.from({ length: 40 }, (_, id) => id) };
    const [first] = await model.sample([{ sequence, tokens: tokens(5), count: 3, sampling }]);
    expect(first!.ids.length).toBe(1);
    opened[0]!.fail = lost();
    const [second] = await model.sample([{ sequence, tokens: tokens(), count: 3, sampling }]);
    expect(second!.ids.length).toBe(0);
  });

  test("one that was destroyed on purpose is not brought back", async () => {
    const { opened, provider } = devices();
    const backend = await recovering(provider).open();
    const model = await backend.load(checkpoint());
    opened[0]!.fail = lost("destroyed");
    const call = model.forward([{ sequence: model.sequence(), tokens: tokens(1) }]);
    await expect(call).rejects.toMatchObject({ code: "device-lost" });
    expect(opened.length).toBe(1);
  });

  test("the third within five minutes comes through, and after that everything is dead", async () => {
    const { opened, provider } = devices();
    let now = 0;
    const backend = await recovering(provider, { now: () => now }).open();
    const model = await backend.load(checkpoint());
    const sequence = model.sequence();
    const once = () => model.forward([{ sequence, tokens: tokens(1) }]);
    for (let loss = 0; loss < 2; loss++) {
      opened.at(-1)!.fail = lost();
      await once();
    }
    // Long after, a loss is survived again.
    now = 301_000;
    opened.at(-1)!.fail = lost();
    await once();
    opened.at(-1)!.fail = lost();
    await once();
    opened.at(-1)!.fail = lost();
    await expect(once()).rejects.toMatchObject({ code: "device-lost" });
    await expect(once()).rejects.toMatchObject({ code: "device-lost" });
    expect(opened.length).toBe(5);
  });

  test("twice in one call is not survived", async () => {
    const { opened, provider } = devices();
    const twice: Provider = {
      ...provider,
      async open(signal) {
        const backend = (await provider.open(signal)) as MockBackend;
        backend.fail = lost();
        return backend;
      },
    };
    const backend = await recovering(twice).open();
    const model = await backend.load(checkpoint());
    const call = model.forward([{ sequence: model.sequence(), tokens: tokens(1) }]);
    await expect(call).rejects.toMatchObject({ code: "device-lost" });
    expect(opened.length).toBe(2);
  });

  test("where no other device opens, the loss is what is told", async () => {
    const { opened, provider } = devices();
    let only = true;
    const single: Provider = {
      ...provider,
      open: async (signal) => {
        if (!only) throw new DogeError("unavailable", "There is no other.");
        only = false;
        return provider.open(signal);
      },
    };
    const backend = await recovering(single).open();
    const model = await backend.load(checkpoint());
    opened[0]!.fail = lost();
    const call = model.forward([{ sequence: model.sequence(), tokens: tokens(1) }]);
    await expect(call).rejects.toMatchObject({ code: "device-lost" });
  });

  test("a checkpoint whose files are closed is opened again, and closed", async () => {
    const { opened, provider } = devices();
    const close = vi.fn(async () => {});
    const again = vi.fn(async (): Promise<Checkpoint & { close(): Promise<void> }> => ({ ...checkpoint(), close }));
    const lasting: LastingCheckpoint = { ...checkpoint(), reopen: again };
    const backend = await recovering(provider).open();
    const model = await backend.load(lasting);
    opened[0]!.fail = lost();
    await model.forward([{ sequence: model.sequence(), tokens: tokens(1) }]);
    expect(again).toHaveBeenCalledTimes(1);
    expect(close).toHaveBeenCalledTimes(1);
  });

  test("other errors are none of its business", async () => {
    const { opened, provider } = devices();
    const backend = await recovering(provider).open();
    const model = await backend.load(checkpoint());
    opened[0]!.fail = new DogeError("numerical", "NaN");
    const call = model.forward([{ sequence: model.sequence(), tokens: tokens(1) }]);
    await expect(call).rejects.toMatchObject({ code: "numerical" });
    expect(opened.length).toBe(1);
  });
});
