// The conversation of `doge chat`, line by line: from a terminal with history and Ctrl-C that stops the answer, or from a pipe.
// Answers go to standard output, everything else to standard error.
import { once } from "node:events";
import { createInterface } from "node:readline";
import { styleText } from "node:util";
import type { GenerationResult } from "@doge-lm/core";
import type { Conversation } from "./conversation.ts";
import { sentenceOf } from "./faults.ts";
import { type History, historyFile, openHistory } from "./history.ts";
import { commandNames, runCommand, statsLine } from "./repl-commands.ts";

export interface ReplOptions {
  /** Say after every answer how fast it came. */
  readonly stats?: boolean;
  /** One JSON object for every answer, on a line of its own. */
  readonly json?: boolean;
}

const dim = (text: string): string => styleText("dim", text, { stream: process.stderr });
const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** Lines put together: those that end in a backslash with the next one, and all between """ and """. */
export class Blocks {
  #lines: string[] = [];
  #quoted = false;

  /** Something is begun and not yet complete. */
  get open(): boolean {
    return this.#lines.length > 0 || this.#quoted;
  }

  /** What is complete with this line, if anything is. */
  push(line: string): string | undefined {
    let text = line;
    if (!this.open && text.startsWith('"""')) {
      this.#quoted = true;
      text = text.slice(3);
      if (text === "") return undefined;
    }
    if (this.#quoted) {
      const end = text.trimEnd().endsWith('"""');
      if (end) text = text.trimEnd().slice(0, -3);
      if (!end || text !== "") this.#lines.push(text);
      return end ? this.take() : undefined;
    }
    if (text.endsWith("\\")) {
      this.#lines.push(text.slice(0, -1));
      return undefined;
    }
    this.#lines.push(text);
    return this.take();
  }

  /** All there is so far. */
  take(): string {
    const text = this.#lines.join("\n");
    this.#lines = [];
    this.#quoted = false;
    return text;
  }
}

/** Print an answer as it comes, or as one JSON object; an abort ends it, and what was said so far stays. */
export async function printAnswer(
  conversation: Conversation,
  pieces: AsyncIterable<string>,
  { stats, json }: ReplOptions,
): Promise<void> {
  let begun = false;
  try {
    for await (const text of pieces) {
      if (!json) process.stdout.write(text);
      begun = true;
    }
  } catch (error) {
    if (begun && !json) process.stdout.write("\n");
    throw error;
  }
  const result = conversation.last!;
  const { backend, device, dtype } = conversation.where;
  process.stdout.write(json ? `${JSON.stringify({ ...plain(result), backend, device, dtype })}\n` : "\n");
  if (result.truncated !== undefined) say(dim(`(The oldest ${result.truncated} tokens were left out to make room.)`));
  if (stats) say(dim(statsLine(result, backend)));
}

const plain = ({ text, ids, promptIds, stopReason, seed, timings }: GenerationResult) => ({
  ...{ text, stopReason, ids: [...ids], promptIds: [...promptIds], seed, timings },
});

/** Take turns until the person leaves or the pipe ends. */
export async function converse(conversation: Conversation, options: ReplOptions): Promise<void> {
  const person = process.stdin.isTTY === true;
  const history: History | undefined = person ? openHistory(historyFile()) : undefined;
  if (person) say(dim(`${conversation.description}. /help lists the commands; Ctrl-D leaves.`));
  if (history?.fault !== undefined) say(dim(history.fault));
  const terminal = createInterface({
    input: process.stdin,
    output: process.stderr,
    terminal: person,
    history: history?.lines ?? [],
    historySize: 1000,
    removeHistoryDuplicates: true,
    completer: (line: string) => [
      line.startsWith("/") ? commandNames.filter((name) => name.startsWith(line)) : [],
      line,
    ],
  });
  const blocks = new Blocks();
  let answering: AbortController | undefined;
  let warned = false; // Ctrl-C was pressed at an empty prompt just before
  let open = true;
  let left = false; // what still waits is not answered any more
  const prompt = (): void => {
    if (!open || !person) return;
    terminal.setPrompt(styleText("cyan", blocks.open ? ". " : "> ", { stream: process.stderr }));
    terminal.prompt();
  };
  terminal.on("close", () => {
    open = false;
    if (!person) return; // a pipe may end long before the answers to its lines
    if (!left) process.stderr.write("\n");
    left = true;
    answering?.abort();
  });
  terminal.on("SIGINT", () => {
    if (answering !== undefined) return answering.abort();
    const nothing = terminal.line === "" && !blocks.open;
    if (nothing && warned) return terminal.close();
    warned = nothing;
    blocks.take();
    terminal.write(null, { ctrl: true, name: "e" }); // to the end of the line,
    terminal.write(null, { ctrl: true, name: "u" }); // and all before it gone
    process.stderr.write(nothing ? dim("(Ctrl-C again, or Ctrl-D, leaves.)\n") : "\n");
    prompt();
  });
  const print = async (pieces: (signal: AbortSignal) => AsyncIterable<string>): Promise<void> => {
    const controller = new AbortController();
    if (person) answering = controller;
    await printAnswer(conversation, pieces(controller.signal), options).finally(() => {
      answering = undefined;
    });
  };
  const turn = async (text: string): Promise<"leave" | undefined> => {
    if (text.trim() === "") return undefined;
    if (/^\/(?!\/)/.test(text)) return await runCommand({ conversation, say, print }, text);
    await print((signal) => conversation.ask(text.replace(/^\/\//, "/"), signal));
    return undefined;
  };
  /** A fault of one turn does not end the conversation; a pipe hears of it at the end, too. */
  const guarded = async (text: string): Promise<"leave" | undefined> => {
    try {
      return await turn(text);
    } catch (error) {
      say(`doge: ${sentenceOf(error)}`);
      if (!person) process.exitCode = 1;
      return undefined;
    }
  };

  // Lines are put together as they come, so that what is pasted or typed ahead has its prompts; turns wait for each other.
  let waiting = 0;
  let work = Promise.resolve();
  const enqueue = (text: string): void => {
    waiting++;
    work = work.then(async () => {
      if (!left && (await guarded(text)) === "leave") {
        left = true;
        terminal.close();
      }
      if (--waiting === 0) prompt();
    });
  };
  terminal.on("line", (line) => {
    warned = false;
    history?.add(line);
    const text = blocks.push(line);
    if (text !== undefined) enqueue(text);
    else if (waiting === 0) prompt();
  });
  prompt();
  await once(terminal, "close");
  if (!person && blocks.open) enqueue(blocks.take()); // the pipe ended in the middle
  await work;
}
