// Conversations as files: the saved sessions of the library and of `doge chat`, which read what is written here, and the other way round.
import type { SavedSession } from "@doge-lm/core";
import { type Conversation, messagesOf, type Turn, titleOf, UNTITLED } from "../state/conversation.ts";

/** A file above this is no conversation. */
const MOST_BYTES = 16 * 1024 * 1024;

export function exportSession(conversation: Conversation): SavedSession {
  const facts = conversation.turns.at(-1)?.facts;
  return {
    format: "doge-session",
    version: 1,
    messages: messagesOf(conversation),
    ids: facts === undefined ? [] : [...facts.promptIds, ...facts.ids],
  };
}

/** A name that any file system takes. */
export function fileNameOf({ title }: Conversation): string {
  const name = title
    .normalize("NFKD")
    .replaceAll(/[^\w\s-]/g, "")
    .trim()
    .replaceAll(/\s+/g, "-")
    .toLowerCase()
    .slice(0, 40);
  return `${name === "" ? "conversation" : name}.doge.json`;
}

/** @throws Error with a sentence for people when the file holds no conversation */
export async function importSession(file: Blob & { readonly name: string }, now: number): Promise<Conversation> {
  const refuse = (why: string): never => {
    throw new Error(`${file.name} was not imported: ${why}. Files of "Export" and of "doge chat" can be.`);
  };
  if (file.size > MOST_BYTES) refuse(`it has ${file.size} bytes, and a conversation has at most ${MOST_BYTES}`);
  let saved: Partial<SavedSession> | null = null;
  try {
    saved = JSON.parse(await file.text());
  } catch {
    refuse("it is not JSON");
  }
  if (typeof saved !== "object" || saved === null || saved.format !== "doge-session") refuse("it is no saved session");
  const { version, messages } = saved!;
  if (version !== 1) refuse(`it is of version ${JSON.stringify(version)}, and 1 is known`);
  if (!Array.isArray(messages)) refuse("it has no list of messages");
  let system = "";
  const turns: Turn[] = [];
  for (const [index, message] of (messages as readonly unknown[]).entries()) {
    const { role, content } = (message ?? {}) as { role?: unknown; content?: unknown };
    if (typeof content !== "string") refuse(`message ${index} has no text`);
    if (index === 0 && role === "system") system = content as string;
    else if (role === "user" || role === "assistant") turns.push({ role, content: content as string });
    else refuse(`message ${index} has the role ${JSON.stringify(role)}, which is shown neither here nor there`);
  }
  const first = turns.find(({ role }) => role === "user");
  const title = first === undefined ? UNTITLED : titleOf(first.content);
  return { id: crypto.randomUUID(), title, named: false, created: now, updated: now, system, turns };
}
