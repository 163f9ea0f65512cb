// Gives all packages their next version, which is one, and moves what changesets say into CHANGELOG.md.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root as checkout, run } from "../packages/steps.ts";
import { type Changeset, isBreaking, readChangesets, section } from "./changesets.ts";
import { CHANGELOG, published, UPGRADING, VERSION } from "./workspace.ts";

const NEXT = /^## Next$/m;

/** @returns the version. @throws when there is nothing to release, a changeset is none, or UPGRADING.md does not say what a breaking
 *  change asks of people. */
export function version(root: string): { readonly version: string; readonly changesets: readonly Changeset[] } {
  const changesets = readChangesets(join(root, ".changeset"));
  if (changesets.length === 0) throw new Error("There is no changeset: nothing is to be released.");
  const known = new Set(Array.from(published(root).values(), ({ name }) => name));
  for (const { file, packages } of changesets) {
    const unknown = [...packages.keys()].filter((name) => !known.has(name));
    if (unknown.length > 0) throw new Error(`.changeset/${file} names ${unknown.join(", ")}, which is not published.`);
  }
  const upgrading = readFileSync(join(root, UPGRADING), "utf8");
  if (isBreaking(changesets) && !NEXT.test(upgrading)) {
    throw new Error(`A change is breaking: ${UPGRADING} needs a section "## Next" that says what to do about it.`);
  }
  run(process.execPath, [join(checkout, "node_modules", "@changesets", "cli", "bin.js"), "version"], root);
  const versions = new Set(Array.from(published(root).values(), (manifest) => manifest.version));
  const [next] = versions;
  if (next === undefined || versions.size > 1) {
    throw new Error(
      `The packages have the versions ${[...versions].join(", ")}; they share one ("fixed" in .changeset/config.json).`,
    );
  }
  const changelog = readFileSync(join(root, CHANGELOG), "utf8");
  const at = changelog.search(/^## /m);
  const [before, after] = at < 0 ? [`${changelog.trimEnd()}\n\n`, ""] : [changelog.slice(0, at), changelog.slice(at)];
  writeFileSync(join(root, CHANGELOG), `${before}${section(next, changesets)}${after === "" ? "" : `\n${after}`}`);
  writeFileSync(join(root, UPGRADING), upgrading.replace(NEXT, `## ${next}`));
  const code = readFileSync(join(root, VERSION), "utf8");
  writeFileSync(join(root, VERSION), code.replace(/(version = )"[^"]*"/, `$1"${next}"`));
  return { version: next, changesets };
}
