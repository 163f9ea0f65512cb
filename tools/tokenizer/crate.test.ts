// The crate's own tests, where there is Rust, and the hash that tells when its binary is stale.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { hashOfSources } from "./sources.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const crate = join(root, "packages", "tokenizer-fast", "crate");
const cargo = spawnSync("cargo", ["--version"]).status === 0;

describe.runIf(cargo)(`the tokenizer's crate${cargo ? "" : " (skipped: there is no cargo)"}`, () => {
  test("passes its own tests", { timeout: 900_000 }, () => {
    const env = { ...process.env, CARGO_TARGET_DIR: join(root, ".cache", "cargo"), NO_COLOR: "1" };
    const { status, stdout, stderr } = spawnSync("cargo", ["test", "--locked", "--lib"], {
      cwd: crate,
      env,
      encoding: "utf8",
    });
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toMatch(/test result: ok\. [1-9]\d* passed; 0 failed/);
  });
});

test("a change of the sources shows, one of line ends alone does not", () => {
  const copy = mkdtempSync(join(tmpdir(), "doge-crate-"));
  try {
    cpSync(crate, copy, { recursive: true });
    const before = hashOfSources(copy);
    expect(before).toBe(hashOfSources(crate));
    for (const name of ["Cargo.lock", "src/lib.rs"]) {
      const content = readFileSync(join(copy, name), "utf8");
      writeFileSync(join(copy, name), content.replaceAll("\n", "\r\n"));
      expect(hashOfSources(copy)).toBe(before);
      writeFileSync(join(copy, name), `${content} `);
      expect(hashOfSources(copy)).not.toBe(before);
      writeFileSync(join(copy, name), content);
    }
    writeFileSync(join(copy, "src", "new.rs"), "");
    expect(hashOfSources(copy)).not.toBe(before);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});
