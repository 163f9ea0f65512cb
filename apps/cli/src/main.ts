// doge: the command line. This file only names the commands and their options; each command is a file of its own.
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { backendsCommand } from "./backends.ts";
import { benchCommand } from "./bench.ts";
import { chatCommand } from "./chat.ts";
import { sentenceOf, usageFault } from "./faults.ts";
import { generateCommand } from "./generate.ts";
import { helpLayout } from "./help.ts";
import { inspectCommand } from "./inspect.ts";
import { logitsCommand } from "./logits.ts";
import { lsCommand } from "./ls.ts";
import { pullCommand } from "./pull.ts";
import { rmCommand } from "./rm.ts";
import { scoreCommand } from "./score.ts";
import { tokenizeCommand } from "./tokenize.ts";
import { debugLevel, watch } from "./watch.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("doge")
  .description("SmallDoge's small language models in a terminal. Without --model, the bundled demo model speaks.")
  .version(version)
  .configureOutput({ outputError: (text, write) => write(usageFault(text, "")) })
  .exitOverride()
  .configureHelp(helpLayout)
  .addHelpText(
    "after",
    `
Examples:
  doge chat
  doge chat --once "Hi, how are you doing today?"
  doge generate --prompt "Once upon a time, there was" --max-new-tokens 50
  doge chat --model SmallDoge/Doge-60M-Instruct
  doge score --model ./Doge-60M-Instruct --prompt-ids 0,20756,875 --json
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
    const outputError = (text: string, write: (line: string) => void) => write(usageFault(text, `${command.name()} `));
    program.addCommand(
      command.helpGroup(heading).configureHelp(helpLayout).configureOutput({ outputError }).exitOverride(),
    );
  }
}

program.commandsGroup("What there is:"); // of the command "help"

/** A pipe that is closed early (`doge … | head`) is the reader's choice, not a fault. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

try {
  const watched = watch();
  if (process.argv.length <= 2) program.outputHelp();
  else await program.parseAsync().finally(watched);
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode;
  } else {
    process.stderr.write(`doge: ${sentenceOf(error)}\n`);
    if (debugLevel() > 0 && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  }
}
