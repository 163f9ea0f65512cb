// One run of the benchmark, from what was asked for to the files it leaves.
import { shapeNames } from "../apps/cli/src/bench/shapes.ts";
import { type Children, type Outcome, run } from "./child.ts";
import { importEngines } from "./engine-modules.ts";
import { allDtypes, countOf, countsOf, listOf, UsageError } from "./flags.ts";
import { Gate } from "./gate.ts";
import { type Here, ordinary, plan, quick, shapeSubject, type Timing, timingTitle, type Wishes } from "./plan.ts";
import { benchPeers, benchTokenizer, type Programs } from "./programs.ts";
import { writeReports } from "./report.ts";
import { empty, type Failure, origin, type Results, read, replaced, slug, write } from "./results.ts";
import { measureSizes } from "./sizes.ts";

const PARTS = ["models", "kernels", "tokenizer", "sizes", "peers"] as const;
type Part = (typeof PARTS)[number];

const TIME_IS_UP = "The time of this run was up; --minutes gives it more.";

export const help = `Check and time every backend that is here, file the results and make the report.

  npm run bench                                 everything, in under 15 minutes on 2 cores
  npm run bench -- --quick                      the fastest forms of the smallest model, in under 2; filed in .cache/bench
  npm run bench -- [models] [kernels] [tokenizer] [sizes] [peers] [options]     these parts alone, beside what was filed before

  --shapes 20m,60m   --dtypes f32,q8,q4   --contexts 16,512,2048   --rows 1,8   --moe   --reps 3
  --only "wasm,webgpu"       engines by name
  --minutes 12               what has not begun by then is left out, and named
  --out FOLDER               where results and report go instead of benchmarks/results
  --through "taskset -c 0"   a program that everything timed is started by
  --engines MODULE           engines of your own, in a module like benchmarks/engines.ts
  --models FOLDER --python PATH --chromium PATH --peers llama.cpp               for the peers

An engine first computes what the reference does: f32 must give its ids wherever they are no tie, rounded weights must stay within the
table of tolerances. One that does not is shown as failed, without any speed, and the command fails. What dies or hangs is shown too, and the
rest goes on. Nothing is written before the end, so a run that is interrupted leaves the results of before.

npm run bench:report makes the reports anew from the filed results.`;

