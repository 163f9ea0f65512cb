// `npm run bench`: runs kernels, models and peers on this machine and files the results under benchmarks/results. Every model is
// timed by `doge bench` in a process of its own, so that none has another's compiled code or memory.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { BenchResult } from "../apps/cli/src/bench/run.ts";
import { benchKernels } from "./kernels.ts";
import { machine, origin, type PeerResult, read, replaced, root, write } from "./results.ts";

const string = { type: "string" } as const;
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shapes: { ...string, default: "20m,60m" },
    dtypes: { ...string, default: "f32,q8" },
    threads: { ...string, default: "1" },
    rows: { ...string, default: "1" },
    contexts: { ...string, default: "16,512,2048" },
    reps: { ...string, default: "5" },
    backend: { ...string, default: "wasm" },
    moe: { type: "boolean", default: false },
    // Where the peers find what they need.
    models: string,
    python: string,
    chromium: string,
    peers: string,
    help: { type: "boolean", default: false },
  },
});
const parts = positionals.length === 0 ? ["models"] : positionals;
if (flags.help || parts.some((part) => !["kernels", "models", "peers"].includes(part))) {
  console.log(`Time Doge on this machine and file the results under benchmarks/results.

  npm run bench -- [kernels] [models] [peers] [options]      (models when none is named)

  --shapes 20m,60m        --dtypes f32,q8      --threads 1      --rows 1      --moe
  --contexts 16,512,2048  --reps 5             --backend wasm
  --models FOLDER         --python PATH        --chromium PATH               for the peers
  --peers llama.cpp       only these of them

npm run bench:report makes docs/performance.md of all results.`);
  process.exit(flags.help ? 0 : 1);
}

const results = read();
const say = (line: string) => process.stderr.write(`${line}\n`);
const list = (name: "shapes" | "dtypes" | "threads" | "rows"): string[] => flags[name].split(",");
/** The JSON lines of a program, or null with its own words on stderr. */
function lines(args: readonly string[]): object[] | null {
  const all = ["--disable-warning=ExperimentalWarning", ...args];
  const { status, stdout } = spawnSync(process.execPath, all, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", 2],
  });
  return status === 0
    ? stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as object)
    : null;
}

if (parts.includes("kernels")) {
  for await (const result of benchKernels()) {
    results.kernels = replaced(results.kernels, result, ({ kernel }) => kernel);
    console.log(
      `${result.kernel.padEnd(34)}${result.milliseconds.toFixed(3).padStart(9)} ms ${(result.bytesPerSecond / 1e9).toFixed(1).padStart(7)} GB/s ${(result.macsPerSecond / 1e9).toFixed(1).padStart(7)} GMAC/s ${(100 * result.share).toFixed(0).padStart(4)} %`,
    );
  }
}
if (parts.includes("models")) {
  for (const shape of list("shapes")) {
    for (const dtype of list("dtypes")) {
      for (const threads of list("threads")) {
        for (const rows of list("rows")) {
          say(`${shape}${flags.moe ? " with experts" : ""} ${dtype}, ${threads} threads, ${rows} rows`);
          const found = lines([
            ...[join("apps", "cli", "src", "bin.ts"), "bench", "--json", "--shape", shape, "--dtype", dtype],
            ...["--threads", threads, "--rows", rows, "--reps", flags.reps, "--contexts", flags.contexts],
            ...["--backend", flags.backend, ...(flags.moe ? ["--moe"] : [])],
          ]);
          if (found === null) continue;
          const result = { ...(found[0] as BenchResult), ...origin() };
          results.models = replaced(results.models, result, (one) => [
            ...[one.shape, one.moe, one.dtype, one.threads, one.rows, one.backend, one.revectorized],
          ]);
          const decode = Object.entries(result.decodeTokensPerSecond).map(([at, rate]) => `@${at} ${rate.toFixed(1)}`);
          console.log(
            `  prefill ${result.prefillTokensPerSecond.toFixed(1)}, decode ${decode.join(", ")}  ${result.hash}`,
          );
          write(results);
        }
      }
    }
  }
}
if (parts.includes("peers")) {
  for (const shape of list("shapes")) {
    for (const threads of list("threads")) {
      const run = join("benchmarks", "peers", "run.mjs");
      const where = (["models", "python", "chromium", "peers"] as const).flatMap((name) =>
        flags[name] === undefined ? [] : [`--${name}`, flags[name]],
      );
      const options = ["--dtypes", flags.dtypes, "--reps", flags.reps, "--json", ...where];
      const found = lines([run, "--shape", shape, "--threads", threads, ...options]);
      for (const result of (found ?? []).filter((line) => "engine" in line) as PeerResult[]) {
        const filed = { ...result, ...origin() };
        results.peers = replaced(results.peers, filed, (one) => [one.engine, one.kind, one.shape, one.threads]);
      }
      console.log(
        (found ?? [])
          .filter((line) => "ratio" in line)
          .map((line) => JSON.stringify(line))
          .join("\n"),
      );
    }
  }
}
say(`${machine().cpu}: ${write(results)}`);
