// A conversation as the page keeps it: turns, with the facts of each answer. Pure functions; nothing here changes what it is given.
import type { Message } from "@doge-lm/core";
import type { AnswerFacts } from "../engine/protocol.ts";

/** What was said once. It is never changed: what is said otherwise, or answered again, is another turn behind the same one. */
export interface Turn {
  readonly id: string;
  /** The turn that it stands behind; null: it begins the conversation. */
  readonly parent: string | null;
  /** Milliseconds since 1970. */
  readonly said: number;
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
  /** All that was ever said, every version of it: a tree by `parent`. There come only more. */
  readonly turns: readonly Turn[];
  /** A turn in sight: with it what led to it, and the newest of what followed. Null: the newest of all. */
  readonly at: string | null;
}

/** Under what the text is kept that is not sent yet: one for all conversations in which nothing was said. */
export const draftKey = ({ id, turns }: Conversation): string => (turns.length === 0 ? "new" : id);

export const UNTITLED = "New conversation";
const LONGEST_TITLE = 60;

export function emptyConversation(now: number, system = ""): Conversation {
  const id = crypto.randomUUID();
  return { id, title: UNTITLED, named: false, created: now, updated: now, system, turns: [], at: null };
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

/** What the model is given: the system message and the turns. */
export function messagesOf(system: string, turns: readonly Pick<Turn, "role" | "content">[]): Message[] {
  const first = system.trim() === "" ? [] : [{ role: "system", content: system }];
  return [...first, ...turns.map(({ role, content }) => ({ role, content }))];
}
