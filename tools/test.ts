// `npm test`: every test that can run on this machine, then one line for each thing that was skipped and why.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const report = join(root, ".cache", "tests.json");
mkdirSync(join(root, ".cache"), { recursive: true });
rmSync(report, { force: true });

const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const result = spawnSync(
  process.execPath,
  [vitest, "run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...process.argv.slice(2)],
  { cwd: root, stdio: "inherit" },
);

interface Assertion {
  readonly status: string;
  readonly ancestorTitles: readonly string[];
  readonly title: string;
}
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly { readonly assertionResults: readonly Assertion[] }[];
}

let tests: Report;
try {
  tests = JSON.parse(readFileSync(report, "utf8")) as Report;
} catch {
  console.error("The test run ended without a report.");
  process.exit(result.status || 1);
}
const skipped = tests.testResults
  .flatMap((file) => file.assertionResults)
  .filter((test) => test.status === "skipped" || test.status === "pending" || test.status === "todo");

// One line for each reason: a skipped test says it in its name or in that of its group, as "(skipped: reason)".
const reasons = new Map<string, number>();
for (const { ancestorTitles, title } of skipped) {
  const name = [...ancestorTitles, title].join(", ");
  const said = /\(skipped: (.*)\)/.exec(name)?.[1] ?? /skipped: (.*)/.exec(title)?.[1];
  const line = said === undefined ? name : `${ancestorTitles[0]?.replace(/ \(skipped:.*/, "") ?? title}: ${said}`;
  reasons.set(line, (reasons.get(line) ?? 0) + 1);
}
for (const [line, count] of reasons) {
  console.log(`skipped ${count} ${count === 1 ? "test" : "tests"}: ${line.replace(/\.+$/, "")}.`);
}
console.log(`${tests.numPassedTests} passed, ${tests.numFailedTests} failed, ${skipped.length} skipped`);
process.exit(result.status ?? 1);
