// The command line as a user runs it: every command in a process of its own, on the demo model and on fixtures.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const main = fileURLToPath(new URL("../src/bin.ts", import.meta.url));
const fixtures = fileURLToPath(new URL("../../../packages/conformance/fixtures", import.meta.url));

function doge(args: readonly string[], input = "", more: NodeJS.ProcessEnv = {}) {
  const { DOGE_BACKEND: _, ...env } = process.env;
  const result = spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args], {
    encoding: "utf8",
    input,
    env: { ...env, NO_COLOR: "1", XDG_CACHE_HOME: folder, ...more },
  });
  return { status: result.status, out: result.stdout, err: result.stderr };
}

/** A run that must succeed. */
function good(args: readonly string[], input?: string): string {
  const { status, out, err } = doge(args, input);
  expect(err).toBe("");
  expect(status).toBe(0);
  return out;
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "doge-cli-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("what a person sees first", () => {
  test("--version and --help go to standard output", () => {
    expect(good(["--version"])).toMatch(/^\d+\.\d+\.\d+\n$/);
    const help = good(["--help"]);
    for (const command of ["chat", "generate", "logits", "score", "tokenize", "inspect", "backends"]) {
      expect(help).toContain(`  ${command} `);
      expect(good([command, "--help"])).toContain(`Usage: doge ${command}`);
    }
  });

  test("an older Node gets one sentence, not a stack trace", () => {
    const older = `data:text/javascript,Object.defineProperty(process,"versions",{value:{node:"20.19.0"}})`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", older, main, "chat"], {
      encoding: "utf8",
    });
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^doge: Node 22\.18 or newer is needed, and this is 20\.19\.0: .*\n$/);
  });

  test("chat --once answers on standard output and says nothing else", () => {
    const answer = good(["chat", "--once", "Hi, how are you doing today?"]);
    expect(answer).toMatch(/^[A-Z].*[.!?]\n$/s);
    expect(answer).not.toContain("<|");
  });

  test("chat takes turns from a pipe and leaves at the end", () => {
    const lines = good(["chat"], "What is 2 plus 3?\nWhat comes after Monday?\n").trim().split("\n");
    expect(lines[0]).toMatch(/\b(5|five)\b/i);
    expect(lines.at(-1)).toContain("Tuesday");
  });

  test("backends lists each with its device and rate or its reason, and which one is chosen and why", () => {
    type Entry = { name: string; available: boolean; device?: string; code?: string; why?: string } & {
      state: string;
      chosen: boolean;
      reason: string;
      tokensPerSecond?: number;
      kept?: boolean;
    };
    const patient = ["--budget", "20000"]; // other tests run beside this one
    const list = JSON.parse(good(["backends", "--json", ...patient])) as Entry[];
    expect(list.map((entry) => entry.name)).toEqual(["cuda", "webgpu", "wasm", "reference"]);
    for (const entry of list) {
      expect(entry.reason).toMatch(/[.:]/);
      if (["webgpu", "cuda"].includes(entry.name) && !entry.available) {
        expect([entry.code, entry.why, entry.state]).toEqual(["unavailable", expect.stringMatching(/\.$/), "absent"]);
      } else {
        expect(entry.available && entry.device).toBeTruthy();
        expect(entry.tokensPerSecond).toBeGreaterThan(0);
      }
    }
    expect(list.filter(({ chosen }) => chosen).length).toBe(1);
    expect(list.at(-1)).toMatchObject({ state: "spare", chosen: false });
    // The second time nothing is measured, unless it is asked for.
    const kept = (...args: string[]) =>
      (JSON.parse(good(["backends", "--json", ...patient, ...args])) as Entry[]).find(({ name }) => name === "wasm")!
        .kept;
    expect([kept(), kept("--afresh")]).toEqual([true, false]);
    expect(good(["backends"])).toMatch(/^\* \w+\s+.*\n\s+[\d.]+ tokens\/s \(kept\)\. Chosen: /m);
    const named = JSON.parse(good(["backends", "--json", "--backend", "reference"])) as Entry[];
    expect(named.find(({ chosen }) => chosen)).toMatchObject({
      name: "reference",
      reason: "It was asked for by name.",
    });
  });
});

