// `npm run agreement`: every backend, every dtype and every kind of checkpoint against the reference, and the texts that each draws
// against the same 1,000 texts; each comparison in a process of its own.
import { cpus } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import type { DType } from "@doge-lm/core";
import { type Children, type Outcome, run } from "../child.ts";
import type { Engine } from "../engines.ts";
import { allDtypes, countOf, listOf, orExplain } from "../flags.ts";
import { writeReports } from "../report.ts";
import { committed, type EngineResult, type Failure, machine, origin, replaced, writeWhole } from "../results.ts";
import { subjects as allSubjects, fixtureSubjects, type SubjectName, titleOf } from "../subjects.ts";
import type { Extent } from "../tasks.ts";
import { agreeing, type Expected, joined, within } from "../truth.ts";
import { agreementFiles } from "./report.ts";
import { type AgreementEntry, type AgreementResults, fileAgreement, readAgreement } from "./results.ts";

const help = `Hold every backend that is here to the reference, with every dtype, on the demo model, random checkpoints of every layout
and the shape of Doge-20M, and compare the texts it draws with 1,000 texts of 64 tokens. Takes some minutes; writes
benchmarks/results/agreement and docs/agreement.md.

  npm run agreement

  --texts 1000 --steps 64     texts that fast backends draw, and their tokens
  --few 50 --fewer 32         the same of the reference and of software adapters, and of the logits that are looked at
  --only "wasm,webgpu"        engines by name: these alone are compared anew, as are the dtypes and checkpoints that are named
  --dtypes f32,q8             those of f32,bf16,q8,q4
  --subjects demo,fixture:native,"shape:20m moe"
  --out FOLDER                instead of the committed one: results and pages go there
  --engines MODULE            engines of your own, in a module like benchmarks/engines.ts`;

