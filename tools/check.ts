// `npm run check`: lint, types, import arrows, documentation and package checks, each as one named step.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = (name: string): string => join(root, "node_modules", ".bin", name);
const script = (name: string): readonly string[] => [process.execPath, join(root, "tools", name)];

interface Step {
  readonly name: string;
  readonly command: readonly string[];
  /** What it prints is worth reading when it passes too: sizes, and what was skipped. */
  readonly tells?: true;
}

const STEPS: readonly Step[] = [
  { name: "lint and format (biome)", command: [bin("biome"), "ci", "--error-on-warnings", "--colors=off", "."] },
  { name: "types (tsc)", command: [bin("tsc"), "-p", "tsconfig.json"] },
  { name: "import arrows", command: script("arrows.ts") },
  { name: "documentation links", command: script("docs.ts") },
  { name: "unused files, exports and dependencies (knip)", command: [bin("knip")] },
  { name: "the tokenizer's binary and its sources", command: script("tokenizer/crate.ts"), tells: true },
  {
    name: "build of packed packages (turbo)",
    command: [bin("turbo"), "run", "build", "--filter=!@doge-lm/docs", "--output-logs=errors-only"],
  },
  {
    name: "documentation site",
    command: [bin("turbo"), "run", "build", "--filter=@doge-lm/docs", "--output-logs=errors-only"],
  },
  { name: "packed packages", command: script("packages.ts"), tells: true },
  { name: "a release, rehearsed", command: script("release.ts"), tells: true },
];

const only = process.argv.slice(2);
const chosen = only.length === 0 ? STEPS : STEPS.filter((step) => only.some((word) => step.name.includes(word)));
let failed = 0;
for (const { name, command, tells } of chosen) {
  const [program, ...args] = command as [string, ...string[]];
  const result = spawnSync(program, args, { cwd: root, encoding: "utf8" });
  const good = result.status === 0;
  if (!good) {
    failed++;
    process.stdout.write(
      `${result.stdout ?? ""}${result.stderr ?? ""}${result.error ? `${result.error.message}\n` : ""}`,
    );
  } else if (tells) {
    console.log(result.stdout.trimEnd().replaceAll(/^/gm, "     "));
  }
  console.log(`${good ? "ok  " : "FAIL"} ${name}`);
}
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