describe("generate", () => {
  test("--json prints one object with the agreed names", () => {
    const result = JSON.parse(
      good(["generate", "--prompt", "Hello", "--max-new-tokens", "5", "--ignore-eos", "--json"]),
    );
    expect(Object.keys(result)).toEqual(
      expect.arrayContaining([
        "promptIds",
        "ids",
        "text",
        "stopReason",
        "backend",
        "device",
        "dtype",
        "threads",
        "reason",
        "timings",
      ]),
    );
    expect(result.promptIds[0]).toBe(0);
    expect(result.ids).toHaveLength(5);
    expect(result.stopReason).toBe("length");
    expect(Object.keys(result.timings)).toEqual(
      expect.arrayContaining(["loadMs", "prefillTokens", "prefillMs", "decodeTokens", "decodeMs"]),
    );
    expect(result.timings.prefillTokens).toBe(result.promptIds.length);
    expect(result.timings.decodeTokens).toBe(4);
  });

  test("--threads is how many compute: the same text on each, and no number of them is an error in words", () => {
    const args = ["generate", "--backend", "wasm", "--prompt", "Hello", "--max-new-tokens", "5", "--json", "--threads"];
    const [one, two] = ["1", "2"].map((threads) => JSON.parse(good([...args, threads])));
    expect([one.threads, two.threads]).toEqual([1, 2]);
    expect(two.device).toMatch(/^wasm .* x2\b/);
    expect(two.text).toBe(one.text);
    const { status, err } = doge([...args, "65"]);
    expect([status, err]).toEqual([1, expect.stringContaining("a whole number from 1 to 64")]);
  });

  test("text from --prompt and from standard input is the same", () => {
    const args = ["generate", "--max-new-tokens", "8"];
    expect(good([...args, "--prompt", "One, two,"])).toBe(good(args, "One, two,"));
  });

  test("a seed repeats its draw, on both backends", () => {
    const args = [
      "generate",
      "--prompt",
      "Once upon a time",
      "--max-new-tokens",
      "12",
      "--temperature",
      "0.9",
      "--seed",
      "7",
      "--json",
    ];
    const first = JSON.parse(good(args));
    expect(JSON.parse(good(args)).ids).toEqual(first.ids);
    expect(JSON.parse(good([...args, "--backend", "reference"])).ids).toEqual(first.ids);
    expect(JSON.parse(good([...args.slice(0, -2), "8", "--json"])).ids).not.toEqual(first.ids);
  });

  test("--logprobs brings ln p of the drawn id and of the most likely ones", () => {
    const result = JSON.parse(
      good(["generate", "--prompt", "Hello", "--max-new-tokens", "3", "--logprobs", "2", "--json"]),
    );
    expect(result.logprobs).toHaveLength(result.ids.length);
    for (const entry of result.logprobs) {
      expect(entry.top).toHaveLength(2);
      expect(entry.top[0]).toEqual([entry.id, entry.logprob]);
    }
  });

  const native = ["generate", "--model", join(fixtures, "native"), "--json", "--max-new-tokens", "20", "--prompt-ids"];
  const golden = JSON.parse(readFileSync(join(fixtures, "native", "generation.json"), "utf8")) as {
    cases: { prompt: number[]; options: { [name: string]: unknown }; ids: number[] }[];
  };

  test("every option of transformers' generate() gives its greedy ids", () => {
    const flags = new Set<string>();
    // The cases that have every option between them; the conformance suite goes through all.
    for (const { prompt, options, ids } of [6, 10, 11, 12, 13, 14].map((index) => golden.cases[index]!)) {
      const given = Object.entries(options).flatMap(([name, value]) => {
        const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`).replace("bad-words-ids", "bad-words")}`;
        flags.add(flag);
        return [flag, /bad-words|bias/.test(flag) ? JSON.stringify(value) : String(value)];
      });
      const result = JSON.parse(good([...native, prompt.join(","), ...given]));
      expect(result.ids, JSON.stringify(options)).toEqual(ids);
    }
    expect(flags.size).toBe(11);
  });

  test("filters that need the logits say where the ids were drawn", () => {
    const draw = [...native, "3,1,4", "--temperature", "1.2", "--seed", "5", "--ignore-eos"];
    const plain = JSON.parse(good(draw));
    expect([plain.drawnOn, plain.seed]).toEqual(["device", 5]);
    for (const filter of [
      ["--typical-p", "0.3"],
      ["--epsilon-cutoff", "0.02"],
      ["--eta-cutoff", "0.2"],
      ["--top-h", "0.2"],
    ]) {
      const result = JSON.parse(good([...draw, ...filter]));
      expect(result.drawnOn).toBe("host");
      expect(result.ids).not.toEqual(plain.ids);
    }
  });

  test("--echo prints the prompt first", () => {
    const answer = good(["generate", "--prompt", "One, two,", "--max-new-tokens", "4"]);
    expect(good(["generate", "--prompt", "One, two,", "--max-new-tokens", "4", "--echo"])).toBe(`One, two,${answer}`);
    const result = JSON.parse(good([...native, "3,1,4", "--echo", "--logprobs", "1"]));
    expect(result.ids.slice(0, 3)).toEqual([3, 1, 4]);
    expect(result.logprobs.map((entry: { id: number }) => entry.id)).toEqual(result.ids);
  });

  test("--no-skip-special-tokens prints the end of text", () => {
    const args = ["chat", "--once", "What is 2 plus 3?"];
    expect(good([...args, "--no-skip-special-tokens"]).replace(/<\|[a-z_]+\|>/g, "")).toBe(good(args));
    expect(good([...args, "--no-skip-special-tokens"])).toContain("<|");
  });

  test("a folder with only config.json and weights works with ids; text is null", () => {
    const args = [
      "generate",
      "--model",
      join(fixtures, "native"),
      "--prompt-ids",
      "1,2,3",
      "--max-new-tokens",
      "4",
      "--json",
    ];
    const result = JSON.parse(good(args));
    expect(result.text).toBeNull();
    expect(result.promptIds).toEqual([1, 2, 3]);
  });
});

