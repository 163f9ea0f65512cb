// `npm run soak`: a model is loaded and closed over and over, then one Doge answers short requests of every kind for as long as is
// asked, and nothing may grow: not the memory, not the handles, and not (as far as a report can say) the time of an answer.
// Memory is a verdict; speed is reported. Writes a report as JSON and Markdown.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { reference } from "../packages/backend-reference/src/index.ts";
import { wasm } from "../packages/backend-wasm/src/index.ts";
import type { Doge, DType, GenerateOptions, Provider } from "../packages/core/src/index.ts";
import { loadDoge } from "../packages/core/src/index.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = join(root, "packages", "demo-model");

const { values: flags } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    generations: { type: "string", default: "10000" },
    cycles: { type: "string", default: "200" },
    backend: { type: "string", default: "wasm" },
    dtype: { type: "string", default: "q8" },
    threads: { type: "string", default: "1" },
    report: { type: "string", default: join(root, ".cache", "soak") },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Load, answer and close for a long time; fail when memory or handles grow.

  npm run --silent soak -- --minutes 30

  --minutes 30          how long to answer
  --generations 10000   at least so many, where --minutes is 30 or more
  --cycles 200          times that the model is loaded, used and closed first
  --backend wasm        wasm or reference
  --dtype q8            of the weights
  --threads 1           of the backend
  --report FILE         where FILE.json and FILE.md are written`);
  process.exit(0);
}
const minutes = Number(flags.minutes);
const atLeast = minutes >= 30 ? Number(flags.generations) : 0;
const cycles = Number(flags.cycles);
if (!(minutes > 0) || !Number.isInteger(cycles) || !Number.isInteger(atLeast)) {
  console.error("soak: --minutes must be a number above 0, --generations and --cycles whole numbers.");
  process.exit(1);
}
if (globalThis.gc === undefined) {
  console.error("soak: start Node with --expose-gc, as npm run soak does: otherwise garbage looks like growth.");
  process.exit(1);
}

const providers: { readonly [name: string]: () => Provider } = {
  wasm: () => wasm({ threads: Number(flags.threads) }),
  reference,
};
const provider = providers[flags.backend];
if (provider === undefined) {
  console.error(`soak: there is no backend ${flags.backend}: choose ${Object.keys(providers).join(" or ")}.`);
  process.exit(1);
}
const load = (): Promise<Doge> =>
  loadDoge(demo, { backend: provider(), dtype: flags.dtype as DType, room: 4096, context: 512 });

/** What must not grow. Bytes, but for the handles. */
interface Sample {
  readonly atMs: number;
  readonly done: number;
  readonly rss: number;
  readonly heap: number;
  /** Array buffers and what else lies outside the heap. */
  readonly external: number;
  readonly handles: number;
  readonly files: number;
  /** Milliseconds of the same greedy answer, the median since the sample before. */
  readonly answerMs: number;
}
const begin = performance.now();

async function sample(done: number, times: number[]): Promise<Sample> {
  // Twice, with a turn between: what the first finalises, the second frees.
  for (let round = 0; round < 2; round++) {
    globalThis.gc!();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  return {
    atMs: Math.round(performance.now() - begin),
    done,
    rss,
    heap: heapUsed,
    external,
    handles: process.getActiveResourcesInfo().length,
    files: existsSync("/proc/self/fd") ? readdirSync("/proc/self/fd").length : 0,
    answerMs: median(times.splice(0)),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

/** How much the later half of the samples may lie above the earlier, medians of each, beginning behind the first fifth. */
const limits: { readonly [name in "rss" | "heap" | "external" | "handles" | "files"]: (before: number) => number } = {
  // In the first minutes compilers and allocators still settle, in steps: 25 MB between two level stretches of one minute were measured,
  // with heap and external level throughout.
  rss: (before) => Math.max(minutes < 5 ? 40e6 : 12e6, 0.06 * before),
  heap: (before) => Math.max(2e6, 0.05 * before),
  external: (before) => Math.max(2e6, 0.05 * before),
  handles: () => 0,
  files: () => 0,
};
interface Verdict {
  readonly phase: string;
  readonly what: string;
  readonly before: number;
  readonly after: number;
  readonly allowed: number;
  readonly flat: boolean;
}

function judge(phase: string, samples: readonly Sample[]): Verdict[] {
  const settled = samples.slice(Math.floor(samples.length / 5));
  const half = settled.length >> 1;
  return Object.entries(limits).map(([what, limit]) => {
    const of = (part: readonly Sample[]): number => median(part.map((one) => one[what as keyof typeof limits]));
    const [before, after] = [of(settled.slice(0, half)), of(settled.slice(half))];
    const allowed = limit(before);
    return { phase, what, before, after, allowed, flat: after - before <= allowed };
  });
}

const say = (line: string) => process.stderr.write(`${line}\n`);
const user = (content: string) => [{ role: "user", content }];
const probe = (doge: Doge) =>
  doge.generate(user("What is 2 plus 3?"), { maxNewTokens: 12, temperature: 0, ignoreEos: true }).result();

async function loadAndClose(): Promise<Sample[]> {
  const samples: Sample[] = [];
  const times: number[] = [];
  const every = Math.max(1, Math.floor(cycles / 25));
  for (let cycle = 1; cycle <= cycles; cycle++) {
    const start = performance.now();
    const doge = await load();
    await probe(doge);
    await doge.close();
    times.push(performance.now() - start);
    if (cycle % every === 0) samples.push(await sample(cycle, times));
  }
  return samples;
}

/** One request of the `index`-th kind; how many tokens it made. */
async function request(doge: Doge, index: number): Promise<number> {
  const draw: GenerateOptions = { maxNewTokens: 12, temperature: 0.9, seed: index };
  switch (index % 8) {
    case 0:
      return (await doge.generate("Once upon a time", draw).result()).ids.length;
    case 1:
      return (await doge.generate(user("Hello!"), { ...draw, stop: ["."] }).result()).ids.length;
    case 2: // from the logits, on the host
      return (await doge.generate(user("Tell me a story."), { ...draw, typicalP: 0.9 }).result()).ids.length;
    case 3: {
      const session = doge.session(draw);
      let made = 0;
      for (const text of ["Hi!", "What comes after Monday?"]) made += (await session.send(text).result()).ids.length;
      await session.close();
      return made;
    }
    case 4: {
      // Left by its reader.
      let made = 0;
      for await (const { ids } of doge.generate("One, two,", { ...draw, maxNewTokens: 40 })) {
        made += ids.length;
        if (made > 3) break;
      }
      return made;
    }
    case 5: {
      const controller = new AbortController();
      const answer = doge.generate("Three, four,", { ...draw, maxNewTokens: 40, signal: controller.signal }).result();
      setTimeout(() => controller.abort(), index % 5);
      return (await answer).ids.length;
    }
    case 6:
      await doge.score("The days of the week are Monday and Tuesday.");
      return 0;
    default: {
      // Refused: the Doge goes on.
      await doge
        .generate("Hello", { temperature: -1 } as GenerateOptions)
        .result()
        .catch(() => {});
      return 0;
    }
  }
}

async function answer(): Promise<{ samples: Sample[]; generations: number; tokens: number; seconds: number }> {
  const doge = await load();
  const samples: Sample[] = [];
  const times: number[] = [];
  const start = performance.now();
  const length = minutes * 60_000;
  let generations = 0;
  let tokens = 0;
  let next = start;
  const first = await probe(doge);
  while (performance.now() - start < length || generations < atLeast) {
    // Side by side, and now and then alone.
    const together = generations % 3 === 0 ? 1 : 4;
    const made = await Promise.all(
      Array.from({ length: together }, (_, offset) =>
        request(doge, generations + offset).catch((error: unknown) => {
          if ((error as { code?: string }).code === "invalid-argument") return 0;
          throw error;
        }),
      ),
    );
    generations += together;
    tokens += made.reduce((a, b) => a + b, 0);
    const clock = performance.now();
    const again = await probe(doge);
    times.push(performance.now() - clock);
    generations++;
    tokens += again.ids.length;
    if (again.ids.join() !== first.ids.join()) throw new Error("The same greedy answer has other ids than at first.");
    if (performance.now() >= next) {
      samples.push(await sample(generations, times));
      next = start + (length * samples.length) / 40;
    }
  }
  samples.push(await sample(generations, times));
  await doge.close();
  return { samples, generations, tokens, seconds: (performance.now() - start) / 1000 };
}

say(`soak: ${cycles} times loading and closing`);
const closing = await loadAndClose();
say(`soak: answering for ${minutes} ${minutes === 1 ? "minute" : "minutes"}`);
const answering = await answer();
const verdicts = [...judge("load and close", closing), ...judge("answer", answering.samples)];
const flat = verdicts.every((verdict) => verdict.flat);

const speed = (samples: readonly Sample[]): [number, number] => {
  const settled = samples.slice(Math.floor(samples.length / 5)).map(({ answerMs }) => answerMs);
  const half = settled.length >> 1;
  return [median(settled.slice(0, half)), median(settled.slice(half))];
};
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
const shown = ({ what }: Verdict, value: number): string =>
  what === "handles" || what === "files" ? String(value) : megabytes(value);
const machine = `${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${process.platform} ${process.arch}, Node ${process.versions.node}`;
const report = {
  machine,
  backend: flags.backend,
  dtype: flags.dtype,
  threads: Number(flags.threads),
  cycles,
  generations: answering.generations,
  tokens: answering.tokens,
  seconds: Math.round(answering.seconds),
  flat,
  verdicts,
  loadMs: speed(closing),
  answerMs: speed(answering.samples),
  samples: { closing, answering: answering.samples },
};
const change = ([before, after]: readonly [number, number]): string =>
  `${before.toFixed(2)} → ${after.toFixed(2)} ms (${((100 * (after - before)) / before).toFixed(1)} %)`;
const lines = [
  "# Soak",
  "",
  `${machine}. ${flags.backend}, ${flags.dtype}, ${flags.threads} thread(s), the demo model.`,
  "",
  `${cycles} times loaded, used and closed; then ${report.generations} generations (${report.tokens} tokens) in ${report.seconds} s, alone and side by side: greedy, drawn, from logits on the host, conversations, left early, aborted, scored, refused.`,
  "",
  "Medians of the earlier and the later half of the samples, behind the first fifth; every sample is taken after a garbage collection.",
  "",
  "| phase | what | earlier | later | may grow by | |",
  "|---|---|---|---|---|---|",
  ...verdicts.map(
    (verdict) =>
      `| ${verdict.phase} | ${verdict.what} | ${shown(verdict, verdict.before)} | ${shown(verdict, verdict.after)} | ${shown(verdict, verdict.allowed)} | ${verdict.flat ? "flat" : "**grows**"} |`,
  ),
  "",
  `Time of a load, an answer and a close: ${change(report.loadMs)}. Time of the same greedy answer: ${change(report.answerMs)}.`,
  "",
];
mkdirSync(join(flags.report, ".."), { recursive: true });
writeFileSync(`${flags.report}.json`, `${JSON.stringify(report, null, 1)}\n`);
writeFileSync(`${flags.report}.md`, lines.join("\n"));
console.log(lines.join("\n"));
console.log(flat ? "flat: nothing grew" : "NOT flat: see the table");
process.exit(flat ? 0 : 1);
