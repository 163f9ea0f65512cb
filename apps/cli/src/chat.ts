// doge chat: a conversation in the terminal, or one question and its answer with --once.
import { Command, Option } from "commander";
import { Conversation, type ConversationOptions } from "./conversation.ts";
import { interruptible } from "./generate.ts";
import { withModel, withSampling } from "./options.ts";
import { converse, printAnswer } from "./repl.ts";

interface Flags extends ConversationOptions {
  readonly once?: string;
  readonly stats?: boolean;
  readonly json?: boolean;
}

export function chatCommand(): Command {
  const command = new Command("chat")
    .description("talk with the model: in a terminal, or a line at a time through a pipe")
    .optionsGroup("Conversation:")
    .option("--once <text>", "ask this, print the answer, leave")
    .option("--system <text>", "what the model is told beforehand")
    .addOption(
      new Option("--overflow <policy>", "when the context is full: fail, or leave out the oldest exchanges")
        .choices(["error", "truncate", "slide"])
        .default("slide"),
    )
    .option("--stats", "say after every answer how fast it came")
    .option("--json", "print every answer as one object, on a line of its own")
    .addHelpText(
      "after",
      `
In the conversation, /help lists commands: /system, /retry, /save and others.
Ctrl-C stops the answer; Ctrl-D leaves.`,
    );
  return withSampling(withModel(command), "until the model ends").action(async (flags: Flags) => {
    const conversation = await Conversation.open(flags);
    try {
      if (flags.once === undefined) return await converse(conversation, flags);
      const stop = interruptible();
      await printAnswer(conversation, conversation.ask(flags.once, stop.signal), flags).finally(stop.release);
    } finally {
      await conversation.close();
    }
  });
}
