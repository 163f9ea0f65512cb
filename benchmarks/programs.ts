// Parts of the benchmark that are programs of their own, since they need packages that the rest does not: the tokenizer and the peers.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { BenchFlags } from "./bench.ts";
import { type Failure, origin, type PeerResult, root, type TokenizerResult } from "./results.ts";

export interface Programs {
  /** What everything timed is started by. */
  readonly through: readonly string[];
  say(line: string): void;
  tell(what: string): void;
}

/** What a program of ours prints, or why it gives nothing. */
function printed(
  args: readonly string[],
  { through, tell }: Programs,
  seconds: number,
): Promise<{ readonly text: string } | { readonly why: string }> {
  const [program, ...rest] = [...through, process.execPath, "--disable-warning=ExperimentalWarning", ...args];
  const child = spawn(program!, rest, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let [text, errors] = ["", ""];
  child.stdout.on("data", (data: Buffer) => {
    text += data.toString();
  });
  child.stderr.on("data", (data: Buffer) => {
    errors = (errors + data.toString()).slice(-2000);
    tell(data.toString().trim().split("\n").at(-1) ?? "");
  });
  const { promise, resolve } = Promise.withResolvers<{ text: string } | { why: string }>();
  const timer = setTimeout(() => {
    resolve({ why: `It gave no answer within ${seconds.toFixed(0)} s.` });
    child.kill("SIGKILL");
  }, 1000 * seconds);
  child.once("error", (error) => resolve({ why: error.message }));
  child.once("close", (code) =>
    resolve(
      code === 0
        ? { text }
        : {
            why:
              errors
                .trim()
                .split("\n")
                .findLast((line) => /\S/.test(line)) ?? `code ${code}`,
          },
    ),
  );
  return promise.finally(() => clearTimeout(timer));
}

const lines = (text: string): object[] =>
  text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as object);

export async function benchTokenizer(programs: Programs, failures: Failure[]): Promise<TokenizerResult | null> {
  const outcome = await printed([join("tools", "tokenizer", "benchmark.ts"), "--json"], programs, 120);
  if ("why" in outcome) {
    failures.push({ engine: "tokenizer-fast", what: "the tokenizer", kind: "failed", why: outcome.why, ...origin() });
    return null;
  }
  const result = { ...(lines(outcome.text)[0] as Omit<TokenizerResult, "commit" | "date">), ...origin() };
  const different = result.identities.filter((one) => one.different > 0);
  if (different.length > 0) {
    const why = different.map((one) => `${one.different} of ${one.count} ${one.what} differ.`).join(" ");
    failures.push({ engine: "tokenizer-fast", what: "the tokenizer", kind: "disagrees", why, ...origin() });
    return null;
  }
  const fast = result.candidates[0]!;
  programs.say(
    `the fast tokenizer: every id equal, ${fast.thread.toFixed(1)} MB/s, ${result.ratio.toFixed(0)} times @huggingface/tokenizers`,
  );
  return result;
}

/** Other engines beside ours, where they are installed and there is time. */
export async function benchPeers(
  programs: Programs,
  flags: BenchFlags,
  minutes: number,
  failures: Failure[],
): Promise<PeerResult[]> {
  const fail = (kind: Failure["kind"], why: string): PeerResult[] => {
    failures.push({ engine: "peers", what: "other engines", kind, why, ...origin() });
    return [];
  };
  if (!existsSync(join(root, "benchmarks", "peers", "node_modules"))) {
    programs.say("peers: not installed here (benchmarks/peers/README.md)");
    return [];
  }
  if (minutes < 1) return fail("left out", "The time of this run was up; --minutes gives it more.");
  const { models, python, chromium, peers, dtypes } = flags;
  const given = Object.entries({ models, python, chromium, peers, dtypes }).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, value],
  );
  const found: PeerResult[] = [];
  for (const shape of flags.shapes?.split(",") ?? ["60m"]) {
    const { reps = "3" } = flags;
    const args = [join("benchmarks", "peers", "run.mjs"), "--shape", shape, "--threads", "1", "--reps", reps, "--json"];
    const outcome = await printed([...args, ...given], programs, 60 * (minutes + 1));
    if ("why" in outcome) return fail("failed", outcome.why);
    for (const line of lines(outcome.text)) {
      if ("engine" in line) found.push({ ...(line as PeerResult), ...origin() });
      else if ("ratio" in line) programs.say(JSON.stringify(line));
    }
  }
  return found;
}
