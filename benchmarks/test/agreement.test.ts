// `npm run agreement` as it is run, on engines of which some disagree: what is found, listed and filed, and what is left of a run
// that was ended.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Filing } from "../agreement/filing.ts";
import { agreementFiles } from "../agreement/report.ts";
import { type AgreementEntry, type AgreementResults, parseAgreement } from "../agreement/results.ts";
import { type Failure, machine, slug } from "../results.ts";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "doge-agreement-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const few = ["--texts", "4", "--steps", "6", "--few", "3", "--fewer", "4"];
const ours = ["--engines", here("engines.ts")];
const filedIn = (folder: string, of = machine()): AgreementResults =>
  parseAgreement(JSON.parse(readFileSync(join(folder, `${slug(of)}.json`), "utf8")));
const program = ["--disable-warning=ExperimentalWarning", here("../agreement/run.ts")];

describe("a run", () => {
  let result: { status: number | null; stdout: string };
  let results: AgreementResults;
  beforeAll(() => {
    const some = ["--dtypes", "f32,q8", "--subjects", "demo,fixture:native", "--only", "honest,blurred,lying,absent"];
    const args = [...program, ...few, ...some, ...ours, "--out", folder];
    result = spawnSync(process.execPath, args, { encoding: "utf8" });
    results = filedIn(folder);
  }, 600_000);

  const found = (engine: string, dtype: string, subject = "demo") =>
    results.entries.find((one) => one.engine === engine && one.dtype === dtype && one.subject === subject)!;

  test("fails when one disagrees, and says which, where and why", () => {
    expect(result.status).toBe(1);
    expect(result.stdout).toMatch(/^disagrees: blurred, f32 on the demo model\. logits are /m);
    expect(result.stdout).toMatch(/^disagrees: lying, f32 on the native \(random\)\. text 0 has the id /m);
    // Other weights draw other texts, and yet from their own logits.
    const stray =
      /^disagrees: lying, q8 on the native \(random\)\. text \d has the id \d+ at step 3 where its own logits /m;
    expect(result.stdout).toMatch(stray);
    expect(result.stdout).toContain("honest draws what reference draws: 12 of 12 ids, 0 ties");
    expect(results.failures.length).toBeGreaterThanOrEqual(4);
    expect(results.failures.every(({ engine }) => ["blurred", "lying"].includes(engine))).toBe(true);
  });

  test("has every engine that is here, dtype and checkpoint; the reference is its own truth", () => {
    expect(results.entries).toHaveLength(3 * 2 * 2);
    expect(found("honest", "f32")).toMatchObject({ agrees: true, sameTokens: 12, texts: 3, maxDifference: 0 });
    expect(found("honest", "q8", "fixture:native")).toMatchObject({ agrees: true, alikeKl: 0 });
    expect(found("blurred", "f32")).toMatchObject({ sameTexts: 3, agrees: false });
  });

  test("lists each first difference with the margin there", () => {
    const { differences } = found("lying", "f32");
    expect(differences).toHaveLength(3);
    for (const { step, margin, tie, expected, found } of differences) {
      expect([step, found, tie]).toEqual([3, expected + 1, false]);
      expect(margin).toBeGreaterThan(1e-3);
    }
    const list = readFileSync(join(folder, `${slug()}.md`), "utf8");
    expect(list).toMatch(/## lying, f32, demo model\n\n```text\n0, 3: \d+ \d+ [\d.]+ [\d.]+/);
    const page = readFileSync(join(folder, "agreement.md"), "utf8");
    expect(page).toMatch(/\| lying \| f32 \| .* \| \*\*does not hold\*\* \|/);
    expect(page).toMatch(/\| honest \| f32 \| 0 σ \| 0 \| 0 \| 100\.0 % \| 12 \| 3 of 3 \| 12 of 12 \| 0 \| holds \|/);
  });

  test("its pages are what its file gives", () => {
    for (const [file, content] of agreementFiles(folder, folder)) expect(readFileSync(file, "utf8")).toBe(content);
  });
});

describe("filing", () => {
  const inside = (name: string): string => join(folder, name);

  test("a run that is killed keeps what it found, beside what was there", async () => {
    const own = inside("killed");
    const args = [...program, ...few, ...ours, "--out", own];
    const before = spawnSync(process.execPath, [...args, "--only", "honest", "--subjects", "fixture:odd"]);
    expect(before.status).toBe(0);
    // The second engine never comes to an end.
    const some = ["--only", "honest,endless", "--dtypes", "f32,q8", "--subjects", "fixture:native"];
    const run = spawn(process.execPath, [...args, ...some], { stdio: ["ignore", "pipe", "inherit"] });
    const [seen, all] = [new Set<string>(), ["f32", "q8"]];
    for await (const line of run.stdout.setEncoding("utf8")) {
      for (const dtype of all) if (line.includes(`honest, ${dtype} on the native (random): `)) seen.add(dtype);
      if (seen.size === all.length) break;
    }
    run.kill("SIGKILL");
    if (run.exitCode === null && run.signalCode === null) await once(run, "exit");
    const cells = filedIn(own).entries.map(({ engine, dtype, subject }) => `${engine} ${dtype} ${subject}`);
    expect(cells).toEqual([
      ...["honest f32 fixture:native", "honest q8 fixture:native"],
      ...["f32", "bf16", "q8", "q4"].map((dtype) => `honest ${dtype} fixture:odd`),
    ]);
    // The pages speak of what is filed.
    for (const [file, content] of agreementFiles(own, own)) expect(readFileSync(file, "utf8")).toBe(content);
  }, 600_000);

  /** As a run would find it. */
  const entry = (over: Partial<AgreementEntry>): AgreementEntry => ({
    ...{ engine: "cuda", subject: "demo", dtype: "f32", rows: 1, maxDifference: 1e-6, meanKl: 0, worstKl: 0 },
    ...{ sameChoice: 1, alikeKl: null, texts: 1, steps: 1, sameTokens: 1, sameTexts: 1, differences: [] },
    ...{ hash: "00", bound: "any", agrees: true, why: null, commit: "1234567890", date: "2026-01-01" },
    ...over,
  });
  const absent = { engine: "webgpu", available: false, why: "There is none." } as const;
  const failure = (what: string, engine = "cuda"): Failure => ({
    ...{ engine, what, kind: "failed", why: "It died.", commit: "1234567890", date: "2026-01-01" },
  });

  test("a cell takes the place of what was filed of it, whether it held, disagreed or died", () => {
    const own = inside("cells");
    const filing = new Filing(own, own, ["wasm", "cuda"]);
    filing.failure(failure("f32 on the demo model"));
    expect(filedIn(own)).toMatchObject({ entries: [], failures: [{ what: "f32 on the demo model" }] });
    filing.entry(entry({}));
    expect(filedIn(own)).toMatchObject({ entries: [{ dtype: "f32" }], failures: [] });
    filing.entry(entry({ agrees: false }), { ...failure("f32 on the demo model"), kind: "disagrees" });
    expect(filedIn(own)).toMatchObject({ entries: [{ agrees: false }], failures: [{ kind: "disagrees" }] });
    filing.failure(failure("f32 on the demo model"));
    expect(filedIn(own)).toMatchObject({ entries: [], failures: [{ kind: "failed" }] });
    filing.failure(failure("being opened"));
    filing.engine({ ...absent, engine: "cuda" });
    expect(filedIn(own).failures).toMatchObject([{ what: "f32 on the demo model" }]);
  });

  test("cells stand in the order of checkpoints, engines and dtypes, whoever was done first", () => {
    const own = inside("order");
    const filing = new Filing(own, own, ["wasm", "cuda"]);
    filing.entry(entry({ subject: "fixture:native" }));
    filing.entry(entry({ dtype: "q8" }));
    filing.entry(entry({}));
    filing.entry(entry({ engine: "wasm", dtype: "q8" }));
    const cells = filedIn(own).entries.map(({ engine, dtype, subject }) => `${engine} ${dtype} ${subject}`);
    expect(cells).toEqual(["wasm q8 demo", "cuda f32 demo", "cuda q8 demo", "cuda f32 fixture:native"]);
  });

  test("what only a printed line tells is shown as that, until it is filed", () => {
    const own = inside("printed");
    const filing = new Filing(own, own, ["wasm", "cuda"]);
    filing.baseline(null);
    const file = join(own, `${slug(machine())}.json`);
    const { engine, dtype, maxDifference, meanKl, texts, steps, commit, date } = entry({});
    const line = { ...{ engine, dtype, maxDifference, meanKl, steps, commit, date }, texts, sameTexts: 0 };
    const printed = [line, { ...line, dtype: "q8" as const }];
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), printed }));
    const page = () => readFileSync(join(own, "agreement.md"), "utf8");
    const again = new Filing(own, own, ["wasm", "cuda"]);
    again.baseline(null);
    expect(page()).toContain("| cuda | f32 | 1.0e-6 σ | 0 | 0 of 1 | 1 |");
    expect(page()).not.toContain("comparisons hold");
    again.entry(entry({}));
    expect(page()).not.toContain("| cuda | f32 | 1.0e-6 σ | 0 | 0 of 1 | 1 |");
    expect(page()).toContain("| cuda | q8 | 1.0e-6 σ | 0 | 0 of 1 | 1 |");
    expect(page()).toContain("All 1 comparisons hold");
  });

  test("engines that drew the very same ids stand in one row of the differences, and in their own of the results", () => {
    const own = inside("together");
    const filing = new Filing(own, own, ["wasm", "cuda", "webgpu"]);
    const difference = { text: 3, step: 1, expected: 5, found: 6, margin: 0.25, deviations: 0.5 };
    const parted = { dtype: "q8", sameTokens: 0, sameTexts: 0 } as const;
    const differences = [{ ...difference, tie: false, behindEnd: false }];
    for (const engine of ["wasm", "cuda"]) filing.entry(entry({ ...parted, engine, hash: "11", differences }));
    filing.entry(entry({ ...parted, engine: "webgpu", hash: "22", differences }));
    const page = readFileSync(join(own, "agreement.md"), "utf8");
    expect(page.match(/^\| wasm, cuda \| q8 \| 0 \| 0 \| 0 \| 1 \|/gm)).toHaveLength(1);
    expect(page.match(/^\| (wasm|cuda|webgpu) \| q8 \| 1\.0e-6 σ/gm)).toHaveLength(3);
    const list = readFileSync(join(own, `${slug()}.md`), "utf8");
    expect(list.match(/^## .*$/gm)).toEqual(["## wasm, cuda, q8, demo model", "## webgpu, q8, demo model"]);
  });

  test("a run of everything leaves at its end what it made, and nothing of before", () => {
    const own = inside("whole");
    const filing = new Filing(own, own, ["wasm", "cuda"]);
    for (const one of [entry({}), entry({ engine: "gone" }), entry({ dtype: "q8" })]) filing.entry(one);
    for (const one of ["being opened", "q4 on the demo model"]) filing.failure(failure(one));
    filing.engine({ ...absent, engine: "gone" });
    filing.keepOnly([{ engine: "cuda", dtype: "f32", subject: "demo" }], ["cuda", "wasm"]);
    expect(filedIn(own)).toMatchObject({
      entries: [{ dtype: "f32" }],
      engines: [],
      failures: [{ what: "being opened" }],
    });
    expect(filedIn(own).entries).toHaveLength(1);
  });

  test("--merge takes what another machine found into its own file, and the page shows both machines", () => {
    const [there, own] = [inside("there"), inside("merged")];
    const other = { ...machine(), cpu: "Some Xeon", cores: 16 };
    const filing = new Filing(there, there, ["cuda"], other);
    filing.engine({
      engine: "cuda",
      available: true,
      device: "NVIDIA X",
      dtypes: ["f32"],
      threads: 1,
      software: false,
    });
    filing.entry(entry({}));
    filing.failure(failure("q8 on the demo model"));
    const mine = new Filing(own, own, ["wasm"]);
    mine.entry(entry({ engine: "wasm" }));
    const args = [...program, "--out", own];
    const merged = spawnSync(process.execPath, [...args, "--merge", join(there, `${slug(other)}.json`)], {
      encoding: "utf8",
    });
    expect([merged.stderr, merged.status]).toEqual(["", 0]);
    expect(filedIn(own, other)).toEqual(filedIn(there, other));
    expect(filedIn(own).entries).toMatchObject([{ engine: "wasm" }]);
    const page = readFileSync(join(own, "agreement.md"), "utf8");
    expect(page).toContain("## Some Xeon, 16 cores");
    expect(page).toContain("NVIDIA X");
    const wrong = spawnSync(process.execPath, [...args, "--merge", "nowhere.json"], { encoding: "utf8" });
    expect([wrong.status, wrong.stdout]).toEqual([1, ""]);
    expect(wrong.stderr).toMatch(/^--merge names nowhere\.json, which cannot be read as results: .*\n$/);
    writeFileSync(inside("other.json"), '{"machine":{}}');
    const empty = spawnSync(process.execPath, [...args, "--merge", inside("other.json")], { encoding: "utf8" });
    expect(empty.stderr).toMatch(/^--merge names .*other\.json, which cannot be read as results: /);
  });
});

test("the options are explained", () => {
  const { stdout } = spawnSync(process.execPath, [...program, "--help"], { encoding: "utf8" });
  expect(stdout).toMatch(/--texts 1000 --steps 64/);
});
