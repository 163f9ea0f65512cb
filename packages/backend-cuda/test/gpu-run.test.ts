// The one command of a GPU run, every path of it, where there is no GPU: the host shim stands for the compiled core, and small
// programs for the driver's tools. What a first hour on a GPU must not be lost to is a misspelt name.
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

describe.skipIf(without !== undefined)(`gpu-run.sh${without === undefined ? "" : ` (skipped: ${without})`}`, () => {
  let folder: string;
  let tools: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "doge-gpu-run-"));
    const there = join(folder, "packages", "backend-cuda");
    tools = join(folder, "tools");
    for (const path of [join(there, "build"), tools, join(folder, ".gpu")]) mkdirSync(path, { recursive: true });
    cpSync(join(own, "scripts"), join(there, "scripts"), { recursive: true });
    cpSync(join(own, "..", "conformance", "fixtures"), join(folder, "packages", "conformance", "fixtures"), {
      recursive: true,
    });
    const library = builder.buildShim("library");
    // The runner knows the shim's library by its name; packed files come from .gpu, as on the other machine.
    copyFileSync(library, join(there, "build", "libdoge_shim.so"));
    copyFileSync(library, join(folder, ".gpu", "libdoge_cuda.so"));
    const runner = join(folder, "runner");
    copyFileSync(builder.buildRunner({ shim: true }), runner);
    // What the runner checks holds by core.test.ts: here it is only asked for that, with these words, and times in earnest.
    tool(
      "doge_runner",
      `case "$1" in check|tiles|attention) echo "asked for $*\${DOGE_CLUSTERS:+ by clusters}";; *) exec "${runner}" "$@";; esac`,
      join(folder, ".gpu"),
    );
    copyFileSync(builder.buildShim(), join(folder, ".gpu", "doge_cuda.node"));
    // A packed Node that says how it was called.
    execFileSync("python3", [
      "-c",
      `import lzma; lzma.open(${JSON.stringify(join(folder, ".gpu", "node.xz"))}, "wb").write(b"#!/bin/sh\\necho called with $*\\n")`,
    ]);
    tool("nvidia-smi", 'echo "name, compute_cap"; echo "NVIDIA H200 (none), 9.0"');
    tool(
      "compute-sanitizer",
      // Runs what it was given once: under its first tool.
      'echo "$*"; [ "$2" = memcheck ] || exit 0; while [ "$1" != build/doge_runner ]; do shift; done; exec "$@"',
    );
  }, 1_500_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function tool(name: string, body: string, place = tools): void {
    writeFileSync(join(place, name), `#!/bin/bash\n${body}\n`);
    chmodSync(join(place, name), 0o755);
  }
  function run(...sizes: string[]) {
    const script = join(folder, "packages", "backend-cuda", "scripts", "gpu-run.sh");
    const env = {
      ...process.env,
      PATH: `${tools}:${process.env.PATH}`,
      OUT: join(folder, "out"),
      RATE_BYTES: "65536",
      CHECK: "small",
      TIMES: "1",
    };
    return spawnSync("bash", [script, ...sizes], { encoding: "utf8", env });
  }

  test("builds nothing that was packed, checks, sanitizes, times, and ends in one table", () => {
    const { stdout, stderr, status } = run("tiny");
    expect(stderr).toBe("");
    expect(stdout).not.toContain("FAIL");
    expect(status).toBe(0);
    expect(stdout).toMatch(/\n0 failed\n$/);
    for (const step of [
      "properties",
      "properties by clusters",
      "goldens",
      "conformance through Node",
      "conformance by clusters",
      "agreement",
      "ceilings",
      "times tiny f32",
      "times tiny bf16",
      "times tiny q8",
      "ring of 3 units tiny",
      "clusters 1 tiny",
      "launches apart tiny",
    ])
      expect(stdout).toContain(`ok   ${step}\n`);
    for (const [step, command] of [
      ["products and attention", "attention"],
      ["forms of the matmul", "tiles"],
      ["properties", "check"],
    ])
      expect(stdout).toContain(`\n== ${step}\nasked for ${command} small\nok   ${step}\n`);
    expect(stdout).toContain("\n== properties by clusters\nasked for check small by clusters\nok ");
    expect(stdout).toMatch(/== compute-sanitizer memcheck\n.*\nasked for check small\nok /);
    for (const name of ["memcheck", "racecheck", "initcheck", "synccheck"]) {
      expect(stdout).toContain(`--tool ${name} --error-exitcode 9 --print-limit 20`);
    }
    // Two heads, and eight processors; what each drew follows.
    expect(stdout).toMatch(/one row decodes by 2 clusters of 4 blocks\.\n.*"decode, 1 row/);
    expect(stdout).toMatch(/called with .*conformance\.mjs .*doge_cuda\.node .*fixtures\n/);
    expect(stdout).toMatch(/called with .*agreement\.mjs --only cuda --out .*\/out\/agreement\n/);
    const table = readFileSync(join(folder, "out", "table.md"), "utf8");
    expect(table).toMatch(
      /^NVIDIA H200 \(none\), 9\.0\nceilings, measured here: \S+ GB\/s, \S+ TFLOP\/s of bf16 on tensor cores\n\n/,
    );
    // Three measurements and a nearness for each dtype, every row as wide as the head.
    const rows = table.trim().split("\n").slice(3);
    expect(rows.length).toBe(2 + 3 * 4);
    for (const row of rows) expect(row.split("|").length).toBe(11);
    expect(table).toMatch(
      /\| tiny \| bf16 \| decode, 1 row, context 8 to 24 \| [\d.]+ \| [\d.]+ \| \d+ \| \S+ GB\/s \| [\d.]+ % \| \w{8} \|/,
    );
    expect(table).toMatch(/\| tiny \| q8 \| prefill, 1 prompt of 80 \| .* TFLOP\/s \| [\d.]+ % \|/);
    expect(table).toMatch(/\| tiny \| f32 \| nearness to f32 \| \| \| \| KL 0 \| 100 % same token \| \|/);
    // The same greedy text under f32 by every run of it.
    expect(
      readFileSync(join(folder, "out", "times.jsonl"), "utf8")
        .trim()
        .split("\n").length,
    ).toBe(12);
  }, 1_500_000);

  test("a step that fails is counted, the others still run", () => {
    tool("compute-sanitizer", "echo a race; exit 9");
    // The goldens held above.
    tool("python3", `[ "$1" != scripts/check.py ] || exit 0; export PATH="\${PATH#*:}"; exec python3 "$@"`);
    const { stdout, status } = run("tiny-but-unknown");
    expect(status).toBe(1);
    expect(stdout).toContain("FAIL compute-sanitizer racecheck");
    expect(stdout).toContain("There is no size tiny-but-unknown");
    expect(stdout).toMatch(/\n11 failed\n$/);
  }, 1_500_000);

  test("without a GPU it says so and stops", () => {
    tool("nvidia-smi", 'echo "NVIDIA-SMI has failed"; exit 9');
    const { stdout, status } = run("tiny");
    expect(status).toBe(1);
    expect(stdout).toMatch(/There is no NVIDIA GPU here: nothing to run\.\n$/);
  });

  test.skipIf(!has(linter))(`shellcheck${has(linter) ? "" : " (skipped: it is not here)"}`, () => {
    const { stdout } = spawnSync(linter, [join(own, "scripts", "gpu-run.sh")], { encoding: "utf8" });
    expect(stdout).toBe("");
  });
});
