// What scripts/build.mjs makes of its arguments, and of an nvcc that does not work. The nvcc here is a script that notes that it was called.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const script = fileURLToPath(new URL("../scripts/build.mjs", import.meta.url));

describe.skipIf(process.platform === "win32")("build.mjs", () => {
  let home: string;
  let called: string;
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), "doge-cuda-"));
    called = join(home, "called");
    mkdirSync(join(home, "bin"));
    const nvcc = join(home, "bin", "nvcc");
    writeFileSync(nvcc, `#!/bin/sh\ntouch ${called}\necho "nvcc fatal: broken" >&2\nexit 3\n`);
    chmodSync(nvcc, 0o755);
  });
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  function build(...args: string[]) {
    rmSync(called, { force: true });
    const options = { encoding: "utf8", env: { ...process.env, CUDA_HOME: home } } as const;
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], options);
    return { status, stdout, stderr, compiled: existsSync(called) };
  }

  test("--help says what there is, and builds nothing", () => {
    const { status, stdout, stderr, compiled } = build("--help");
    expect([status, stderr, compiled]).toEqual([0, "", false]);
    for (const word of ["shim", "release", "resources", "runner", "--arch", "--if-possible", "--bring"]) {
      expect(stdout).toContain(word);
    }
    expect(stdout).not.toContain("//");
  });

  test.each([
    [["build", "--nosuch"], /Unknown option '--nosuch'.*See --help\./],
    [["build", "--arch"], /'--arch <value>' argument missing\. See --help\./],
    [["build", "--arch", "hopper"], /--arch takes compute capabilities, such as 90a or 80,86: "hopper" is none\./],
    [["build", "--arch=80,"], /"" is none\./],
    [["build", "runner"], /One command at a time, not build and runner\./],
    [["frobnicate"], /Unknown command "frobnicate": use build/],
  ])("%s is refused before anything is compiled", (args, said) => {
    const { status, stderr, compiled } = build(...args);
    expect(stderr).toMatch(said);
    expect([status, compiled]).toEqual([1, false]);
  });

  test("an nvcc that fails fails the build, with its words, --if-possible or not", () => {
    for (const more of [[], ["--if-possible"]]) {
      const { status, stderr, compiled } = build("build", "--arch=90", ...more);
      expect([status, compiled]).toEqual([1, true]);
      expect(stderr).toMatch(/nvcc fatal: broken\n.*nvcc failed \(3\)\. See its messages above\./);
    }
  });
});
