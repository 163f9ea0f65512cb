// doge: the command line. This file only names the commands and their options; each command is a file of its own.
import { readFileSync } from "node:fs";
import { isDogeError } from "@doge-lm/core";
import { Command, CommanderError } from "commander";
import { backendsCommand } from "./backends.ts";
import { chatCommand } from "./chat.ts";
import { generateCommand } from "./generate.ts";
import { inspectCommand } from "./inspect.ts";
import { logitsCommand } from "./logits.ts";
import { scoreCommand } from "./score.ts";
import { tokenizeCommand } from "./tokenize.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("doge")
  .description("SmallDoge's small language models in a terminal. Without --model, the bundled demo model speaks.")
  .version(version)
  .showHelpAfterError("Run doge --help, or doge COMMAND --help, for what there is.")
  .exitOverride()
  .addHelpText(
    "after",
    `
Examples:
  doge chat
  doge chat --once "Hi, how are you doing today?"
  doge generate --prompt "Once upon a time" --max-new-tokens 50 --temperature 0.8 --seed 7
  doge generate --model ./Doge-60M-Instruct --dtype q8 --prompt-ids 0,20756,875 --json
  doge backends`,
  );

for (const command of [
  chatCommand(),
  generateCommand(),
  logitsCommand(),
  scoreCommand(),
  tokenizeCommand(),
  inspectCommand(),
  backendsCommand(),
]) {
  program.addCommand(command.exitOverride().showHelpAfterError());
}

/** A pipe that is closed early (`doge … | head`) is the reader's choice, not a fault. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode;
  } else {
    const sentence = isDogeError(error)
      ? error.message.replace(/^\[doge:\w+\] /, "")
      : String((error as Error)?.message ?? error);
    process.stderr.write(`doge: ${sentence}\n`);
    if (process.env.DOGE_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  }
}
