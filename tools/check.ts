// `npm run check`: lint, types, import arrows, documentation and package checks, each as one named step.
//
// What reads sources runs beside what builds and packs, for each takes little more than one processor; lines come in the order of the list.
import { execFile } from "node:child_process";
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
  /** Builds, or needs what the steps before it have built. */
  readonly builds?: true;
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
    builds: true,
  },
  {
    name: "documentation site",
    command: [bin("turbo"), "run", "build", "--filter=@doge-lm/docs", "--output-logs=errors-only"],
    builds: true,
  },
  { name: "packed packages", command: script("packages.ts"), tells: true, builds: true },
  { name: "a release, rehearsed", command: script("release.ts"), tells: true, builds: true },
];

const only = process.argv.slice(2);
const chosen = only.length === 0 ? STEPS : STEPS.filter((step) => only.some((word) => step.name.includes(word)));

interface Outcome {
  readonly good: boolean;
  readonly stdout: string;
  readonly others: string;
}

function run({ command }: Step): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const [program, ...args] = command as [string, ...string[]];
  const child = execFile(program, args, { cwd: root, maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
    // What could not be started, or said more than is kept, has a message of its own.
    const message = error === null || typeof error.code === "number" ? "" : `${error.message}\n`;
    resolve({ good: error === null, stdout, others: stderr + message });
  });
  child.stdin?.end();
  return promise;
}

/** One after the other. */
function inTurn(steps: readonly Step[]): [Step, Promise<Outcome>][] {
  let before: Promise<unknown> = Promise.resolve();
  return steps.map((step) => {
    const outcome = before.then(() => run(step));
    before = outcome;
    return [step, outcome];
  });
}

const outcomes = new Map([
  ...inTurn(chosen.filter(({ builds }) => builds === undefined)),
  ...inTurn(chosen.filter(({ builds }) => builds)),
]);
let failed = 0;
for (const step of chosen) {
  const { good, stdout, others } = await outcomes.get(step)!;
  if (!good) {
    failed++;
    process.stdout.write(stdout + others);
  } else if (step.tells) {
    console.log(stdout.trimEnd().replaceAll(/^/gm, "     "));
  }
  console.log(`${good ? "ok  " : "FAIL"} ${step.name}`);
}
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
