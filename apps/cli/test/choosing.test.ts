// Choosing with the real backends: what is measured of them agrees with what is chosen, software adapters lose, and a backend that
// fails in the middle of a conversation hands it over, in a program and on the command line.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { choose, type Fallback, loadDoge, type Provider, type RateStore, survey } from "@doge-lm/core";
import { cuda } from "@doge-lm/cuda";
import { demoModel } from "@doge-lm/demo-model";
import { reference } from "@doge-lm/reference";
import { wasm } from "@doge-lm/wasm";
import { webgpu } from "@doge-lm/webgpu";
import { afterAll, beforeAll, expect, test } from "vitest";

const main = fileURLToPath(new URL("../src/bin.ts", import.meta.url));
const model = fileURLToPath(demoModel);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "doge-choosing-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A store for one test. */
function memory(): RateStore {
  const map = new Map<string, string>();
  return { get: async (key) => map.get(key), set: async (key, value) => void map.set(key, value) };
}

/** Dawn with what adapters it finds, or null. */
async function dawn(): Promise<GPU | null> {
  try {
    const { create } = (await import("webgpu" as string)) as { create(options: string[]): GPU };
    return create([]);
  } catch {
    return null;
  }
}

test("what is chosen is what was measured as the fastest, and the second time nothing is measured", async () => {
  const list = [cuda(), webgpu(), reference(), wasm({ threads: 1 })];
  const settings = { rates: memory(), wanted: "auto", budget: 20_000 };
  const choice = await choose(list, settings);
  const rates = choice.tried.map(({ rate }) => rate?.tokensPerSecond ?? 0);
  const chosen = choice.tried.findIndex(({ state }) => state === "chosen");
  expect(choice.backend.name).toBe(list[chosen]!.name);
  expect(rates[chosen]! * 1.1).toBeGreaterThanOrEqual(Math.max(...rates));
  for (const { availability, state, reason } of choice.tried) {
    expect(state).toBe(availability.available ? expect.stringMatching(/chosen|ready/) && state : "absent");
    expect(reason).toMatch(/[.!?]$/);
  }
  await choice.backend.close();
  const again = await choose(list, settings);
  expect(again.backend.name).toBe(choice.backend.name);
  expect(again.tried.every(({ rate }) => rate === undefined || rate.kept)).toBe(true);
  await again.backend.close();
});

const gpu = await dawn();
const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
const software = /swiftshader|llvmpipe/i.test(`${adapter?.info.description} ${adapter?.info.device}`);
test.skipIf(!software)(
  `a software adapter loses, unless it is asked for${software ? "" : " (skipped: no software adapter)"}`,
  async () => {
    const settings = { rates: memory(), wanted: "auto" };
    const [lost, taken] = await survey([webgpu({ gpu: gpu! }), wasm()], settings);
    expect(lost).toMatchObject({ state: "absent", reason: expect.stringContaining("computes on the CPU") });
    expect(taken).toMatchObject({ name: "wasm", state: "chosen" });
    const named = await choose([webgpu({ gpu: gpu!, software: true }), wasm()], { ...settings, wanted: "webgpu" });
    expect(named.backend.can.device).toContain("(software)");
    await named.backend.close();
  },
  60_000,
);

/** One that works until it is told to fail. */
function failing(provider: Provider): Provider & { fail: boolean } {
  const own: Provider & { fail: boolean } = {
    fail: false,
    name: provider.name,
    probe: () => provider.probe(),
    async open(signal) {
      const backend = await provider.open(signal);
      const load = backend.load.bind(backend);
      const watch = async (...args: Parameters<typeof load>) => {
        const inner = await load(...args);
        const sample = inner.sample.bind(inner);
        return Object.assign(inner, {
          sample: async (...call: Parameters<typeof sample>) => {
            if (own.fail) throw new Error("the driver was reset");
            return sample(...call);
          },
        });
      };
      return Object.assign(backend, { load: watch });
    },
  };
  return own;
}

