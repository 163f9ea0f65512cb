// choose(): the fastest by measurement, with a reason for every backend; names and spares.
import { afterEach, describe, expect, test, vi } from "vitest";
import { choose, isDogeError, type Provider, survey } from "../../src/index.ts";
import { checkpoint, config } from "../running/mock.ts";
import { absent, Clock, fake, settings, withModels } from "./fakes.ts";

const states = ({ tried }: Awaited<ReturnType<typeof choose>>) => tried.map(({ name, state }) => [name, state]);
const brokenOpen: Provider = { ...fake("broken"), open: () => Promise.reject(new Error("the driver crashed")) };

afterEach(() => {
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
