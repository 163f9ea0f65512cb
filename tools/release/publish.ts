// Publishes what a tag names, from a job of GitHub's: that is what npm's provenance vouches for. Everything is looked at before the first
// package goes out, because none can be taken back.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root, run } from "../packages/steps.ts";
import { readChangesets } from "./changesets.ts";
import { stampRepository } from "./repository.ts";
import { CHANGELOG, published } from "./workspace.ts";

/** Why the checkout in `folder` may not be published by a job for the tag `tag`; empty: it may. */
export function obstacles(folder: string, tag: string | undefined): string[] {
  const versions = new Set(Array.from(published(folder).values(), ({ version }) => version));
  const [version] = versions;
  const found: string[] = [];
  if (versions.size !== 1) found.push(`The packages have the versions ${[...versions].join(", ")}.`);
  if (tag !== `v${version}`) found.push(`The tag is ${tag}, not v${version}.`);
  const left = readChangesets(join(folder, ".changeset"));
  if (left.length > 0)
    found.push(
      `Changesets are left: ${left.map(({ file }) => file).join(", ")}. "npm run release -- version" comes first.`,
    );
  if (!readFileSync(join(folder, CHANGELOG), "utf8").includes(`\n## ${version}\n`))
    found.push(`${CHANGELOG} has no section ${version}.`);
  return found;
}

/** @throws with all that stands in the way. */
export function publish(environment: NodeJS.ProcessEnv = process.env): void {
  if (environment.GITHUB_ACTIONS !== "true") {
    throw new Error(
      "Packages are published by .github/workflows/release.yml, when a tag is pushed: only there can their provenance be shown.",
    );
  }
  const found = obstacles(root, environment.GITHUB_REF_NAME);
  if (found.length > 0) throw new Error(found.join("\n"));
  console.log(`from ${stampRepository(root, environment)}`);
  console.log(run(join(root, "node_modules", ".bin", "turbo"), ["run", "build", "--filter=!@doge-lm/docs"], root));
  console.log(
    run(
      process.execPath,
      [join(root, "node_modules", "@changesets", "cli", "bin.js"), "publish", "--no-git-tag"],
      root,
    ),
  );
}
