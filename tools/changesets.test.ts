// Changesets that the release can read: one that it cannot is found when it is written, not when a version is to go out.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "./packages/steps.ts";

const folder = join(root, ".changeset");
const packages = readdirSync(join(root, "packages"))
  .map((name) => join(root, "packages", name, "package.json"))
  .concat(join(root, "apps", "cli", "package.json"))
  .map((path) => (JSON.parse(readFileSync(path, "utf8")) as { name: string }).name);

test.each(readdirSync(folder).filter((name) => name.endsWith(".md") && name !== "README.md"))("%s", (name) => {
  const [, head, text] =
    /^---\n((?:"[^"\n]+": \w+\n)+)---\n\n(\S.*)$/s.exec(readFileSync(join(folder, name), "utf8")) ?? [];
  expect(head, "packages and their steps between two lines of ---, then the text").toBeDefined();
  for (const [, changed, step] of head!.matchAll(/"([^"]+)": (\w+)/g)) {
    expect(packages).toContain(changed);
    expect(["major", "minor", "patch"]).toContain(step);
  }
  expect(text!.trim()).toMatch(/\.$/);
});
