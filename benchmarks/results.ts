// The committed results: one JSON file per machine, filled a run at a time. A later run of the same thing takes the place of the
// earlier one.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BenchResult } from "../apps/cli/src/bench/run.ts";

export const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "benchmarks", "results");

/** Where a result comes from. */
interface Origin {
  /** Of the sources; "+" when there were changes on top. */
  readonly commit: string;
  readonly date: string;
}
export type ModelResult = BenchResult & Origin;

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
  models: ModelResult[];
  kernels: KernelResult[];
  peers: PeerResult[];
}

export const machine = (): BenchResult["machine"] => ({
  cpu: cpus()[0]?.model.trim() ?? "unknown",
  cores: cpus().length,
  system: `${process.platform} ${process.arch}`,
  node: process.versions.node,
  v8: process.versions.v8,
});

const slug = ({ cpu, cores, system }: BenchResult["machine"]): string =>
  `${cpu} ${cores} ${system}`.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");

export function origin(): Origin {
  const git = (...args: string[]): string => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim();
  // Results themselves are no change of what was measured.
  const changed = git("status", "--porcelain", "--", ":!benchmarks/results", ":!docs") !== "";
  const date = new Date().toISOString().slice(0, 10);
  return { commit: `${git("rev-parse", "--short=10", "HEAD")}${changed ? "+" : ""}`, date };
}

/** The results of this machine so far. */
export function read(): Results {
  const file = join(folder, `${slug(machine())}.json`);
  const empty: Results = { machine: machine(), models: [], kernels: [], peers: [] };
  return existsSync(file) ? { ...(JSON.parse(readFileSync(file, "utf8")) as Results), machine: machine() } : empty;
}

export function write(results: Results): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${slug(results.machine)}.json`);
  writeFileSync(`${file}.new`, `${JSON.stringify(results, null, 1)}\n`);
  renameSync(`${file}.new`, file); // a run that is ended leaves what was there
  return file;
}

export const all = (): Results[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => name.endsWith(".json"))
        .sort()
        .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")) as Results)
    : [];

/** `list` with `entry` in the place of what `key` calls the same. */
export function replaced<T>(list: readonly T[], entry: T, key: (entry: T) => unknown): T[] {
  const name = (one: T): string => JSON.stringify(key(one));
  return [...list.filter((one) => name(one) !== name(entry)), entry];
}