describe("looking on", () => {
  test("DOGE_DEBUG and DOGE_TRACE tell of every call, and standard output stays the answer", () => {
    const file = join(folder, "trace.json");
    const args = ["generate", "--prompt", "Hi", "--max-new-tokens", "3", "--json", "--backend", "wasm"];
    const { status, out, err } = doge(args, "", { DOGE_DEBUG: "3", DOGE_TRACE: file });
    expect(status).toBe(0);
    expect((JSON.parse(out) as { ids: number[] }).ids.length).toBe(3);
    const lines = err.trim().split("\n");
    expect(lines.every((line) => line.startsWith("doge: "))).toBe(true);
    expect(err).toMatch(
      /^doge: .+ on wasm .+, f32, routing per-token, loaded in \d+ ms; wasm: It was asked for by name\.$/m,
    );
    expect(err).toMatch(/^doge: wasm upload model\.embed_tokens\.weight, \d+ bytes$/m);
    expect(err).toMatch(/^doge: wasm submit \w+, [\d.]+ ms$/m);
    const { traceEvents } = JSON.parse(readFileSync(file, "utf8")) as { traceEvents: { ph: string; ts: number }[] };
    expect(traceEvents.length).toBe(lines.length - 1);
    expect(new Set(traceEvents.map(({ ph }) => ph))).toEqual(new Set(["X", "i"]));
    expect(traceEvents.every(({ ts }) => ts > 0)).toBe(true);
  });
});

describe("numbers", () => {
  const native = ["--model", join(fixtures, "native"), "--prompt-ids", "3,1,4,1,5"];

  test("logits writes float32 [positions, vocabulary] and prints shape and hash", () => {
    const file = join(folder, "all.bin");
    const printed = good(["logits", ...native, "--all", "--out", file]);
    const [, positions, vocabulary] = /^shape \[(\d+), (\d+)\] hash [0-9a-f]{16}\n$/.exec(printed)!;
    const all = readFileSync(file);
    expect(all.length).toBe(Number(positions) * Number(vocabulary) * 4);
    const last = join(folder, "last.bin");
    good(["logits", ...native, "--out", last]);
    const tail = all.subarray(-Number(vocabulary) * 4);
    const difference = Math.max(
      ...Array.from({ length: Number(vocabulary) }, (_, index) =>
        Math.abs(tail.readFloatLE(4 * index) - readFileSync(last).readFloatLE(4 * index)),
      ),
    );
    expect(difference).toBeLessThan(1e-4);
  });

  test("score gives ln p of every id, 0 for the first", () => {
    const { ids, logprobs, sum } = JSON.parse(good(["score", ...native, "--json"]));
    expect(ids).toEqual([3, 1, 4, 1, 5]);
    expect(logprobs[0]).toBe(0);
    expect(logprobs.slice(1).every((value: number) => value < 0)).toBe(true);
    expect(sum).toBeCloseTo(
      logprobs.reduce((total: number, value: number) => total + value, 0),
      5,
    );
    expect(
      good(["score", ...native])
        .trim()
        .split("\n"),
    ).toHaveLength(5);
  });

  test("tokenize goes there and back", () => {
    const texts = ["Hello there", "12 + 3", ""];
    const ids = JSON.parse(good(["tokenize"], JSON.stringify(texts))) as number[][];
    expect(ids[2]).toEqual([0]);
    expect(JSON.parse(good(["tokenize", "--decode", "--skip-special"], JSON.stringify(ids)))).toEqual(texts);
  });

  test("inspect tells layout, sizes and memory", () => {
    const plain = good(["inspect", "--model", join(fixtures, "moe-index-bug")]);
    expect(plain).toMatch(/grid/);
    expect(JSON.parse(good(["inspect", "--json"])).config.generation).toBe("native");
  });
});