test("a conversation goes on where another backend takes over, with the answers it would have had", async () => {
  const questions = ["What is 2 plus 3?", "What comes after Monday?", "What is 1 plus 1?"];
  const options = { maxNewTokens: 30, temperature: 0 };
  const expected: (string | null)[] = [];
  const whole = await loadDoge(model, { backend: reference() });
  const undisturbed = whole.session(options);
  for (const question of questions) expected.push((await undisturbed.send(question).result()).text);
  await whole.close();

  const first = failing(wasm({ threads: 1 }));
  const told: Fallback[] = [];
  const doge = await loadDoge(model, {
    backend: [first],
    choosing: { spares: [reference()], rates: null, wanted: "auto" },
    onFallback: (fallback) => told.push(fallback),
  });
  const session = doge.session(options);
  const answers: (string | null)[] = [];
  for (const question of questions) {
    let text = "";
    for await (const piece of session.send(question)) {
      text += piece.text;
      first.fail = answers.length === 1; // in the middle of the second answer
    }
    answers.push(text);
  }
  expect(answers).toEqual(expected);
  expect(session.messages.length).toBe(6);
  expect(told.map(({ kind, from, to }) => [kind, from, to])).toEqual([["replaced", "wasm", "reference"]]);
  expect(doge.info()).toMatchObject({ backend: "reference", device: "javascript" });
  expect(doge.info().warnings.join()).toContain("the driver was reset");
  await doge.close();
}, 60_000);

/** Loaded before the program: WebAssembly's `run` traps from the given call on. */
const trapping = (call: number) =>
  `data:text/javascript,${encodeURIComponent(`
  const { instantiate } = WebAssembly;
  let calls = 0;
  WebAssembly.instantiate = async (...args) => {
    const { exports } = await instantiate(...args);
    const run = (...numbers) => {
      if (++calls >= ${call}) throw new WebAssembly.RuntimeError("unreachable");
      return exports.run(...numbers);
    };
    return { exports: exports.run === undefined ? exports : { ...exports, run } };
  };`)}`;

function doge(args: readonly string[], preload: string, lines: readonly string[] = []) {
  const { DOGE_BACKEND: _, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", "--import", preload, main, ...args],
    {
      encoding: "utf8",
      input: lines.map((line) => `${line}\n`).join(""),
      env: { ...env, NO_COLOR: "1", XDG_CACHE_HOME: folder },
    },
  );
  return { status, out: stdout, err: stderr };
}

test("the command line says on standard error that another backend took over, and the conversation goes on", () => {
  const { status, out, err } = doge(["chat", "--threads", "1", "--json"], trapping(6), [
    "What is 2 plus 3?",
    "What comes after Monday?",
    "/backend",
  ]);
  const answers = out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect([status, answers.length, answers[1].backend]).toEqual([0, 2, "reference"]);
  expect(answers[1].text).toContain("Tuesday");
  expect(err).toMatch(
    /^doge: The backend wasm failed, and reference \(javascript\) takes over; what was said so far is kept\. The fault: .*unreachable/m,
  );
  expect(err).toMatch(/^\* reference +chosen: It took over when wasm failed\.$/m);
  expect(err).toMatch(/^ {2}wasm +broken: /m);
  const once = doge(["generate", "--threads", "1", "--prompt", "Hello", "--json"], trapping(4));
  expect(JSON.parse(once.out)).toMatchObject({
    backend: "reference",
    fallbacks: [{ kind: "replaced", from: "wasm", to: "reference" }],
  });
});

test("one that is asked for by name is replaced by none: its failure is an error", () => {
  const { status, out, err } = doge(
    ["generate", "--backend", "wasm", "--threads", "1", "--prompt", "Hello"],
    trapping(4),
  );
  expect([status, out.trim()]).not.toEqual([0, ""]);
  expect(status).toBe(1);
  expect(err).toMatch(/^doge: The WebAssembly code failed \(unreachable\)/m);
});

test("one that computes wrongly from the start is passed over, and said to be broken", () => {
  const { status, err } = doge(["generate", "--threads", "1", "--prompt", "Hello", "--json"], trapping(1));
  expect(status).toBe(0);
  expect(err).toMatch(/^doge: The backend wasm was passed over\. It should have worked and failed: .*unreachable/);
});
