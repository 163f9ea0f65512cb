// The one command of a GPU run, every path of it, where there is no GPU: the host shim stands for the compiled core, and small
// programs for the driver's tools. What a first hour on a GPU must not be lost to is a misspelt name.
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { builder, withoutShim } from "./shim.ts";

const own = fileURLToPath(new URL("..", import.meta.url));
const linter = "shellcheck";
const has = (name: string): boolean => spawnSync(name, ["--version"]).status === 0;
const without =
  withoutShim ??
  (process.platform !== "linux" ? "the script is for Linux" : undefined) ??
  ["bash", "python3"].filter((name) => !has(name)).map((name) => `there is no ${name}`)[0];

/** A runner in a few lines of shell: checks that pass, by clusters where they are asked for, and times that are made up. */
const DECODES = "doge-cuda: one row decodes by 2 clusters of 4 blocks.";
const checks = `check|tiles|attention)
  echo "asked for $*\${DOGE_CLUSTERS:+ by clusters}\${DOGE_FILL:+ filled}"
  [ -z "$DOGE_CLUSTERS" ] || echo "\${SAID-${DECODES}}";;`;
const line = (what: string) =>
  `{"size":"tiny","dtype":"'$3'","what":"${what}","ms":1,"spreadMs":0,"tokensPerSecond":1000,"runs":1,"hash":"00000000"}`;
const times = `time)
  [ -z "$DOGE_CLUSTERS" ] || echo "\${SAID-${DECODES}}" >&2
  for what in "decode, 1 row, context 8 to 24" "prefill, 1 prompt of 80" "decode, 5 rows, context 8 to 10"; do
    echo '${line("'\"$what\"'")}'
  done;;
rates) echo '{"bytes":1,"bytesPerSecond":1e9,"macsPerSecond":1e9,"tensorMacsPerSecond":1e9}';;`;
const made = (first = "") => `case "$1" in ${first} ${checks} ${times} esac`;

const SANITIZERS = ["memcheck", "synccheck", "initcheck", "racecheck"].map((name) => `compute-sanitizer ${name}`);
const BASIS = ["products and attention", "forms of the matmul", "properties", "properties by clusters"];
const TIMES = [
  "ceilings",
  "times tiny f32",
  "times tiny bf16",
  "times tiny q8",
  "ring of 3 units tiny",
  "clusters 1 tiny",
  "clusters 8 tiny",
  "launches apart tiny",
];
const REST = ["goldens", "unpacking of Node", "agreement", "conformance through Node", "conformance by clusters"];

