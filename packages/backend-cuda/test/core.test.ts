// The same core without Node: the C test runner and Python's ctypes, over the host shim's library.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { builder, withoutShim } from "./shim.ts";

/** Milliseconds that a test may take which compiles what it runs. */
const COMPILES = 600_000;
const python = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);

describe.skipIf(withoutShim !== undefined)(
  `doge.h without Node${withoutShim ? ` (skipped: ${withoutShim})` : ""}`,
  () => {
    test(
      "the C test runner's checks hold",
      () => {
        const { stdout, stderr, status } = spawnSync(builder.buildRunner({ shim: true }), ["check", "small"], {
          encoding: "utf8",
        });
        expect(stderr).toBe("");
        expect(stdout).not.toContain("FAIL");
        expect(stdout).toMatch(/\n0 failed\n$/);
        expect(status).toBe(0);
      },
      COMPILES,
    );

    test(
      "every form of the matmul for many rows is what the plain kernel is",
      () => {
        const { stdout, status } = spawnSync(builder.buildRunner({ shim: true }), ["tiles", "small"], {
          encoding: "utf8",
        });
        expect(stdout).not.toMatch(/FAIL|skip/);
        expect(stdout.match(/^ok /gm)).toHaveLength(28);
        expect(status).toBe(0);
      },
      COMPILES,
    );

    test(
      "every product by warpgroups is exact, and the attention of a prompt in half precision what the plain kernel is",
      () => {
        const { stdout, stderr, status } = spawnSync(builder.buildRunner({ shim: true }), ["attention", "small"], {
          encoding: "utf8",
        });
        expect(stderr).toBe("");
        expect(stdout).not.toContain("FAIL");
        expect(stdout.match(/^ok /gm)).toHaveLength(16);
        expect(status).toBe(0);
      },
      COMPILES,
    );

    test(
      "the C test runner refuses what it does not know, and times nothing under another name",
      () => {
        const runner = builder.buildRunner({ shim: true });
        const said = (...args: string[]) => {
          const { status, stdout, stderr } = spawnSync(runner, args, { encoding: "utf8" });
          return [status, stdout, stderr];
        };
        const dtype = "There is no dtype f16: use f32, bf16 or q8.\n";
        expect(said("time", "tiny", "f16")).toEqual([1, "", dtype]);
        expect(said("profile", "tiny", "f16")).toEqual([1, "", dtype]);
        expect(said("time", "5M", "f32")).toEqual([1, "", expect.stringMatching(/^There is no size 5M: use 20M/)]);
        expect(said("sing")).toEqual([1, "", expect.stringMatching(/^Use: doge_runner check/)]);
      },
      COMPILES,
    );

    test.skipIf(python === undefined)(
      `the check by Python says what it needs${python ? "" : " (skipped: there is no Python)"}`,
      () => {
        const script = fileURLToPath(new URL("../scripts/check.py", import.meta.url));
        for (const args of [[], ["/nowhere/libdoge.so"]]) {
          const { status, stderr } = spawnSync(python!, [script, ...args], { encoding: "utf8" });
          expect([status, stderr]).toEqual([
            1,
            expect.stringMatching(/^Use: check\.py LIBRARY.*command library\)\.\n$/),
          ]);
        }
      },
    );

    test.skipIf(python === undefined).each(["1", "0"])(
      `goldens through Python's ctypes, DOGE_HALVES=%s${python ? "" : " (skipped: there is no Python)"}`,
      (halves) => {
        const script = fileURLToPath(new URL("../scripts/check.py", import.meta.url));
        const { stdout, stderr, status } = spawnSync(python!, [script, builder.buildShim("library")], {
          encoding: "utf8",
          env: { ...process.env, DOGE_HALVES: halves },
        });
        expect(stderr).toBe("");
        expect(stdout).not.toContain("FAIL");
        expect(stdout).toMatch(/\n18 passed, 0 failed\n$/);
        expect(status).toBe(0);
      },
      COMPILES,
    );
  },
);