describe("what goes wrong", () => {
  const cases: readonly (readonly [string, readonly string[], RegExp])[] = [
    ["a folder that is not there", ["generate", "--model", "./nowhere", "--prompt", "x"], /nowhere/],
    ["an empty list of ids", ["generate", "--prompt-ids", ""], /--prompt-ids is empty/],
    ["an id that is no number", ["generate", "--prompt-ids", "1,x"], /"x"/],
    ["an id outside the vocabulary", ["logits", "--prompt-ids", "999999", "--out", "never.bin"], /999999/],
    [
      "a backend that does not exist",
      ["generate", "--backend", "abacus", "--prompt", "x"],
      /abacus.*auto, cuda, webgpu, wasm, reference/,
    ],
    ["a dtype that does not exist", ["generate", "--dtype", "f64", "--prompt", "x"], /f64/],
    ["a temperature that is no number", ["generate", "--temperature", "warm", "--prompt", "x"], /warm/],
    ["bad words that are no JSON", ["generate", "--bad-words", "[[5]", "--prompt", "x"], /"\[\[5\]" is not JSON/],
    ["bad words that are no lists", ["generate", "--bad-words", "[5]", "--prompt", "x"], /^doge: --bad-words has 5/],
    ["an id list with a word in it", ["generate", "--suppress-tokens", "5,x", "--prompt", "x"], /"x" is not a number/],
    ["a negative count", ["generate", "--max-new-tokens", "-3", "--prompt", "x"], /^doge: --max-new-tokens is -3;/],
    ["no threads", ["generate", "--threads", "0", "--prompt", "x"], /less than 1/],
    ["a file that cannot be written", ["logits", "--prompt-ids", "5", "--out", "/nowhere/x"], /not written/],
    ["a command that does not exist", ["genrate"], /Did you mean generate/],
    ["a forgotten option", ["score"], /--prompt-ids <ids>' not specified/],
    ["an argument too many", ["ls", "x"], /too many arguments/i],
    ["two prompts", ["generate", "--prompt", "x", "--prompt-ids", "1"], /exclude each other/],
    ["an unknown option", ["generate", "--prmpt", "x"], /--prmpt/],
    ["input that is no JSON", ["tokenize"], /not JSON/],
  ];
  test.each(cases)("%s is one sentence on standard error and a failure", (_, args, pattern) => {
    const { status, out, err } = doge(args, "not json");
    expect(status).not.toBe(0);
    expect(out).toBe("");
    expect(err).toMatch(pattern);
    expect(err).toMatch(/^doge: .+\.\n$/);
  });

  test("a prompt longer than the context names both lengths", () => {
    const { status, err } = doge(["generate", "--prompt-ids", Array(5000).fill(5).join(","), "--json"]);
    expect(status).not.toBe(0);
    expect(err).toMatch(/5000/);
  });

  test("a pickle file gets advice", () => {
    writeFileSync(join(folder, "pytorch_model.bin"), "\x80\x02");
    writeFileSync(join(folder, "config.json"), readFileSync(join(fixtures, "native", "config.json")));
    const { status, err } = doge(["inspect", "--model", folder]);
    expect(status).not.toBe(0);
    expect(err).toMatch(/safetensors/);
  });
});