describe.skipIf(without !== undefined)(`gpu-run.sh${without === undefined ? "" : ` (skipped: ${without})`}`, () => {
  let folder: string;
  let tools: string;
  let build: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "doge-gpu-run-"));
    const there = join(folder, "packages", "backend-cuda");
    [tools, build] = [join(folder, "tools"), join(there, "build")];
    for (const path of [build, tools, join(folder, ".gpu")]) mkdirSync(path, { recursive: true });
    cpSync(join(own, "scripts"), join(there, "scripts"), { recursive: true });
    cpSync(join(own, "..", "conformance", "fixtures"), join(folder, "packages", "conformance", "fixtures"), {
      recursive: true,
    });
    const library = builder.buildShim("library");
    // The runner knows the shim's library by its name; packed files come from .gpu, as on the other machine.
    copyFileSync(library, join(build, "libdoge_shim.so"));
    copyFileSync(library, join(folder, ".gpu", "libdoge_cuda.so"));
    const runner = join(folder, "runner");
    copyFileSync(builder.buildRunner({ shim: true }), runner);
    // What the runner checks holds by core.test.ts: here it is only asked for that, with these words, and times in earnest.
    pack(`case "$1" in ${checks} *) exec "${runner}" "$@";; esac`);
    copyFileSync(builder.buildShim(), join(folder, ".gpu", "doge_cuda.node"));
    // What an earlier call left, of other sources.
    for (const name of ["libdoge_cuda.so", "doge_runner", "doge_cuda.node"]) writeFileSync(join(build, name), "stale");
    // A packed Node that says how it was called.
    execFileSync("python3", [
      "-c",
      `import lzma; lzma.open(${JSON.stringify(join(folder, ".gpu", "node.xz"))}, "wb").write(b"#!/bin/sh\\necho called with $*\\n")`,
    ]);
    device("9.0");
    tool(
      "compute-sanitizer",
      // Runs what it was given under two of its tools.
      'echo "$*"; case $2 in memcheck|initcheck) while [ "$1" != build/doge_runner ]; do shift; done; exec "$@";; esac',
    );
  }, 1_500_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function tool(name: string, body: string, place = tools): void {
    writeFileSync(join(place, name), `#!/bin/bash\n${body}\n`);
    chmodSync(join(place, name), 0o755);
  }
  const pack = (body: string) => tool("doge_runner", body, join(folder, ".gpu"));
  const device = (capability: string) =>
    tool(
      "nvidia-smi",
      `case $* in *noheader*) echo ${capability};; *) echo "name, compute_cap"; echo "NVIDIA H200 (none), ${capability}";; esac`,
    );
  const goldensHold = () =>
    tool("python3", `[ "$1" != scripts/check.py ] || exit 0; export PATH="\${PATH#*:}"; exec python3 "$@"`);
  const out = (name: string) => readFileSync(join(folder, "out", name), "utf8");
  function run(args: string[], more: Record<string, string> = {}) {
    const script = join(folder, "packages", "backend-cuda", "scripts", "gpu-run.sh");
    const env = {
      ...process.env,
      PATH: `${tools}:${process.env.PATH}`,
      OUT: join(folder, "out"),
      RATE_BYTES: "65536",
      CHECK: "small",
      TIMES: "1",
      ...more,
    };
    const { stdout, stderr, status } = spawnSync("bash", [script, ...args], { encoding: "utf8", env });
    /** Names of the steps with such a mark, in their order. */
    const steps = (mark: RegExp) => [...stdout.matchAll(mark)].map(([, name]) => name);
    return {
      stdout,
      stderr,
      status,
      begun: steps(/^== (.*) \(at /gm),
      passed: steps(/^ok {3}(.*) \(/gm),
      failed: steps(/^FAIL (.*) \(/gm),
    };
  }

  test("takes what was packed, checks, times, writes one table, sanitizes last, and leaves few files", () => {
    const { stdout, stderr, status, begun, passed } = run(["tiny"]);
    expect(stderr).toBe("");
    expect(stdout).not.toContain("FAIL");
    expect(status).toBe(0);
    expect(begun).toEqual([...BASIS, ...TIMES, ...REST, ...SANITIZERS]);
    expect(passed).toEqual(begun);
    expect(stdout).toMatch(/\n21 passed, 0 failed, 0 skipped, in \d+ s\n$/);
    expect(out("log.txt")).toBe(stdout);
    // Few files, which are all that some machines give back; the agreement's comes besides.
    expect(readdirSync(join(folder, "out")).sort()).toEqual([
      "log.txt",
      "machine.csv",
      "rates.json",
      "table.md",
      "times.jsonl",
    ]);
    for (const name of ["libdoge_cuda.so", "doge_runner", "doge_cuda.node"])
      expect(readFileSync(join(build, name)).equals(readFileSync(join(folder, ".gpu", name))), name).toBe(true);
    for (const [step, command] of [
      ["products and attention", "attention"],
      ["forms of the matmul", "tiles"],
      ["properties", "check"],
    ])
      expect(stdout).toMatch(
        new RegExp(
          `\n== ${step} \\(at \\d+ s, at most \\d+ s\\)\nasked for ${command} small\nok {3}${step} \\(\\d+ s\\)\n`,
        ),
      );
    expect(stdout).toContain(`\nasked for check small by clusters\n${DECODES}\nok   properties by clusters `);
    expect(stdout).toMatch(/== compute-sanitizer memcheck .*\n.*\nasked for check small\nok /);
    // Pages are filled for the one tool that asks where numbers come from.
    expect(stdout).toMatch(/== compute-sanitizer initcheck .*\n.*\nasked for check small filled\nok /);
    for (const name of ["memcheck", "racecheck", "initcheck", "synccheck"]) {
      expect(stdout).toContain(`--tool ${name} --error-exitcode 9 --print-limit 20`);
    }
    // Two heads, and eight processors; what each drew follows.
    expect(stdout).toMatch(/one row decodes by 2 clusters of 4 blocks\.\n.*"decode, 1 row/);
    expect(stdout).toMatch(/called with .*conformance\.mjs .*doge_cuda\.node .*fixtures\n/);
    expect(stdout).toMatch(/called with .*agreement\.mjs --only cuda --out .*\/out\/agreement\n/);
    const table = out("table.md");
    expect(table).toMatch(
      /^NVIDIA H200 \(none\), 9\.0\nceilings, measured here: \S+ GB\/s, \S+ TFLOP\/s of bf16 on tensor cores\n\n/,
    );
    // Five measurements and a nearness for each dtype, every row as wide as the head.
    const rows = table.trim().split("\n").slice(3);
    expect(rows.length).toBe(2 + 3 * 6);
    for (const row of rows) expect(row.split("|").length).toBe(11);
    expect(table).toMatch(
      /\| tiny \| bf16 \| decode, 1 row, context 8 to 24 \| [\d.]+ \| [\d.]+ \| \d+ \| \S+ GB\/s \| [\d.]+ % \| \w{8} \|/,
    );
    expect(table).toMatch(/\| tiny \| q8 \| sampled, 1 row, topK 50, topP 0\.9, context 8 to 24 \|/);
    expect(table).toMatch(/\| tiny \| q8 \| decode, 18 rows, context 24 to 27 \|/);
    expect(table).toMatch(/\| tiny \| q8 \| prefill, 1 prompt of 80 \| .* TFLOP\/s \| [\d.]+ % \|/);
    expect(table).toMatch(/\| tiny \| f32 \| nearness to f32 \| \| \| \| KL 0 \| 100 % same token \| \|/);
    // The same greedy text under f32 by every run of it.
    expect(out("times.jsonl").trim().split("\n").length).toBe(18);
  }, 1_500_000);

  test("a step that fails is counted, the others still run; with --sanitize the sanitizers are first", () => {
    goldensHold();
    tool("compute-sanitizer", "echo a race; exit 9");
    const { stdout, status, begun, failed } = run(["--sanitize", "tiny-but-unknown"]);
    expect(status).toBe(1);
    expect(begun).toEqual([
      ...SANITIZERS,
      ...BASIS,
      ...TIMES.map((name) => name.replace("tiny", "tiny-but-unknown")),
      ...REST,
    ]);
    expect(failed.slice(0, 4)).toEqual(SANITIZERS);
    expect(stdout).toContain("There is no size tiny-but-unknown");
    expect(stdout).toMatch(/\n10 passed, 11 failed, 0 skipped, in \d+ s\n$/);
    tool("compute-sanitizer", "exit 0");
  }, 1_500_000);

  test("what no longer fits into the seconds is skipped, not passed; the table of what was before is there", () => {
    // Also the library and the runner of the call before are not taken for those of this one.
    pack(made(`tiles) sleep 60;; time) [ ! -e "$OUT/table.md" ] || cp "$OUT/table.md" "${folder}/seen.md";;&`));
    const { stdout, status, begun, passed } = run(["--seconds", "6", "tiny"]);
    expect(status).toBe(0);
    expect(begun).toEqual(BASIS.slice(0, 2));
    expect(passed).toEqual(BASIS.slice(0, 1));
    expect(stdout).toContain("\nskip forms of the matmul: not at its end when the 6 seconds were over\n");
    expect(stdout).toContain("\nskip properties: the 6 seconds are over\n");
    expect(stdout).toContain(
      "\nskip times tiny q8: a check above did not pass, and a time of wrong results says nothing\n",
    );
    expect(stdout).toContain("\nskip compute-sanitizer racecheck: the 6 seconds are over\n");
    expect(stdout).toMatch(/\n1 passed, 0 failed, 20 skipped, in \d+ s\n$/);
    pack(made(`time) [ ! -e "$OUT/table.md" ] || cp "$OUT/table.md" "${folder}/seen.md";;&`));
    expect(run(["tiny", "next"]).status).toBe(0);
    // While the second size was timed.
    const seen = readFileSync(join(folder, "seen.md"), "utf8");
    expect(seen).toContain("| tiny | q8 | prefill");
  }, 100_000);

  test("a time of wrong results is not taken", () => {
    pack(made("tiles) exit 1;;"));
    const { stdout, status, begun, failed } = run(["tiny"]);
    expect(status).toBe(1);
    expect(failed).toEqual(["forms of the matmul"]);
    expect(begun).toEqual([...BASIS.slice(0, 3), ...REST.slice(0, 4), ...SANITIZERS]);
    expect(stdout).toContain("\nskip ceilings: a check above did not pass, and a time of wrong results says nothing\n");
    expect(stdout).toMatch(/\n10 passed, 1 failed, 10 skipped, in \d+ s\n$/);
  }, 100_000);

  test.each([
    ["nothing", ""],
    ["that they are refused", `${DECODES}\ndoge-cuda: the driver refuses clusters.`],
    ["that none fit", "doge-cuda: one row does not decode by clusters: the device has no room for 8."],
  ])("properties by clusters fail where the log says %s of them, and what compares them is skipped", (_, said) => {
    pack(made());
    const { stdout, status, failed, passed } = run(["tiny"], { SAID: said });
    expect(status).toBe(1);
    expect(failed).toEqual(["properties by clusters"]);
    expect(stdout).toContain("\nNo cluster was taken: what doge-cuda says above is why.\nFAIL properties by clusters ");
    for (const name of ["clusters 1 tiny", "clusters 8 tiny", "conformance by clusters"])
      expect(stdout).toContain(`\nskip ${name}: properties by clusters did not pass\n`);
    expect(passed).toContain("launches apart tiny");
  });

  test("a comparison by clusters fails where its own model took none", () => {
    pack(made(`time) [ "$DOGE_CLUSTERS" != 8 ] || SAID="doge-cuda: one row does not decode by clusters";;&`));
    expect(run(["tiny"]).failed).toEqual(["clusters 8 tiny"]);
  });

  test("a device that has no clusters skips them with words", () => {
    pack(made());
    device("8.0");
    const { stdout, status } = run(["tiny"]);
    device("9.0");
    expect(status).toBe(0);
    expect(stdout).toContain("\nskip properties by clusters: clusters are for compute capability 9.0 alone\n");
    expect(stdout).toMatch(/\n17 passed, 0 failed, 4 skipped, in \d+ s\n$/);
  });

  test("arguments that it does not know, and how it is used", () => {
    for (const args of [["--seconds"], ["--seconds", "1.5"], ["--fast"]]) {
      const { stdout, status } = run(args);
      expect(status).toBe(2);
      expect(stdout).toMatch(/^Use: gpu-run\.sh \[--seconds N\]/);
    }
    const { stdout, status } = run(["--help"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Everything that only a GPU can tell[^#]*--sanitize[^#]*RATE_BYTES/);
  });

  test("without a GPU it says so and stops", () => {
    tool("nvidia-smi", 'echo "NVIDIA-SMI has failed"; exit 9');
    const { stdout, status } = run(["tiny"]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/There is no NVIDIA GPU here: nothing to run\.\n$/);
  });

  test.skipIf(!has(linter))(`shellcheck${has(linter) ? "" : " (skipped: it is not here)"}`, () => {
    const { stdout } = spawnSync(linter, [join(own, "scripts", "gpu-run.sh")], { encoding: "utf8" });
    expect(stdout).toBe("");
  });
});
