// A backend of a list that fails while it works: it is opened again or another takes over, once and told of, and the conversation goes on.
import { afterEach, describe, expect, test, vi } from "vitest";
import { choose, DogeError, type Fallback, isDogeError, type LoadDogeOptions, loadDoge } from "../../src/index.ts";
import { folder, json } from "../running/folder.ts";
import { checkpoint, logitsAfter, type MockBackend } from "../running/mock.ts";
import { mockTokenizer } from "../running/text.ts";
import { Clock, type Fake, fake } from "./fakes.ts";

const lost = (reason: "unknown" | "destroyed" = "unknown") =>
  new DogeError("device-lost", "The device is gone.", { cause: Object.assign(new Error("gone"), { reason }) });
const crash = () => new Error("an illegal address");

/** A Doge on the first of these, which is the fastest; what it is told when backends fail. */
async function load(backends: readonly Fake[], spares: readonly Fake[] = [], more: Partial<LoadDogeOptions> = {}) {
  const told: Fallback[] = [];
  const files = {
    ...folder(),
    "tokenizer.json": json({}),
    "tokenizer_config.json": json({
      chat_template: "{% for m in messages %}[{{ m.role[0] }}{{ m.content }}]{% endfor %}>",
    }),
  };
  const doge = await loadDoge(files, {
    backend: backends,
    choosing: { spares, rates: null, wanted: "auto", budget: 60_000, now: clock.now },
    tokenizer: async () => mockTokenizer(),
    onFallback: (fallback) => told.push(fallback),
    ...more,
  });
  expect(doge.info().backend).toBe(backends[0]!.name);
  return { doge, told };
}
let clock = new Clock();
const pair = (): [Fake, Fake] => {
  clock = new Clock();
  return [fake("gpu", { clock }), fake("cpu", { clock, layerMs: 3 })];
};
/** The newest backend of a fake. */
const newest = ({ opened }: Fake): MockBackend => opened.at(-1)!;

function greedyAfter(prompt: ArrayLike<number>, count: number): number[] {
  const all = Array.from(prompt);
  for (let step = 0; step < count; step++) {
    const logits = logitsAfter(all);
    all.push(logits.indexOf(Math.max(...logits)));
  }
  return all.slice(prompt.length);
}
const greedy = { temperature: 0, maxNewTokens: 12, ignoreEos: true };

afterEach(() => {
  vi.restoreAllMocks();
});

