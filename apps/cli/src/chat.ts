// doge chat: a conversation in the terminal, or one question and its answer with --once.
import { createInterface } from "node:readline/promises";
import { styleText } from "node:util";
import type { Doge } from "@doge-lm/core";
import { Command } from "commander";
import { openDoge } from "./engine.ts";
import { interruptible } from "./generate.ts";
import { type ModelOptions, type SamplingFlags, samplingOptions, withModel, withSampling } from "./options.ts";

interface Flags extends ModelOptions, SamplingFlags {
  readonly once?: string;
  readonly system?: string;
}

export function chatCommand(): Command {
  const command = new Command("chat")
    .description("talk with the model; an empty line or Ctrl-D leaves")
    .option("--once <text>", "ask this, print the answer, leave")
    .option("--system <text>", "what the model is told beforehand");
  return withSampling(withModel(command)).action(async (flags: Flags) => {
    const doge = await openDoge(flags);
    try {
      const session = doge.session({
        ...(flags.system === undefined ? {} : { system: flags.system }),
        maxNewTokens: Number.POSITIVE_INFINITY,
        ...samplingOptions(flags),
      });
      if (flags.once !== undefined) await answer(session, flags.once);
      else await converse(doge, session);
    } finally {
      await doge.close();
    }
  });
}

type Session = ReturnType<Doge["session"]>;

/** Ask and print as it comes. Ctrl-C ends the answer, not the program. */
async function answer(session: Session, question: string): Promise<void> {
  const stop = interruptible();
  try {
    for await (const { text } of session.send(question, { signal: stop.signal })) process.stdout.write(text ?? "");
    process.stdout.write("\n");
  } finally {
    stop.release();
  }
}

async function converse(doge: Doge, session: Session): Promise<void> {
  const { source, device, dtype } = doge.info();
  const person = process.stdin.isTTY === true;
  if (person)
    process.stderr.write(
      styleText("dim", `${source} on ${device}, ${dtype}. An empty line leaves.\n`, { stream: process.stderr }),
    );
  const terminal = createInterface({ input: process.stdin, output: process.stderr, terminal: person });
  terminal.setPrompt(person ? styleText("cyan", "> ", { stream: process.stderr }) : "");
  terminal.on("SIGINT", () => terminal.close());
  terminal.prompt();
  for await (const line of terminal) {
    if (line.trim() === "") break;
    // While the answer is printed the terminal must not swallow Ctrl-C.
    terminal.pause();
    await answer(session, line);
    terminal.resume();
    terminal.prompt();
  }
  terminal.close();
}
