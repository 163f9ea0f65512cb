// `npm run agreement` as it is run, on engines of which some disagree: what is found, listed and filed.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { agreementFiles } from "../agreement/report.ts";
import { type AgreementResults, parseAgreement } from "../agreement/results.ts";
import { slug } from "../results.ts";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "doge-agreement-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const program = ["--disable-warning=ExperimentalWarning", here("../agreement/run.ts")];

describe("a run", () => {
  let result: { status: number | null; stdout: string };
  let results: AgreementResults;
  beforeAll(() => {
    const few = ["--texts", "4", "--steps", "6", "--few", "3", "--fewer", "4", "--dtypes", "f32,q8"];
    const some = ["--subjects", "demo,fixture:native", "--only", "honest,blurred,lying,absent"];
    const args = [...program, ...few, ...some, "--engines", here("engines.ts"), "--out", folder];
    result = spawnSync(process.execPath, args, { encoding: "utf8" });
    results = parseAgreement(JSON.parse(readFileSync(join(folder, `${slug()}.json`), "utf8")));
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

test("the options are explained", () => {
  const { stdout } = spawnSync(process.execPath, [...program, "--help"], { encoding: "utf8" });
  expect(stdout).toMatch(/--texts 1000 --steps 64/);
});
