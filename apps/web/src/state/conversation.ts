// A conversation as the page keeps it: turns, with the facts of each answer. Pure functions; nothing here changes what it is given.
import type { Message } from "@doge-lm/core";
import type { AnswerFacts } from "../engine/protocol.ts";

export interface Turn {
  readonly role: "user" | "assistant";
  readonly content: string;
  /** Of answers that were given here, and have not been changed by hand. */
  readonly facts?: AnswerFacts | undefined;
}

export interface Conversation {
  readonly id: string;
  readonly title: string;
  /** The person named it: it keeps that name. */
  readonly named: boolean;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly updated: number;
  /** The system message; empty: none. */
  readonly system: string;
  readonly turns: readonly Turn[];
}

export const UNTITLED = "New conversation";
const LONGEST_TITLE = 60;

export function emptyConversation(now: number, system = ""): Conversation {
  return { id: crypto.randomUUID(), title: UNTITLED, named: false, created: now, updated: now, system, turns: [] };
}

/** The first words of what was said first. */
export function titleOf(text: string): string {
  const line = text.trim().replaceAll(/\s+/g, " ");
  if (line === "") return UNTITLED;
  if (line.length <= LONGEST_TITLE) return line;
  // Not in the middle of a character.
  const cut = line.slice(0, LONGEST_TITLE).replace(/[\ud800-\udbff]$/, "");
  const space = cut.lastIndexOf(" ");
  return `${cut.slice(0, space > LONGEST_TITLE / 2 ? space : undefined)}…`;
}

export function withTurns(conversation: Conversation, turns: readonly Turn[], now: number): Conversation {
  const first = turns.find(({ role }) => role === "user");
  const title = conversation.named || first === undefined ? conversation.title : titleOf(first.content);
  return { ...conversation, turns, title, updated: now };
}

/** What the model is given: the system message and the turns. */
export function messagesOf({ system, turns }: Pick<Conversation, "system" | "turns">): Message[] {
  const first = system.trim() === "" ? [] : [{ role: "system", content: system }];
  return [...first, ...turns.map(({ role, content }) => ({ role, content }))];
}

/** The turns up to the last thing that was said: what another answer is given to. Null when nothing was said. */
export function beforeLastAnswer(turns: readonly Turn[]): readonly Turn[] | null {
  const last = turns.findLastIndex(({ role }) => role === "user");
  return last < 0 ? null : turns.slice(0, last + 1);
}

/** The turns with the user's turn `index` changed and everything behind it gone. */
export function edited(turns: readonly Turn[], index: number, content: string): readonly Turn[] {
  return [...turns.slice(0, index), { role: "user", content }];
}