describe("while a text is generated", () => {
  test.each([
    ["crashes", crash],
    ["gives a fault without a message", () => undefined as unknown as Error],
  ])("a backend that %s is replaced in the middle, and the text is what it would have been", async (_, fault) => {
    const [gpu, cpu] = pair();
    const { doge, told } = await load([gpu, cpu]);
    const prompt = [3, 4, 5];
    const ids: number[] = [];
    let calls = 0;
    newest(gpu).onCall = (name) => {
      if (name.startsWith("sample") && ++calls === 3) throw fault();
    };
    for await (const piece of doge.generate(prompt, greedy)) ids.push(...piece.ids);
    expect(ids).toEqual(greedyAfter(prompt, 12));
    expect(calls).toBe(3);
    expect(told).toMatchObject([{ kind: "replaced", from: "gpu", to: "cpu" }]);
    expect(told[0]!.message).toMatch(
      /^The backend gpu failed, and cpu \(a fake cpu\) takes over; what was said so far is kept\./,
    );
    const info = doge.info();
    expect([info.backend, info.device]).toEqual(["cpu", "a fake cpu"]);
    expect(info.tried.map(({ name, state }) => [name, state])).toEqual([
      ["gpu", "broken"],
      ["cpu", "chosen"],
    ]);
    expect(info.tried[1]!.reason).toBe("It took over when gpu failed.");
    expect(info.fallbacks).toEqual(told);
    expect(info.warnings.join("\n")).toContain(told[0]!.message);
    expect(newest(gpu).closed).toBe(true);
    await doge.close();
    expect(newest(cpu).closed).toBe(true);
  });

  test("a device that is lost is opened again; lost once more in the same call, another backend takes over", async () => {
    const [gpu, cpu] = pair();
    const { doge, told } = await load([gpu, cpu]);
    newest(gpu).fail = lost();
    expect([...(await doge.generate([3, 4], greedy).result()).ids]).toEqual(greedyAfter([3, 4], 12));
    expect(told.map(({ kind, from, to }) => [kind, from, to])).toEqual([["reopened", "gpu", "gpu"]]);
    expect(doge.info().backend).toBe("gpu");
    const { opened } = gpu;
    const open = gpu.open.bind(gpu);
    Object.assign(gpu, {
      open: async () => Object.assign(await open(), { fail: lost() }),
    });
    opened.at(-1)!.fail = lost();
    expect([...(await doge.generate([3, 4, 5], greedy).result()).ids]).toEqual(greedyAfter([3, 4, 5], 12));
    expect(told.slice(1).map(({ kind, from, to }) => [kind, from, to])).toEqual([
      ["reopened", "gpu", "gpu"],
      ["replaced", "gpu", "cpu"],
    ]);
  });

  test("lost again and again, it is replaced; where it does not open again, too", async () => {
    for (const opens of [true, false]) {
      const [gpu, cpu] = pair();
      const { doge, told } = await load([gpu, cpu]);
      if (!opens) Object.assign(gpu, { open: () => Promise.reject(new Error("no driver any more")) });
      for (let loss = 0; loss < 3; loss++) {
        if (doge.info().backend === "gpu") newest(gpu).fail = lost();
        expect([...(await doge.generate([3, loss], greedy).result()).ids]).toEqual(greedyAfter([3, loss], 12));
      }
      expect(told.map(({ kind }) => kind)).toEqual(opens ? ["reopened", "reopened", "replaced"] : ["replaced"]);
      expect(doge.info().backend).toBe("cpu");
    }
  });

  test("when the second fails as well, it is a typed error, and so is everything after it", async () => {
    const [gpu, cpu] = pair();
    const { doge, told } = await load([gpu, cpu, fake("third", { clock, layerMs: 9 })]);
    newest(gpu).fail = crash();
    await doge.generate([3, 4], greedy).result();
    newest(cpu).fail = new Error("a second fault");
    const error = await doge
      .generate([3, 4, 5], greedy)
      .result()
      .catch((caught) => caught);
    expect(isDogeError(error, "device-lost")).toBe(true);
    expect(error.message).toContain(
      "The backend gpu failed: an illegal address. The backend cpu failed: a second fault. Load the model again.",
    );
    expect(told.length).toBe(1);
    const after = await doge
      .generate([3], greedy)
      .result()
      .catch((caught) => caught);
    expect(isDogeError(after, "device-lost")).toBe(true);
    await doge.close();
  });

  test("a failing one with nobody behind it is a typed error; one that was destroyed on purpose is not replaced", async () => {
    const [gpu, cpu] = pair();
    const { doge, told } = await load([gpu, cpu]);
    Object.assign(cpu, { open: () => Promise.reject(new Error("no memory")) });
    newest(gpu).fail = crash();
    const error = await doge
      .generate([3], greedy)
      .result()
      .catch((caught) => caught);
    expect([isDogeError(error, "device-lost"), error.message]).toEqual([
      true,
      expect.stringContaining("No other backend opens"),
    ]);
    const [other, behind] = pair();
    const destroyed = await load([other, behind]);
    newest(other).fail = lost("destroyed");
    await expect(destroyed.doge.generate([3], greedy).result()).rejects.toMatchObject({ code: "device-lost" });
    expect([told.length, destroyed.told.length]).toEqual([0, 0]);
  });

  test("a conversation goes on, its past evaluated anew from its ids; so do texts side by side, and a spare takes over at last", async () => {
    const [gpu] = pair();
    const spare = fake("spare", { clock });
    const { doge, told } = await load([gpu], [spare]);
    const options = { temperature: 0, maxNewTokens: 2, ignoreEos: true };
    const session = doge.session(options);
    await session.send("a").result();
    newest(gpu).fail = crash();
    const [second, other] = await Promise.all([
      session.send("b").result(),
      doge.generate([3, 4], { ...options, maxNewTokens: 6 }).result(),
    ]);
    expect(told.map(({ from, to }) => [from, to])).toEqual([["gpu", "spare"]]);
    expect(session.messages.map(({ role }) => role)).toEqual(["user", "assistant", "user", "assistant"]);
    expect([...second.ids]).toEqual(greedyAfter(second.promptIds, 2));
    expect([...other.ids]).toEqual(greedyAfter([3, 4], 6));
    const third = await session.send("c").result();
    expect([...third.ids]).toEqual(greedyAfter(third.promptIds, 2));
  });

  test("without anybody to tell, the console is told", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const [gpu, cpu] = pair();
    const { doge } = await load([gpu, cpu], [], { onFallback: undefined });
    newest(gpu).fail = crash();
    await doge.generate([3], greedy).result();
    expect(warn).toHaveBeenCalledExactlyOnceWith(
      expect.stringContaining("[doge:core] The backend gpu failed, and cpu"),
    );
  });

  test("one that is found to compute wrongly hands over as well", async () => {
    const [gpu, cpu] = pair();
    const { doge, told } = await load([gpu, cpu]);
    newest(gpu).fail = new DogeError("known-answer", "This GPU draws the id 1 where 2 is right: it is not used.");
    const { ids } = await doge.generate([3], greedy).result();
    expect([...ids]).toEqual(greedyAfter([3], 12));
    expect(told).toMatchObject([{ kind: "replaced", from: "gpu", to: "cpu" }]);
  });

  test("errors that are the caller's or the model's own move nothing", async () => {
    const [gpu, cpu] = pair();
    const { doge, told } = await load([gpu, cpu]);
    newest(gpu).fail = new DogeError("numerical", "The logits hold a NaN.");
    await expect(doge.generate([3], greedy).result()).rejects.toMatchObject({ code: "numerical" });
    const stop = new AbortController();
    const aborting = doge.generate([3, 4], { ...greedy, maxNewTokens: 20, signal: stop.signal });
    for await (const _ of aborting) stop.abort();
    expect((await aborting.result()).stopReason).toBe("abort");
    expect([told.length, doge.info().backend]).toEqual([0, "gpu"]);
  });
});

