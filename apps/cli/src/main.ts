// doge: the command line. This file only names the commands and their options; each command is a file of its own.
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { backendsCommand } from "./backends.ts";
import { benchCommand } from "./bench.ts";
import { chatCommand } from "./chat.ts";
import { generateCommand } from "./generate.ts";
import { helpLayout } from "./help.ts";
import { inspectCommand } from "./inspect.ts";
import { logitsCommand } from "./logits.ts";
import { lsCommand } from "./ls.ts";
import { sentenceOf } from "./output.ts";
import { pullCommand } from "./pull.ts";
import { rmCommand } from "./rm.ts";
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
  .configureHelp(helpLayout)
  .addHelpText(
    "after",
    `
Examples:
  doge chat
  doge chat --once "Hi, how are you doing today?"
  doge generate --prompt "Once upon a time" --max-new-tokens 50 --temperature 0.8 --seed 7
  doge chat --model SmallDoge/Doge-60M-Instruct
  doge generate --model ./Doge-60M-Instruct --dtype q8 --prompt-ids 0,20756,875 --json
  doge backends`,
  );

const groups: { readonly [heading: string]: readonly Command[] } = {
  "Text:": [chatCommand(), generateCommand()],
  "Numbers:": [logitsCommand(), scoreCommand(), tokenizeCommand(), benchCommand()],
  "What there is:": [inspectCommand(), backendsCommand()],
  "Models by name:": [pullCommand(), lsCommand(), rmCommand()],
};
for (const [heading, commands] of Object.entries(groups)) {
  for (const command of commands) {
    program.addCommand(command.helpGroup(heading).configureHelp(helpLayout).exitOverride().showHelpAfterError());
  }
}

program.commandsGroup("What there is:"); // of the command "help"

/** A pipe that is closed early (`doge … | head`) is the reader's choice, not a fault. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

try {
  if (process.argv.length <= 2) program.outputHelp();
  else await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode;
  } else {
    process.stderr.write(`doge: ${sentenceOf(error)}\n`);
    if (process.env.DOGE_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  }
}
