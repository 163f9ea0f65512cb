// The benchmark as it is run, on engines of which some disagree, one dies and one is not there: what may be printed, what is filed.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../child.ts";
import { type Results, slug } from "../results.ts";
import { malformed, parseCsv } from "./markup.ts";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "doge-bench-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const common = ["--disable-warning=ExperimentalWarning"];
const bench = ["models", "--shapes", "tiny", "--dtypes", "f32", "--engines", here("engines.ts"), "--out", folder];
const only = ["--only", "honest,blurred,lying,dying,absent"];
const program = [...common, here("../run.ts")];

test.each([
  [["nonsense"], 'The command has "nonsense", which must be one of models, kernels, tokenizer, sizes, peers.'],
  [["models", "--dtypes", "q9"], '--dtypes has "q9", which must be one of f32, bf16, q8, q4.'],
  [["models", "--shapes", "20q"], '--shapes has "20q", which must be one of tiny, 20m, 60m, 160m, 320m.'],
  [["models", "--rows", "0"], '--rows has "0", which must be a whole number from 1 on.'],
  [["models", "--minutes", "soon"], '--minutes is "soon"; it must be a number above 0.'],
  [["models", "--only", "wsam"], '--only has "wsam", which must be one of '],
])("%j is refused in a sentence, and nothing is filed", (args, sentence) => {
  const place = join(folder, "refused");
  const { status, stderr } = spawnSync(process.execPath, [...program, ...args, "--out", place], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining(sentence) });
  expect(existsSync(place)).toBe(false);
});

describe("a run", () => {
  let result: { status: number | null; stdout: string };
  let results: Results;
  const read = (ending: string): string => readFileSync(join(folder, `${slug()}.${ending}`), "utf8");
  beforeAll(() => {
    result = spawnSync(process.execPath, [...program, ...bench, ...only], { encoding: "utf8" });
    results = JSON.parse(read("json")) as Results;
  }, 600_000);

  test("fails when an engine disagrees or dies, and says which and why", () => {
    expect(result.status).toBe(1);
    const { stdout } = result;
    expect(stdout).toMatch(/^disagrees: blurred, tiny f32\. demo model: logits are [\d.e-]+ σ apart .*1\.0e-4 σ/m);
    expect(stdout).toMatch(
      /^disagrees: lying, tiny f32\. demo model: text 0 has the id \d+ at step 3 where \d+ leads/m,
    );
    expect(stdout).toMatch(/^failed: dying, tiny f32\. .*ended by SIGKILL without an answer\.$/m);
    expect(stdout).toContain("absent: not here. There is none here.");
  });

  test("prints and files the speed of those that agree, and of no other", () => {
    const { stdout } = result;
    expect(stdout).toMatch(
      /^honest, tiny f32: prefill [\d.]+, decode @16 [\d.]+, @128 [\d.]+ tokens\/s {2}[0-9a-f]{16}$/m,
    );
    for (const name of ["blurred", "lying", "dying"]) {
      expect(stdout).not.toMatch(new RegExp(`^${name}.*(tokens/s|prefill)`, "m"));
    }
    expect(results.models.map(({ engine }) => engine)).toEqual(["honest"]);
    // Agreement stands before the speed that it allows.
    const agreed = stdout.indexOf("honest f32, tiny (random): agrees");
    expect(agreed).toBeGreaterThan(0);
    expect(stdout.indexOf("honest, tiny f32: prefill")).toBeGreaterThan(agreed);
    expect(results.failures.map(({ engine, kind }) => [engine, kind])).toEqual([
      ["blurred", "disagrees"],
      ["lying", "disagrees"],
      ["dying", "failed"],
    ]);
  });

  test("shows what failed as failed, without a speed, in every form", () => {
    const lines = parseCsv(read("csv"));
    for (const line of lines) expect(line).toHaveLength(lines[0]!.length);
    const column = (name: string): number => lines[0]!.indexOf(name);
    for (const name of ["blurred", "lying", "dying"]) {
      const kind = name === "dying" ? "failed" : "disagrees";
      const own = lines.filter((line) => line[0] === name);
      expect(own).toHaveLength(1);
      expect(own[0]![column("tokensPerSecond")]).toBe("");
      expect(own[0]![column("status")]).toBe(kind);
      expect(read("md")).toContain(`| ${name} | tiny f32 | **${kind}** |`);
      expect(read("html")).toContain(`<td>${name}</td><td>tiny f32</td><td><strong>${kind}</strong></td>`);
    }
    expect(lines.filter((line) => line[0] === "honest").length).toBeGreaterThan(1);
  });

  test("the page is whole, needs nothing else and says what its pictures show", () => {
    const page = read("html");
    expect(malformed(page)).toBeUndefined();
    expect(page).not.toMatch(/<script|\ssrc=|@import|url\(|https?:\/\/(?!www\.w3\.org\/2000\/svg)/i);
    const pictures = page.match(/<svg[\s\S]*?<\/svg>/g)!;
    expect(pictures.length).toBeGreaterThan(2);
    for (const picture of pictures) {
      const [, title, description] = /aria-labelledby="(\S+) (\S+)"/.exec(picture)!;
      expect(picture).toContain(`<title id="${title}">`);
      expect(picture).toMatch(new RegExp(`<desc id="${description}">[^<]*\\d`));
    }
  });

  test("one that is interrupted leaves what was there, and no half of a file", async () => {
    const files = () => readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]);
    const before = files();
    const child = spawn(process.execPath, [...program, ...bench, "--only", "honest"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const closed = new Promise((resolve) => child.once("close", resolve));
    for await (const data of child.stdout) if (String(data).includes("agrees")) child.kill("SIGINT");
    await closed;
    expect(child.signalCode).toBe("SIGINT");
    expect(files()).toEqual(before);
  }, 300_000);
});

test("the options are explained; a part that is none is refused", () => {
  const start = (...args: string[]) => spawnSync(process.execPath, [...program, ...args], { encoding: "utf8" });
  expect(start("--help").stdout).toMatch(/npm run bench -- --quick/);
  expect(start("everything")).toMatchObject({ status: 1 });
});

describe("a child process", () => {
  const children = { engines: here("engines.ts"), tell: () => {} };

  test("that hangs is ended, and said to have given no answer", async () => {
    const engines = join(folder, "hanging.ts");
    const provider = "() => new Promise(() => setInterval(() => {}, 1000))";
    writeFileSync(engines, `export const engines = [{ name: "hanging", provider: ${provider} }];\n`);
    const outcome = await run({ kind: "probe", engine: "hanging" }, { ...children, engines }, { seconds: 2 });
    expect(outcome).toEqual({ ok: false, why: "It gave no answer within 2 s." });
  });

  test("that cannot be started, or has no such engine, says so", async () => {
    const missing = await run({ kind: "probe", engine: "nobody" }, children, { seconds: 60 });
    expect(missing).toMatchObject({ ok: false, why: expect.stringContaining('There is no engine "nobody"') });
    const through = ["/nowhere/to/be/found"];
    const options = { seconds: 60, timed: true };
    const unstarted = await run({ kind: "probe", engine: "honest" }, { ...children, through }, options);
    expect(unstarted).toMatchObject({ ok: false, why: expect.stringContaining("could not be started") });
  });

  test("is started through a program where one is named", async () => {
    const options = { seconds: 60, timed: true };
    const outcome = await run({ kind: "probe", engine: "honest" }, { ...children, through: ["env"] }, options);
    expect(outcome).toMatchObject({ ok: true, value: { available: true, device: "javascript" } });
  });
});