test("a long text that had the model alone is kept as its speed; a short one, and one in company, is not", async () => {
  const [gpu, cpu] = pair();
  const kept = new Map<string, string>();
  const rates = {
    get: async (key: string) => kept.get(key),
    set: async (key: string, value: string) => void kept.set(key, value),
  };
  const choosing = { rates, wanted: "auto", budget: 60_000, now: clock.now };
  const { doge } = await load([gpu, cpu], [], { choosing, context: 200 });
  const real = () => doge.info().tried.map(({ rate }) => rate?.real);
  const long = { ...greedy, maxNewTokens: 40 };
  await doge.generate([3], greedy).result();
  await Promise.all([doge.generate([3], long).result(), doge.generate([4], long).result()]);
  const first = doge.generate([5], long);
  for await (const _ of first) await doge.generate([6], { ...greedy, maxNewTokens: 1 }).result();
  expect(real()).toEqual([false, false]);
  await doge.generate([7], long).result();
  await doge.close();
  expect(real()).toEqual([true, false]);
  expect([...kept.values()].map((value) => JSON.parse(value).real).sort()).toEqual([false, true]);
});

describe("while a model is loaded", () => {
  const settings = () => ({
    rates: null,
    wanted: "auto",
    budget: 60_000,
    now: clock.now,
    onFallback: (fallback: Fallback) => told.push(fallback),
  });
  let told: Fallback[] = [];
  /** Refuses models other than slices. */
  const refusing =
    (code: "out-of-memory" | "unsupported-layout" | "invalid-weights" | undefined) => (backend: MockBackend) => {
      const load = backend.load.bind(backend);
      backend.load = async (source, options) => {
        if (source.tensors.size > 0) return load(source, options);
        throw code === undefined
          ? new RangeError("Array buffer allocation failed")
          : new DogeError(code, `It says ${code}.`);
      };
    };
  const three = (code: Parameters<typeof refusing>[0]) => {
    clock = new Clock();
    told = [];
    return [
      fake("first", { clock, ready: refusing(code) }),
      fake("second", { clock, layerMs: 2, ready: refusing(code) }),
      fake("third", { clock, layerMs: 3 }),
    ] as const;
  };

  test.each(["out-of-memory", "unsupported-layout", undefined] as const)(
    "those that cannot have it (%s) make way, one after the other",
    async (code) => {
      const choice = await choose(three(code), settings());
      const model = await choice.backend.load(checkpoint());
      expect((await model.forward([{ sequence: model.sequence(), tokens: Int32Array.of(3) }]))[0]).toEqual(
        logitsAfter([3]),
      );
      expect(told.map(({ from, to }) => [from, to])).toEqual([
        ["first", "second"],
        ["second", "third"],
      ]);
      expect(told[0]!.message).not.toContain("what was said");
      expect(choice.tried.map(({ state }) => state)).toEqual(["broken", "broken", "chosen"]);
      expect(choice.backend.can.device).toBe("a fake third");
    },
  );

  test("a spare does not take over for want of memory, and weights that are bad are bad everywhere", async () => {
    const [first, , third] = three("out-of-memory");
    const choice = await choose([first], { ...settings(), spares: [third] });
    await expect(choice.backend.load(checkpoint())).rejects.toMatchObject({ code: "out-of-memory" });
    const bad = await choose(three("invalid-weights"), settings());
    await expect(bad.backend.load(checkpoint())).rejects.toMatchObject({ code: "invalid-weights" });
    expect(told).toEqual([]);
  });

  test("nor does anything move for files that cannot be read, at first and when a lost device needs them again", async () => {
    clock = new Clock();
    told = [];
    const reads = (backend: MockBackend) => {
      const load = backend.load.bind(backend);
      backend.load = async (source, options) => {
        await source.read("x", 0, 1);
        return load(source, options);
      };
    };
    const [first, second] = [
      fake("first", { clock, ready: reads }),
      fake("second", { clock, layerMs: 2, ready: reads }),
    ];
    let there = false;
    const read = async () => {
      if (there) return new Uint8Array(1);
      throw Object.assign(new Error("ENOENT: the disk is gone"), { code: "ENOENT" });
    };
    const source = { ...checkpoint(), read };
    const { backend } = await choose([first, second], settings());
    await expect(backend.load(source)).rejects.toThrow("the disk is gone");
    there = true;
    const model = await backend.load(source);
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: Int32Array.of(3) }]);
    there = false;
    newest(first).fail = lost();
    await expect(model.forward([{ sequence, tokens: Int32Array.of(4) }])).rejects.toThrow("the disk is gone");
    there = true;
    const [logits] = await model.forward([{ sequence, tokens: Int32Array.of(5) }]);
    expect(logits).toEqual(logitsAfter([3, 5]));
    expect(told.map(({ kind }) => kind)).toEqual(["reopened"]);
    await backend.close();
  });
});
