// Where the packages come from, as npm's provenance compares it with who publishes: known to the job that does, and to nobody before.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { published } from "./workspace.ts";

/** Write the repository of this GitHub job into every manifest that is published. @throws outside of such a job. */
export function stampRepository(root: string, environment: NodeJS.ProcessEnv): string {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: name } = environment;
  if (!server || !name)
    throw new Error("GITHUB_SERVER_URL and GITHUB_REPOSITORY are not set: this is no job of GitHub's.");
  const url = `git+${server}/${name}.git`;
  for (const folder of published(root).keys()) {
    const file = join(root, folder, "package.json");
    const manifest = JSON.parse(readFileSync(file, "utf8")) as object;
    const repository = { type: "git", url, directory: folder.replaceAll("\\", "/") };
    writeFileSync(file, `${JSON.stringify({ ...manifest, repository }, null, 2)}\n`);
  }
  return url;
}
