// A release's parts: what changesets say, versions and changelog in a copy of the workspace, and what keeps a job from publishing.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { root } from "./packages/steps.ts";
import { parseChangeset, readChangesets, section } from "./release/changesets.ts";
import { obstacles, publish } from "./release/publish.ts";
import { stampRepository } from "./release/repository.ts";
import { version } from "./release/version.ts";
import { CHANGELOG, copyWorkspace, published, UPGRADING, VERSION } from "./release/workspace.ts";

let copy: string;
beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), "doge-release-test-"));
});
afterAll(() => rmSync(copy, { recursive: true, force: true }));

/** A copy of the workspace with these changesets alone. */
function workspace(changesets: Record<string, string>): string {
  const folder = mkdtempSync(join(copy, "workspace-"));
  copyWorkspace(root, folder);
  const at = join(folder, ".changeset");
  for (const name of readdirSync(at)) if (name.endsWith(".md")) rmSync(join(at, name));
  for (const [name, text] of Object.entries(changesets)) writeFileSync(join(at, name), text);
  return folder;
}
const changeset = (packages: Record<string, string>, text: string): string =>
  `---\n${Object.entries(packages)
    .map(([name, bump]) => `"${name}": ${bump}`)
    .join("\n")}\n---\n\n${text}\n`;
const read = (folder: string, file: string): string => readFileSync(join(folder, file), "utf8");

describe("changesets", () => {
  test("those of this checkout are some, and name published packages", () => {
    const names = Array.from(published(root).values(), ({ name }) => name);
    for (const { packages } of readChangesets(join(root, ".changeset"))) {
      for (const name of packages.keys()) expect(names).toContain(name);
    }
  });

  test.each([
    ["no front matter", "Just a text."],
    ["a heading in its place", '---\n\n## "@doge-lm/core": minor\n\nText.\n'],
    ["an unknown bump", '---\n"@doge-lm/core": huge\n---\n\nText.\n'],
    ["no text", '---\n"@doge-lm/core": minor\n---\n\n'],
  ])("%s is refused by name", (_, content) => {
    expect(() => parseChangeset("odd.md", content)).toThrow(".changeset/odd.md");
  });

  test("become one section, the largest changes first", () => {
    const [a, b] = [
      parseChangeset("a.md", changeset({ "@doge-lm/wasm": "patch" }, "A repair.")),
      parseChangeset(
        "b.md",
        changeset({ "@doge-lm/core": "minor", "@doge-lm/cli": "patch" }, "A thing.\nIn two lines."),
      ),
    ];
    expect(section("1.2.0", [a, b])).toBe(
      "## 1.2.0\n\n- **cli, core**: A thing.\n  In two lines.\n- **wasm**: A repair.\n",
    );
  });
});

describe("versions", () => {
  test("are one for all packages; the newest section stands first, and a second release follows", () => {
    const folder = workspace({ "one.md": changeset({ "@doge-lm/wasm": "minor" }, "The first.") });
    const first = version(folder);
    const versions = () => new Set(Array.from(published(folder).values(), (manifest) => manifest.version));
    expect(versions()).toEqual(new Set([first.version]));
    expect(read(folder, CHANGELOG)).toContain(`\n## ${first.version}\n\n- **wasm**: The first.\n`);
    expect(read(folder, VERSION)).toContain(`"${first.version}"`);
    expect(read(folder, UPGRADING)).not.toContain("## Next");
    expect(readChangesets(join(folder, ".changeset"))).toEqual([]);
    expect(JSON.parse(read(folder, "packages/backend-wasm/package.json")).dependencies["@doge-lm/core"]).toBe(
      "workspace:*",
    );
    expect(() => version(folder)).toThrow("There is no changeset");
    writeFileSync(join(folder, ".changeset", "two.md"), changeset({ "@doge-lm/cli": "patch" }, "The second."));
    const second = version(folder);
    expect(second.version).not.toBe(first.version);
    expect(versions()).toEqual(new Set([second.version]));
    const text = read(folder, CHANGELOG);
    expect(text.indexOf(`## ${second.version}`)).toBeGreaterThan(0);
    expect(text.indexOf(`## ${second.version}`)).toBeLessThan(text.indexOf(`## ${first.version}`));
  });

  test("that break something need a word in UPGRADING.md; names that are not published are refused", () => {
    const folder = workspace({ "one.md": changeset({ "@doge-lm/core": "minor" }, "Breaking: an option is gone.") });
    writeFileSync(join(folder, UPGRADING), "# Upgrading\n");
    expect(() => version(folder)).toThrow('needs a section "## Next"');
    writeFileSync(join(folder, UPGRADING), "# Upgrading\n\n## Next\n\nUse the other.\n");
    const { version: next } = version(folder);
    expect(read(folder, UPGRADING)).toBe(`# Upgrading\n\n## ${next}\n\nUse the other.\n`);
    expect(() => version(workspace({ "x.md": changeset({ "@doge-lm/nothing": "minor" }, "X.") }))).toThrow(
      "@doge-lm/nothing",
    );
  });
});

describe("publishing", () => {
  test("needs a version that is in the changelog, its tag, and no changesets", () => {
    const folder = workspace({ "one.md": changeset({ "@doge-lm/core": "minor" }, "A thing.") });
    expect(obstacles(folder, "v9.9.9").join(" ")).toMatch(
      /The tag is v9\.9\.9.*Changesets are left: one\.md.*has no section/,
    );
    const { version: next } = version(folder);
    expect(obstacles(folder, `v${next}`)).toEqual([]);
  });

  test("happens in a job of GitHub's alone, whose repository every manifest is given", () => {
    expect(() => publish({})).toThrow("release.yml");
    const folder = workspace({});
    expect(() => stampRepository(folder, {})).toThrow("GITHUB_REPOSITORY");
    stampRepository(folder, { GITHUB_SERVER_URL: "https://github.com", GITHUB_REPOSITORY: "owner/name" });
    expect(JSON.parse(read(folder, "apps/cli/package.json")).repository).toEqual({
      type: "git",
      url: "git+https://github.com/owner/name.git",
      directory: "apps/cli",
    });
    expect(JSON.parse(read(folder, "tools/package.json"))).not.toHaveProperty("repository");
  });

  test("the job may show who it is, and nothing else beyond reading; it uses no action of others", () => {
    const job = readFileSync(join(root, ".github", "workflows", "release.yml"), "utf8");
    expect(job).toMatch(/^permissions: \{\}$/m);
    expect(job).toMatch(/permissions:\n\s+contents: read\n[^\n]*\n?\s+id-token: write\n/);
    expect(job).not.toMatch(/^\s*-?\s*uses:/m);
  });
});
