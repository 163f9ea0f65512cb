// The committed results: one JSON file per machine. A run of everything replaces it, a run of a part replaces that part; both at
// their end and in one step, so that a run which is ended leaves what was there.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DType } from "@doge-lm/core";
import type { BenchResult } from "../apps/cli/src/bench/run.ts";
import type { Agreement } from "./compare.ts";
import type { GpuKernelResult } from "./gpu-kernels.ts";
import type { SubjectName } from "./subjects.ts";
import type { Present } from "./tasks.ts";

export const root: string = fileURLToPath(new URL("..", import.meta.url));
export const committed: string = join(root, "benchmarks", "results");

/** Where a result comes from. */
export interface Origin {
  /** Of the sources; "+" when there were changes on top. */
  readonly commit: string;
  readonly date: string;
}

export type EngineResult = { readonly engine: string } & Present;

/** What was compared before anything was timed. */
export interface GateResult extends Origin, Omit<Agreement, "differences"> {
  readonly engine: string;
  readonly subject: SubjectName;
  readonly dtype: DType;
  readonly ties: number;
}

export interface ModelResult extends BenchResult, Origin {
  readonly engine: string;
}

/** What gave no speed: it failed to agree, died, or there was no time for it. */
export interface Failure extends Origin {
  readonly engine: string;
  readonly what: string;
  readonly kind: "disagrees" | "failed" | "left out";
  readonly why: string;
}

export interface KernelResult extends Origin {
  readonly kernel: string;
  /** Bytes that must be read and multiply-adds that must be made, per call. */
  readonly bytes: number;
  readonly macs: number;
  /** Milliseconds, the median; how many calls. */
  readonly milliseconds: number;
  readonly calls: number;
  readonly bytesPerSecond: number;
  readonly macsPerSecond: number;
  /** The shortest time that the ceilings allow over the time it took. */
  readonly share: number;
  readonly hash: string;
}

/** As `npm run tokenizer -- benchmark --json` prints it. */
export interface TokenizerResult extends Origin {
  readonly candidates: readonly {
    readonly name: string;
    readonly bytes: number;
    /** MB/s by the clock, and of the time that this thread computed. */
    readonly clock: number;
    readonly thread: number;
  }[];
  /** The fast one over the library, encoding the same text in the same run, by the thread's time. */
  readonly ratio: number;
  readonly vocabulary: number;
  readonly hash: string;
  readonly textHash: string;
  readonly readyMs: number;
  readonly trainMs: number;
  /** What was compared in this run, and how much of it differed. */
  readonly identities: readonly { readonly what: string; readonly count: number; readonly different: number }[];
}

export interface SizeResult extends Origin {
  readonly name: string;
  readonly packages: number;
  readonly bytes: number;
  readonly ours: boolean;
}

/** As `npm run bench:peers -- --json` prints it. */
export interface PeerResult extends Origin {
  readonly engine: string;
  readonly version: string;
  readonly dtype: string;
  readonly kind: string;
  readonly shape: string;
  readonly threads: number;
  readonly reps: number;
  readonly prompt: number;
  readonly decode: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: { readonly [context: string]: number };
  readonly samples: { readonly [what: string]: readonly number[] };
}

export interface Results {
  readonly machine: BenchResult["machine"];
  engines: EngineResult[];
  gates: GateResult[];
  models: ModelResult[];
  failures: Failure[];
  kernels: KernelResult[];
  gpuKernels: (GpuKernelResult & Origin)[];
  tokenizer: TokenizerResult | null;
  sizes: SizeResult[];
  peers: PeerResult[];
}

export const machine = (): BenchResult["machine"] => ({
  cpu: cpus()[0]?.model.trim() ?? "unknown",
  cores: cpus().length,
  system: `${process.platform} ${process.arch}`,
  node: process.versions.node,
  v8: process.versions.v8,
});

/** The name of this machine's files. */
export const slug = ({ cpu, cores, system }: BenchResult["machine"] = machine()): string =>
  `${cpu} ${cores} ${system}`.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");

const today = (): string => new Date().toISOString().slice(0, 10);
let found: Origin | undefined;
/** The sources are those of this commit, where there is no git to ask. */
export function measuredAt(commit: string): void {
  found = { commit, date: today() };
}
/** Of this run, as it began. */
export function origin(): Origin {
  const git = (...args: string[]): string => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim();
  if (found === undefined) {
    // Results themselves are no change of what was measured.
    const changed = git("status", "--porcelain", "--", ":!benchmarks/results", ":!docs") !== "";
    found = { commit: `${git("rev-parse", "--short=10", "HEAD")}${changed ? "+" : ""}`, date: today() };
  }
  return found;
}

export const empty = (): Results => ({
  ...{ machine: machine(), engines: [], gates: [], models: [], failures: [], kernels: [], gpuKernels: [] },
  ...{ tokenizer: null, sizes: [], peers: [] },
});

/** The results of this machine so far. */
export function read(folder: string): Results {
  const file = join(folder, `${slug()}.json`);
  if (!existsSync(file)) return empty();
  return { ...empty(), ...(JSON.parse(readFileSync(file, "utf8")) as Results), machine: machine() };
}

export function write(folder: string, results: Results): string {
  const file = join(folder, `${slug(results.machine)}.json`);
  writeWhole(file, `${JSON.stringify(results, null, 1)}\n`);
  return file;
}

/** All of a file or nothing of it. */
export function writeWhole(file: string, content: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, content);
  renameSync(`${file}.new`, file);
}

/** Every machine's JSON in `folder`, by name. */
export const all = <T = Results>(folder: string): T[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => name.endsWith(".json"))
        .sort()
        .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")) as T)
    : [];

/** `list` with `entry` in the place of what `key` calls the same. */
export function replaced<T>(list: readonly T[], entry: T, key: (entry: T) => unknown): T[] {
  const name = (one: T): string => JSON.stringify(key(one));
  return [...list.filter((one) => name(one) !== name(entry)), entry];
}
