// doge ls: the models in the cache, this program's and Python's alike.
import { cachedModels, hubCacheFolder } from "@doge-lm/core/node";
import { Command } from "commander";
import { sizeText } from "./output.ts";

export function lsCommand(): Command {
  return new Command("ls")
    .description("list the models in the cache")
    .option("--json", "print an array of objects")
    .action(async (flags: { json?: boolean }) => {
      const models = await cachedModels();
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(models)}\n`);
        return;
      }
      if (models.length === 0) process.stderr.write(`There is no model in ${hubCacheFolder()}.\n`);
      const width = Math.max(0, ...models.map(({ name }) => name.length));
      for (const { name, bytes, incomplete, revisions } of models) {
        const refs = revisions.map((revision) => `${revision.name} ${revision.commit.slice(0, 7)}`).join(", ");
        const rest = incomplete > 0 ? `, ${sizeText(incomplete)} of it not wholly fetched` : "";
        process.stdout.write(`${name.padEnd(width)}  ${sizeText(bytes).padStart(9)}  ${refs}${rest}\n`);
      }
    });
}
