// doge rm: a model out of the cache.
import { removeCached } from "@doge-lm/core/node";
import { Command } from "commander";
import { sizeText } from "./output.ts";

export function rmCommand(): Command {
  return new Command("rm")
    .description("remove a model from the cache, all its revisions")
    .argument("<name>", "owner/name")
    .action(async (name: string) => {
      const bytes = await removeCached(name);
      process.stdout.write(`Removed ${name}: ${sizeText(bytes)}.\n`);
    });
}
