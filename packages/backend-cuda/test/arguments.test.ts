// Mistakes of a caller of doge.h, which has no TypeScript before it: each is an answer with a code, and none of them is a crash, a lost
// device or a changed sequence.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { builder, withoutShim } from "./shim.ts";

/** Milliseconds that a test may take which compiles what it runs. */
const COMPILES = 600_000;
/** Where the code is not "invalid-argument". */
const OTHERS: Record<string, string> = {
  "fewer experts than pairs of keys": "config-invalid",
  "no expert a token": "config-invalid",
  "a draw behind an id outside": "invalid-token",
};

describe.skipIf(withoutShim !== undefined)(
  `doge.h used wrongly${withoutShim ? ` (skipped: ${withoutShim})` : ""}`,
  () => {
    test(
      "every mistake has its code, and good calls come after them",
      () => {
        const library = builder.buildShim("library");
        const folder = mkdtempSync(join(tmpdir(), "doge-cuda-"));
        try {
          const source = fileURLToPath(new URL("arguments.cc", import.meta.url));
          const program = join(folder, "arguments");
          execFileSync(builder.compiler()!, [
            "-std=c++17",
            source,
            library,
            `-Wl,-rpath,${dirname(library)}`,
            "-o",
            program,
          ]);
          const { stdout, stderr, status } = spawnSync(program, { encoding: "utf8" });
          expect(stderr).toBe("");
          expect(status).toBe(0);
          const lines = stdout.trim().split("\n");
          const mistakes = lines.slice(0, -4).map((line) => line.split(": "));
          expect(mistakes.length).toBeGreaterThan(50);
          for (const [what, code] of mistakes)
            expect([what, code]).toEqual([what, OTHERS[what!] ?? "invalid-argument"]);
          expect(lines.slice(-4)).toEqual([
            "0 tokens, 256 of room",
            "a long name ends with x.",
            "a good call: taken",
            "a score of nothing, into nothing: taken",
          ]);
        } finally {
          rmSync(folder, { recursive: true, force: true });
        }
      },
      COMPILES,
    );
  },
);
