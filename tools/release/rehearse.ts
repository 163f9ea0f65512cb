// A release from beginning to end, without one: versions and the plan in a copy of the workspace, publishing of the packed packages as a
// dry run. The checkout stays as it is.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { packs } from "../packages/pack.ts";
import { root, run, Skipped, step } from "../packages/steps.ts";
import { readChangesets } from "./changesets.ts";
import { stampRepository } from "./repository.ts";
import { version } from "./version.ts";
import { CHANGELOG, copyWorkspace, published, readJson, VERSION } from "./workspace.ts";

/** The names that a plan of changesets publishes, in its order. */
interface Plan {
  readonly plan: readonly (readonly { readonly kind: string; readonly name: string; readonly version: string }[])[];
}

export async function rehearse(): Promise<void> {
  const copy = mkdtempSync(join(tmpdir(), "doge-release-"));
  const before = checkoutState();
  try {
    copyWorkspace(root, copy);
    await step("versions, in a copy", () => {
      const from = readJson(join(copy, "packages", "core", "package.json")).version;
      if (readChangesets(join(copy, ".changeset")).length === 0)
        throw new Skipped("there is no changeset since the last release");
      const { version: to, changesets } = version(copy);
      const left = readdirSync(join(copy, ".changeset")).filter((name) => name.endsWith(".md"));
      if (left.length > 0) throw new Error(`These changesets are left: ${left.join(", ")}.`);
      const changelog = readFileSync(join(copy, CHANGELOG), "utf8");
      if (!changelog.includes(`\n## ${to}\n`)) throw new Error(`${CHANGELOG} has no section ${to}.`);
      if (!readFileSync(join(copy, VERSION), "utf8").includes(`"${to}"`))
        throw new Error(`${VERSION} does not say ${to}.`);
      return `${from} becomes ${to}: ${changesets.length} changesets, ${published(copy).size} packages`;
    });
    await step("the plan", () => {
      const file = join(copy, "plan.json");
      try {
        run(
          process.execPath,
          [join(root, "node_modules", "@changesets", "cli", "bin.js"), "publish-plan", "--output", file],
          copy,
        );
      } catch (error) {
        const said = `${(error as { stdout?: string }).stdout ?? ""}${(error as { stderr?: string }).stderr ?? ""}`;
        if (/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|network|fetch failed/i.test(said))
          throw new Skipped("npm's registry cannot be reached");
        throw error;
      }
      const { plan } = JSON.parse(readFileSync(file, "utf8")) as Plan;
      const names = plan.flat().map(({ name }) => name);
      const missing = Array.from(published(copy).values(), ({ name }) => name).filter((name) => !names.includes(name));
      return `${names.length} packages in ${plan.length} rounds${missing.length > 0 ? `; published already: ${missing.join(", ")}` : ""}`;
    });
    await step("where the packages come from", () => {
      const url = stampRepository(copy, { GITHUB_SERVER_URL: "https://github.com", GITHUB_REPOSITORY: "owner/name" });
      for (const folder of published(copy).keys()) {
        const { repository } = JSON.parse(readFileSync(join(copy, folder, "package.json"), "utf8")) as {
          repository?: { url?: string };
        };
        if (repository?.url !== url) throw new Error(`${folder} does not say ${url}.`);
      }
      return "each manifest is given the repository of the job that publishes it";
    });
    const tarballs = existsSync(packs) ? readdirSync(packs).filter((name) => name.endsWith(".tgz")) : [];
    await step("publishing, as a dry run", () => {
      if (tarballs.length === 0)
        throw new Skipped('there are no packed packages: "npm run check -- packed" makes them');
      const said = tarballs.map((name) => {
        const args = [
          "publish",
          join(packs, name),
          "--dry-run",
          "--no-git-checks",
          "--access",
          "public",
          "--tag",
          "latest",
          "--json",
        ];
        const { id } = JSON.parse(run("pnpm", args, copy)) as { id?: string };
        if (id === undefined) throw new Error(`${name} would not be published.`);
        return id;
      });
      return said.join(", ");
    });
    await step("the checkout is as it was", () => {
      if (before === undefined) throw new Skipped("this is no git checkout");
      const after = checkoutState();
      if (after !== before) throw new Error(`It was\n${before}and is\n${after}`);
      return basename(root);
    });
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** What git says is changed, or undefined without git. */
function checkoutState(): string | undefined {
  try {
    return run("git", ["status", "--porcelain"], root);
  } catch {
    return undefined;
  }
}