export interface BenchFlags {
  readonly quick?: boolean | undefined;
  readonly shapes?: string | undefined;
  readonly dtypes?: string | undefined;
  readonly contexts?: string | undefined;
  readonly rows?: string | undefined;
  readonly moe?: boolean | undefined;
  readonly reps?: string | undefined;
  readonly only?: string | undefined;
  readonly minutes?: string | undefined;
  readonly out?: string | undefined;
  readonly through?: string | undefined;
  readonly engines?: string | undefined;
  readonly models?: string | undefined;
  readonly python?: string | undefined;
  readonly chromium?: string | undefined;
  readonly peers?: string | undefined;
  /** The folder of the committed results. */
  readonly committed: string;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** What is being done, on a terminal only. */
function tell(what: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${what.slice(0, 100)}`);
}

/** Whether all went well. Errors: UsageError. */
export async function runBench(flags: BenchFlags, named: readonly string[]): Promise<boolean> {
  const asked = named.flatMap((part) => listOf("The command", part, PARTS));
  const isQuick = flags.quick === true;
  const parts = new Set<Part>(asked.length > 0 ? asked : isQuick ? ["models", "tokenizer"] : PARTS);
  const folder = flags.out ?? (isQuick ? ".cache/bench" : flags.committed);
  const minutes = Number(flags.minutes ?? (isQuick ? 1.5 : 12));
  if (!(minutes > 0))
    throw new UsageError(`--minutes is ${JSON.stringify(flags.minutes)}; it must be a number above 0.`);
  const wishes = wishesOf(flags, isQuick ? quick : ordinary);
  const end = performance.now() + 60_000 * minutes;
  const children: Children = { engines: flags.engines, through: flags.through?.split(" "), tell };
  const programs: Programs = { through: children.through ?? [], say, tell };
  // Peers are kept when they are not there to be timed anew.
  const before = read(folder);
  const results = named.length > 0 ? before : { ...empty(), peers: before.peers };
  const failures: Failure[] = [];

  // What takes the same time everywhere goes first: the rest knows how much is left.
  if (parts.has("tokenizer")) results.tokenizer = (await benchTokenizer(programs, failures)) ?? results.tokenizer;
  if (parts.has("sizes")) results.sizes = (await measureSizes(say, failures)) ?? results.sizes;
  if (parts.has("models") || parts.has("kernels")) {
    const bench = new Bench(children, flags, results, failures, end);
    await bench.probe();
    if (parts.has("models")) await bench.models(wishes);
    if (parts.has("kernels")) await bench.kernels();
  }
  if (parts.has("peers")) {
    const left = (end - performance.now()) / 60_000;
    for (const result of await benchPeers(programs, flags, left, failures)) {
      results.peers = replaced(results.peers, result, ({ engine, kind, shape, threads }) => [
        engine,
        kind,
        shape,
        threads,
      ]);
    }
  }

  // What was tried anew is no failure of before.
  const redone = new Set(failures.map(({ engine, what }) => `${engine} ${what}`));
  const old = results.failures.filter(
    ({ engine, what }) =>
      !redone.has(`${engine} ${what}`) && !timed(results, engine, what) && !parts.has(wholes[what] ?? "models"),
  );
  results.failures = [...old, ...failures];
  tell("");
  for (const { engine, what, kind, why } of failures) say(`${kind}: ${engine}, ${what}. ${why}`);
  const file = write(folder, results);
  say(
    `${file}\n${writeReports(folder, isQuick || flags.out !== undefined ? null : "docs", slug(results.machine)).join("\n")}`,
  );
  return failures.every(({ kind }) => kind === "left out");
}

/** Parts that fail as a whole, by what their failures are called. */
const wholes: { readonly [what: string]: Part } = {
  ...{ "the tokenizer": "tokenizer", "what an install brings": "sizes", "other engines": "peers", kernels: "kernels" },
};

const timed = ({ models }: Results, engine: string, what: string): boolean =>
  models.some((one) => one.engine === engine && timingTitle({ ...one, contexts: [] }) === what);

function wishesOf(flags: BenchFlags, from: Wishes): Wishes {
  const { shapes, dtypes, contexts, rows, reps } = flags;
  return {
    ...from,
    shapes: shapes === undefined ? from.shapes : listOf("--shapes", shapes, shapeNames),
    dtypes: dtypes === undefined ? from.dtypes : listOf("--dtypes", dtypes, allDtypes),
    contexts: contexts === undefined ? from.contexts : countsOf("--contexts", contexts),
    rows: rows === undefined ? from.rows : countsOf("--rows", rows),
    moe: flags.moe === true || (shapes === undefined && dtypes === undefined && from.moe),
    reps: reps === undefined ? from.reps : countOf("--reps", reps),
  };
}

/** The engines of this run, what they pass and how fast they are. */
class Bench {
  readonly #children: Children;
  readonly #flags: BenchFlags;
  readonly #results: Results;
  readonly #failures: Failure[];
  readonly #end: number;
  #here: Here[] = [];
  #truth = "";

  constructor(children: Children, flags: BenchFlags, results: Results, failures: Failure[], end: number) {
    this.#children = children;
    this.#flags = flags;
    this.#results = results;
    this.#failures = failures;
    this.#end = end;
  }

  #fail(engine: string, what: string, kind: Failure["kind"], why: string): void {
    this.#failures.push({ engine, what, kind, why, ...origin() });
  }

  /** Who is here. */
  async probe(): Promise<void> {
    const { engines: path, only } = this.#flags;
    const module = await importEngines(path);
    this.#truth = module.truth.name;
    const names = module.engines.map(({ name }) => name);
    const wanted = only === undefined ? undefined : listOf("--only", only, names);
    for (const { name, slow = false, untimed = false } of module.engines) {
      if (wanted === undefined ? untimed : !wanted.includes(name)) continue;
      const outcome = await run({ kind: "probe", engine: name }, this.#children, { seconds: 60 });
      if (!outcome.ok) {
        this.#fail(name, "being opened", "failed", outcome.why);
        continue;
      }
      const present = { engine: name, ...outcome.value };
      this.#results.engines = replaced(this.#results.engines, present, ({ engine }) => engine);
      say(`${name}: ${present.available ? present.device : `not here. ${present.why}`}`);
      if (!present.available) continue;
      this.#here.push({ name, dtypes: present.dtypes, small: slow || present.software });
    }
  }

  /** Agreement, then speed, in the order of the plan. */
  async models(wishes: Wishes): Promise<void> {
    const gate = new Gate(this.#children, this.#truth, say);
    for (const timing of plan(this.#here, wishes)) {
      const { engine, dtype } = timing;
      const here = this.#here.find(({ name }) => name === engine)!;
      const title = timingTitle(timing);
      if (performance.now() > this.#end) {
        this.#fail(engine, title, "left out", TIME_IS_UP);
        continue;
      }
      const verdict = await gate.passes(here, dtype, shapeSubject(timing));
      if (!verdict.agrees) {
        this.#forget(timing);
        this.#fail(engine, title, verdict.died ? "failed" : "disagrees", verdict.why);
        continue;
      }
      const outcome = await run({ kind: "time", ...timing }, this.#children, { seconds: 300, timed: true });
      if (!outcome.ok) {
        this.#forget(timing);
        this.#fail(engine, title, "failed", outcome.why);
        continue;
      }
      const result = { engine, ...outcome.value, ...origin() };
      this.#results.models = replaced(this.#results.models, result, ({ engine, shape, moe, dtype, rows }) => [
        ...[engine, shape, moe, dtype, rows],
      ]);
      const decode = Object.entries(result.decodeTokensPerSecond).map(([at, rate]) => `@${at} ${rate.toFixed(1)}`);
      say(
        `${engine}, ${title}: prefill ${result.prefillTokensPerSecond.toFixed(1)}, decode ${decode.join(", ")} tokens/s  ${result.hash}`,
      );
    }
    for (const one of gate.results) {
      this.#results.gates = replaced(this.#results.gates, one, ({ engine, subject, dtype }) => [
        engine,
        subject,
        dtype,
      ]);
    }
  }

  /** A speed of before does not stand where nothing may be timed now. */
  #forget({ engine, shape, moe, dtype, rows }: Timing): void {
    this.#results.models = this.#results.models.filter(
      (one) =>
        [one.engine, one.shape, one.moe, one.dtype, one.rows].join() !== [engine, shape, moe, dtype, rows].join(),
    );
  }

  /** Kernels one by one: those of the CPU, and those of a GPU in their place in the forward pass. */
  async kernels(): Promise<void> {
    const note = <T>(engine: string, outcome: Outcome<T>, use: (value: T) => void): void => {
      if (outcome.ok) use(outcome.value);
      else this.#fail(engine, "kernels", "failed", outcome.why);
    };
    const names = this.#here.map(({ name }) => name);
    const options = { seconds: 240, timed: true };
    const inTime = (engine: string): boolean => {
      const there = names.includes(engine);
      if (there && performance.now() > this.#end) this.#fail(engine, "kernels", "left out", TIME_IS_UP);
      return there && performance.now() <= this.#end;
    };
    if (inTime("wasm")) {
      const outcome = await run({ kind: "kernels", engine: "wasm" }, this.#children, options);
      note("wasm", outcome, (value) => {
        this.#results.kernels = value.map((one) => ({ ...one, ...origin() }));
        say(`${value.length} kernels of wasm`);
      });
    }
    if (inTime("webgpu")) {
      for (const dtype of ["f32", "q8"] as const) {
        const task = { kind: "gpu-kernels", engine: "webgpu", shape: "20m", dtype } as const;
        note("webgpu", await run(task, this.#children, options), (value) => {
          for (const one of value) {
            const result = { ...one, ...origin() };
            this.#results.gpuKernels = replaced(this.#results.gpuKernels, result, ({ shape, dtype, what, kernel }) => [
              ...[shape, dtype, what, kernel],
            ]);
          }
          say(`${value.length} kernels of webgpu, ${dtype}`);
        });
      }
    }
  }
}
