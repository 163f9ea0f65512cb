// The list of what a package may hold refuses what is not on it, and misses what should be there.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { assertContents } from "./packages/contents.ts";
import type { Manifest } from "./packages/pack.ts";
import { root } from "./packages/steps.ts";

let place: string;
beforeAll(() => {
  place = mkdtempSync(join(tmpdir(), "doge-contents-"));
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

const good: Manifest = {
  ...{ name: "@doge-lm/reference", version: "1.2.3", license: "Apache-2.0", engines: { node: ">=22.18" } },
  ...{
    publishConfig: { access: "public", provenance: true },
    dependencies: { "@doge-lm/core": "1.2.3", other: "4.5.6" },
  },
};

/** What is said of a package with these files beside those that every one has; src/index.ts and src/index.test.ts are its sources. */
function said(files: readonly string[], manifest: Manifest = good, without?: string): string {
  const source = mkdtempSync(join(place, "source-"));
  const folder = mkdtempSync(join(place, "packed-"));
  const put = (at: string, file: string) => {
    mkdirSync(join(at, file, ".."), { recursive: true });
    writeFileSync(join(at, file), "x");
  };
  for (const file of ["src/index.ts", "src/index.test.ts"]) put(source, file);
  for (const file of ["README.md", "package.json", "dist/index.js", "dist/index.d.ts", ...files]) put(folder, file);
  cpSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  if (without !== undefined) rmSync(join(folder, without));
  try {
    assertContents({ source, folder, manifest });
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

test("compiled sources with their types, README, LICENSE and package.json are all there is", () => {
  expect(said([])).toBe("");
  for (const file of [
    "src/index.ts",
    "dist/index.test.js",
    "dist/left-over.js",
    "dist/index.js.map",
    "test/a.json",
    ".npmrc",
  ]) {
    expect(said([file])).toContain(`${file} does not belong into it`);
  }
  expect(said([], good, "README.md")).toContain("README.md is missing");
  expect(said([], good, "dist/index.d.ts")).toContain("dist/index.js has no types");
});

test("what a package needs by name must be there", () => {
  const tokenizer = { ...good, name: "@doge-lm/tokenizer-fast" };
  expect(said(["wasm/tokenizer.wasm", "types/binary.d.ts"], tokenizer)).toBe("");
  expect(said(["types/binary.d.ts"], tokenizer)).toMatch(/nothing is like .*tokenizer/);
});

test("the manifest has the licence, public access with provenance, and exact versions", () => {
  expect(said([], { ...good, license: "MIT" })).toContain("licence is MIT");
  expect(said([], { ...good, publishConfig: { access: "public" } })).toContain("provenance");
  expect(said([], { ...good, dependencies: { "@doge-lm/core": "1.2.2" } })).toContain("not on its own version");
  expect(said([], { ...good, dependencies: { other: "^4.5.6" } })).toContain("no exact version");
  expect(said([], { ...good, engines: { node: ">=20" } })).toContain("Node >=20");
});
