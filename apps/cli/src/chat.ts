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
      if (flags.once !== undefined) {
        const stop = interruptible();
        await answer(session, flags.once, stop.signal).finally(stop.release);
      } else
        await converse(session, `${flags.model ?? "The demo model"} on ${doge.info().device}, ${doge.info().dtype}.`);
    } finally {
      await doge.close();
    }
  });
}

type Session = ReturnType<Doge["session"]>;

/** Ask and print as it comes; an abort ends the answer, and what was said so far stays. */
async function answer(session: Session, question: string, signal: AbortSignal): Promise<void> {
  for await (const { text } of session.send(question, { signal })) process.stdout.write(text ?? "");
  process.stdout.write("\n");
}

async function converse(session: Session, greeting: string): Promise<void> {
  const person = process.stdin.isTTY === true;
  if (person) process.stderr.write(styleText("dim", `${greeting} An empty line leaves.\n`, { stream: process.stderr }));
  const terminal = createInterface({ input: process.stdin, output: process.stderr, terminal: person });
  terminal.setPrompt(person ? styleText("cyan", "> ", { stream: process.stderr }) : "");
  // Ctrl-C ends the answer while one is given, and the conversation otherwise.
  let answering: AbortController | null = null;
  terminal.on("SIGINT", () => (answering === null ? terminal.close() : answering.abort()));
  // A pipe ends before its last answer is given: then there is nothing left to prompt.
  let open = true;
  terminal.on("close", () => {
    open = false;
  });
  terminal.prompt();
  for await (const line of terminal) {
    if (line.trim() === "") break;
    answering = new AbortController();
    await answer(session, line, answering.signal);
    answering = null;
    if (open) terminal.prompt();
  }
  terminal.close();
}
