// The commands inside `doge chat`: lines that begin with a slash. What they print is for the person, not part of an answer.
import { homedir } from "node:os";
import { join } from "node:path";
import type { GenerationResult } from "@doge-lm/core";
import { type Conversation, fault } from "./conversation.ts";
import { optionNames } from "./options.ts";

/** What a command has at hand. */
export interface Desk {
  readonly conversation: Conversation;
  /** Tell the person a line. */
  say(line: string): void;
  /** Print an answer that comes in pieces. */
  print(pieces: (signal: AbortSignal) => AsyncIterable<string>): Promise<void>;
}

interface ReplCommand {
  readonly usage: string;
  readonly about: string;
  /** "leave" ends the conversation. */
  run(desk: Desk, rest: string): Promise<"leave" | undefined> | "leave" | undefined;
}

const commands: { readonly [name: string]: ReplCommand } = {
  help: {
    usage: "/help",
    about: "this list",
    run: ({ say }) => void say(commandList()),
  },
  system: {
    usage: "/system [text]",
    about: 'show or change what the model is told beforehand; "" for nothing',
    run({ conversation, say }, text) {
      if (text === "") return void say(conversation.system ?? "There is no system message.");
      conversation.setSystem(text === '""' ? undefined : text);
      return void say(text === '""' ? "The system message is gone." : "The system message is set.");
    },
  },
  reset: {
    usage: "/reset",
    about: "forget the conversation; the system message stays",
    run({ conversation, say }) {
      conversation.reset();
      say("The conversation begins anew.");
      return undefined;
    },
  },
  retry: {
    usage: "/retry",
    about: "answer the last question again",
    async run({ conversation, print }) {
      await print((signal) => conversation.retry(signal));
      return undefined;
    },
  },
  save: {
    usage: "/save file",
    about: "write the conversation to a file",
    async run({ conversation, say }, file) {
      if (file === "") throw fault("/save needs the name of a file.");
      await conversation.save(path(file));
      say(`Saved ${count(conversation.messages.length)} to ${file}.`);
      return undefined;
    },
  },
  load: {
    usage: "/load file",
    about: "go on with a conversation that was saved",
    async run({ conversation, say }, file) {
      if (file === "") throw fault("/load needs the name of a file.");
      await conversation.load(path(file));
      say(`Loaded ${count(conversation.messages.length)} from ${file}.`);
      return undefined;
    },
  },
  stats: {
    usage: "/stats",
    about: "how fast the last answer came",
    run: ({ conversation, say }) =>
      void say(
        conversation.last === undefined
          ? "There is no answer yet."
          : statsLine(conversation.last, conversation.where.backend),
      ),
  },
  params: {
    usage: "/params [name value]",
    about: "show or change an option, as in /params temperature 0.8; value default: the model's own",
    run: ({ conversation, say }, rest) => void params(conversation, say, rest),
  },
  backend: {
    usage: "/backend [name]",
    about: "show the backends, or go on with another one; auto: the fastest",
    async run({ conversation, say }, name) {
      if (name === "") {
        for (const { name, state, reason } of conversation.where.tried) {
          say(`${state === "chosen" ? "*" : " "} ${name.padEnd(10)} ${state}: ${reason}`);
        }
      } else {
        await conversation.moveTo(name);
        say(`${conversation.description}.`);
      }
      return undefined;
    },
  },
  exit: { usage: "/exit", about: "leave (also: Ctrl-D, or Ctrl-C twice)", run: () => "leave" },
};

/** "/name", for the completion of what is being typed. */
export const commandNames: readonly string[] = Object.keys(commands).map((name) => `/${name}`);

/** Run the command in `line`, which begins with a slash. Errors: "invalid-argument" and those of what it does. */
export async function runCommand(desk: Desk, line: string): Promise<"leave" | undefined> {
  const [, name = "", rest = ""] = /^\/(\S*)\s*(.*)$/s.exec(line)!;
  if (!Object.hasOwn(commands, name)) throw fault(`There is no command /${name}.\n${commandList()}`);
  return await commands[name]!.run(desk, rest.trim());
}

/** "12 tokens (eos), first token after 31 ms (5 of 40 prompt tokens evaluated), then 120.3 tokens/s, on wasm". */
export function statsLine({ ids, promptIds, stopReason, timings }: GenerationResult, backend: string): string {
  const { prefillMs, prefillTokens, decodeMs, decodeTokens } = timings;
  const pace = decodeTokens > 0 ? `, then ${((1000 * decodeTokens) / decodeMs).toFixed(1)} tokens/s` : "";
  return `${ids.length} tokens (${stopReason}), first token after ${prefillMs.toFixed(0)} ms (${prefillTokens} of ${promptIds.length} prompt tokens evaluated)${pace}, on ${backend}`;
}

function commandList(): string {
  const all = Object.values(commands);
  const width = Math.max(...all.map(({ usage }) => usage.length));
  return [
    ...all.map(({ usage, about }) => `  ${usage.padEnd(width)}  ${about}`),
    'A line that ends in \\ goes on in the next one; so does all between """ and """. // says a line that begins with /.',
  ].join("\n");
}

function params(conversation: Conversation, say: Desk["say"], rest: string): void {
  const shown = Object.entries(conversation.params).map(([name, value]) => `  ${name} ${JSON.stringify(value)}`);
  if (rest === "") {
    say(shown.join("\n"));
    return;
  }
  const [, given = "", text = ""] = /^(\S+)\s*(.*)$/s.exec(rest)!;
  const name = given.replace(/^-+/, "").replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  const known = [...optionNames, "badWordsIds", "overflow"].sort();
  if (!known.includes(name)) throw fault(`There is no option ${given}. There are: ${known.join(", ")}.`);
  if (text !== "") conversation.set(name, text === "default" ? undefined : value(text));
  const now: unknown = conversation.params[name as keyof typeof conversation.params];
  say(now === undefined ? `  ${name}: the model's own` : `  ${name} ${JSON.stringify(now)}`);
}

/** JSON where it is some, else the text itself. */
function value(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const count = (messages: number): string => `${messages} ${messages === 1 ? "message" : "messages"}`;

/** A shell would have resolved the tilde. */
const path = (file: string): string => (/^~[/\\]/.test(file) ? join(homedir(), file.slice(2)) : file);