const string = { type: "string" } as const;
const { values: flags } = parseArgs({
  options: {
    texts: { ...string, default: "1000" },
    steps: { ...string, default: "64" },
    few: { ...string, default: "50" },
    fewer: { ...string, default: "32" },
    only: string,
    dtypes: { ...string, default: allDtypes.join() },
    subjects: string,
    out: string,
    engines: string,
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(help);
  process.exit(0);
}

const ordinary: readonly SubjectName[] = ["demo", ...fixtureSubjects, "shape:20m", "shape:20m moe"];
const { texts, steps, few, fewer, dtypes, subjects } = await orExplain(() => ({
  ...{ texts: countOf("--texts", flags.texts), steps: countOf("--steps", flags.steps) },
  ...{ few: countOf("--few", flags.few), fewer: countOf("--fewer", flags.fewer) },
  dtypes: listOf("--dtypes", flags.dtypes, allDtypes),
  subjects: flags.subjects === undefined ? ordinary : listOf("--subjects", flags.subjects, allSubjects),
}));
/** Of random checkpoints: prompts of 24, so that a keep window is left behind. */
const fixtureExtent: Extent = { texts: 2, steps: 40, looked: 2, lookedSteps: 40 };
const shapeExtent: Extent = { texts: 1, steps: 8, looked: 1, lookedSteps: 8 };
/** Texts whose logits a software adapter is asked for, a token at a time. */
const LOOKED_SMALL = 10;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const tell = (what: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${what.slice(0, 100)}`);
};
const children: Children = { engines: flags.engines, tell };
const failures: Failure[] = [];
const fail = (engine: string, what: string, kind: Failure["kind"], why: string): void => {
  failures.push({ engine, what, kind, why, ...origin() });
  say(`${kind}: ${engine}, ${what}. ${why}`);
};

/** `work` on every item, as many at once as there are cores. */
async function pooled<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(cpus().length, items.length) }, one));
  return results;
}

const needed = <T>(outcome: Outcome<T>, what: string): T => {
  if (outcome.ok) return outcome.value;
  say(`There is nothing to compare with: ${what} failed. ${outcome.why}`);
  process.exit(1);
};

/** What an engine draws: several processes take texts each. */
async function expected(engine: string, subject: SubjectName, dtype: DType, extent: Extent): Promise<Expected> {
  const parts = Math.min(cpus().length, Math.max(1, Math.floor(extent.texts / 20)));
  const size = Math.ceil(extent.texts / parts);
  const firsts = Array.from({ length: parts }, (_, part) => part * size);
  const made = await pooled(firsts, async (first) => {
    const own = Math.min(size, extent.texts - first);
    const looked = Math.max(0, Math.min(own, extent.looked - first));
    const task = { kind: "expect", engine, subject, dtype, first, extent: { ...extent, texts: own, looked } } as const;
    return needed(await run(task, children, { seconds: 3600 }), `${engine}, ${dtype}, on the ${titleOf(subject)}`);
  });
  return joined(made);
}

const url =
  flags.engines === undefined ? new URL("../engines.ts", import.meta.url).href : pathToFileURL(flags.engines).href;
const module = (await import(url)) as { engines: readonly Engine[]; truth: Engine; baseline: Engine };
const [truth, base] = [module.truth.name, module.baseline.name];
const names = module.engines.map(({ name }) => name);
const only = flags.only === undefined ? undefined : await orExplain(() => listOf("--only", flags.only!, names));
const engines: EngineResult[] = [];
const here: { name: string; small: boolean; dtypes: readonly DType[] }[] = [];
for (const { name, slow = false } of module.engines) {
  if (only !== undefined && !only.includes(name)) continue;
  const outcome = await run({ kind: "probe", engine: name }, children, { seconds: 60 });
  if (!outcome.ok) {
    fail(name, "being opened", "failed", outcome.why);
    continue;
  }
  engines.push({ engine: name, ...outcome.value });
  const present = outcome.value;
  if (present.available) here.push({ name, small: slow || present.software, dtypes: present.dtypes });
  say(`${name}: ${present.available ? present.device : `not here. ${present.why}`}`);
}

/** The texts, and what shows that they are the truth's. */
async function demoTexts(): Promise<{ demo: Expected; baseline: NonNullable<AgreementResults["baseline"]> }> {
  const short = { texts: someLooked, steps: fewer, looked: someLooked, lookedSteps: fewer };
  const exact = await expected(truth, "demo", "f32", short);
  say(`${truth}: ${someLooked} texts of ${fewer} tokens`);
  const drawn = await expected(base, "demo", "f32", { ...short, texts, steps });
  say(`${base}: ${texts} texts of ${steps} tokens`);
  const { why, found, joined } = agreeing(exact, drawn);
  if (why !== null) {
    say(`The texts of ${base} are not those of ${truth}: ${why}`);
    process.exit(1);
  }
  say(
    `${base} draws what ${truth} draws: ${found.sameTokens} of ${someLooked * fewer} ids, ${found.ties} ties, logits ${found.maxDifference.toExponential(1)} σ apart at most`,
  );
  return { demo: joined, baseline: { engine: base, truth, texts: someLooked, steps: fewer, ...found } };
}
const someLooked = Math.min(few, texts);
const texted = subjects.includes("demo") ? await demoTexts() : null;

const truths = new Map<string, Promise<Expected>>();
function truthOf(subject: SubjectName, dtype: DType): Promise<Expected> {
  const key = `${subject} ${dtype}`;
  const extent = subject.startsWith("fixture:") ? fixtureExtent : shapeExtent;
  const made = truths.get(key) ?? expected(truth, subject, dtype, extent);
  truths.set(key, made);
  return made;
}

const tasks = subjects.flatMap((subject) =>
  here.flatMap((engine) =>
    dtypes.filter((dtype) => engine.dtypes.includes(dtype)).map((dtype) => ({ engine, subject, dtype })),
  ),
);
const entries: AgreementEntry[] = [];
await pooled(tasks, async ({ engine, subject, dtype }) => {
  const { name, small } = engine;
  const smaller: Extent = {
    texts: someLooked,
    steps: fewer,
    looked: name === truth ? someLooked : Math.min(LOOKED_SMALL, someLooked),
    lookedSteps: fewer,
  };
  const whole = subject === "demo" ? texted!.demo : await truthOf(subject, "f32");
  const asked = subject === "demo" && small ? within(whole, smaller) : whole;
  const alike = subject === "demo" || dtype === "f32" ? undefined : await truthOf(subject, dtype);
  const what = `${dtype} on the ${titleOf(subject)}`;
  const outcome = await run({ kind: "agree", engine: name, subject, dtype, expected: asked, alike }, children, {
    seconds: 1800,
  });
  if (!outcome.ok) {
    fail(name, what, "failed", outcome.why);
    return;
  }
  const entry = { engine: name, subject, dtype, ...outcome.value, ...origin() };
  entries.push(entry);
  if (!entry.agrees) fail(name, what, "disagrees", entry.why!);
  const ids = `${entry.sameTexts} of ${entry.texts} texts of ${entry.steps} tokens equal`;
  say(`${name}, ${what}: ${entry.maxDifference.toExponential(1)} σ, KL ${entry.meanKl.toExponential(1)}, ${ids}`);
});

const folder = flags.out ?? join(committed, "agreement");
// A run of a part replaces that part.
const isPart = [flags.only, flags.subjects].some((part) => part !== undefined) || flags.dtypes !== allDtypes.join();
const before = isPart ? readAgreement(folder) : null;
const made = new Set(tasks.map(({ engine, subject, dtype }) => `${engine.name}, ${dtype} on the ${titleOf(subject)}`));
const kept = (engine: string, what: string): boolean => !made.has(`${engine}, ${what}`);
const merged = [
  ...(before?.entries ?? []).filter(({ engine, dtype, subject }) =>
    kept(engine, `${dtype} on the ${titleOf(subject)}`),
  ),
  ...entries,
];
/** By checkpoint, engine and dtype, whoever was done first. */
const rank = ({ engine, subject, dtype }: AgreementEntry): number =>
  1000 * ["demo", ...fixtureSubjects, "shape:20m", "shape:20m moe"].indexOf(subject) +
  10 * module.engines.findIndex(({ name }) => name === engine) +
  allDtypes.indexOf(dtype);
merged.sort((a, b) => rank(a) - rank(b));
let known = before?.engines ?? [];
for (const one of engines) known = replaced(known, one, ({ engine }) => engine);

tell("");
const file = fileAgreement(folder, {
  ...{ machine: machine(), baseline: texted?.baseline ?? before?.baseline ?? null, engines: known, entries: merged },
  failures: [...(before?.failures ?? []).filter(({ engine, what }) => kept(engine, what)), ...failures],
});
say(file);
if (flags.out === undefined) say(writeReports(committed, "docs").join("\n"));
else for (const [path, content] of agreementFiles(folder, folder)) writeWhole(path, content);
process.exit(failures.length === 0 ? 0 : 1);
