// doge score: how likely the model finds each token of a text.
import { Command } from "commander";
import { openModel } from "./engine.ts";
import { idList, type ModelOptions, withModel } from "./options.ts";
import { hashOf } from "./output.ts";

interface Flags extends ModelOptions {
  readonly promptIds: Int32Array<ArrayBuffer>;
  readonly json?: boolean;
}

export function scoreCommand(): Command {
  const command = new Command("score")
    .description("print ln p of every id given those before it (0 for the first)")
    .requiredOption("--prompt-ids <ids>", "token ids, separated by commas", idList)
    .option("--json", "print one object with ids, logprobs, sum, perplexity and hash");
  return withModel(command).action(async (flags: Flags) => {
    const opened = await openModel(flags);
    try {
      const [logprobs] = await opened.model.score([{ sequence: opened.model.sequence(), tokens: flags.promptIds }]);
      const ids = [...flags.promptIds];
      if (!flags.json) {
        process.stdout.write(ids.map((id, index) => `${id}\t${logprobs![index]}\n`).join(""));
        return;
      }
      const sum = logprobs!.reduce((total, value) => total + value, 0);
      const perplexity = ids.length > 1 ? Math.exp(-sum / (ids.length - 1)) : null;
      process.stdout.write(
        `${JSON.stringify({ ids, logprobs: [...logprobs!], sum, perplexity, hash: hashOf(logprobs!) })}\n`,
      );
    } finally {
      await opened.close();
    }
  });
}
