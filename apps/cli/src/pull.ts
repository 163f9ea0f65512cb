// doge pull: a model by name into the cache; prints the folder it lies in.
import { pullModel } from "@doge-lm/core/node";
import { Command } from "commander";
import { type HubFlags, progressBar, withHub } from "./hub.ts";

export function pullCommand(): Command {
  const command = new Command("pull")
    .description("fetch a model into the cache (what is there already is not fetched again)")
    .argument("<name>", "owner/name");
  return withHub(command).action(async (name: string, flags: HubFlags) => {
    const bar = progressBar(process.stderr);
    const { revision, endpoint, offline } = flags;
    try {
      const { folder, notices } = await pullModel(name, { revision, endpoint, offline, onProgress: bar.show });
      bar.clear();
      for (const notice of notices) process.stderr.write(`${notice}\n`);
      process.stdout.write(`${folder}\n`);
    } finally {
      bar.clear();
    }
  });
}
