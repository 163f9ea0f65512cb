// Conversations as files: the saved sessions of the library and of `doge chat`, which read what is written here, and the other way round.
// Versions that are out of sight go with them in a list of their own, which those leave alone.
import type { SavedSession } from "@doge-lm/core";
import { type Conversation, messagesOf, type Turn, titleOf, UNTITLED } from "../state/conversation.ts";
import { inSight } from "../state/versions.ts";
import { inARow } from "./version-1.ts";

/** A file above this is no conversation. */
const MOST_BYTES = 16 * 1024 * 1024;

/** A turn in a list in which each stands behind the one that it follows. */
interface SavedTurn {
  readonly role: Turn["role"];
  readonly content: string;
  /** Its place in the list; null: it begins the conversation. */
  readonly parent: number | null;
}

interface SavedConversation extends SavedSession {
  /** Every turn, also those that are not among `messages`; only where there are such. */
  readonly turns?: readonly SavedTurn[];
}

export function exportSession(conversation: Conversation): SavedConversation {
  const seen = inSight(conversation);
  const facts = seen.at(-1)?.facts;
  return {
    format: "doge-session",
    version: 1,
    messages: messagesOf(conversation.system, seen),
    ids: facts === undefined ? [] : [...facts.promptIds, ...facts.ids],
    ...(seen.length === conversation.turns.length ? {} : { turns: saved(conversation.turns) }),
  };
}

function saved(turns: readonly Turn[]): SavedTurn[] {
  const inOrder = turns.toSorted((a, b) => a.said - b.said);
  const places = new Map<string | null, number>();
  return inOrder.map(({ id, parent, role, content }, place) => {
    places.set(id, place);
    return { role, content, parent: places.get(parent) ?? null };
  });
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
  let read: Partial<SavedConversation> | null = null;
  try {
    read = JSON.parse(await file.text());
  } catch {
    refuse("it is not JSON");
  }
  if (typeof read !== "object" || read === null || read.format !== "doge-session") refuse("it is no saved session");
  const { version, messages, turns = [] } = read!;
  if (version !== 1) refuse(`it is of version ${JSON.stringify(version)}, and 1 is known`);
  if (!Array.isArray(messages)) refuse("it has no list of messages");
  if (!Array.isArray(turns)) refuse("its turns are no list");
  let system = "";
  const seen: Pick<Turn, "role" | "content">[] = [];
  for (const [index, message] of (messages as readonly unknown[]).entries()) {
    const { role, content } = (message ?? {}) as { role?: unknown; content?: unknown };
    if (typeof content !== "string") refuse(`message ${index} has no text`);
    if (index === 0 && role === "system") system = content as string;
    else if (role === "user" || role === "assistant") seen.push({ role, content: content as string });
    else refuse(`message ${index} has the role ${JSON.stringify(role)}, which is shown neither here nor there`);
  }
  const all: Turn[] = [];
  for (const [index, turn] of (turns as readonly unknown[]).entries()) {
    const { role, content, parent } = (turn ?? {}) as { role?: unknown; content?: unknown; parent?: unknown };
    if (typeof content !== "string" || (role !== "user" && role !== "assistant"))
      return refuse(`turn ${index} has no role and text`);
    const before = parent === null ? null : all[parent as number]?.id;
    if (before === undefined) return refuse(`turn ${index} stands behind none of those above it`);
    all.push({ id: crypto.randomUUID(), parent: before, said: now + index, role, content });
  }
  const shown = along(all, seen, now + all.length);
  const first = seen.find(({ role }) => role === "user");
  return {
    id: crypto.randomUUID(),
    title: first === undefined ? UNTITLED : titleOf(first.content),
    named: false,
    created: now,
    updated: now,
    system,
    turns: shown.turns,
    at: shown.at,
  };
}

/** The messages as a way through the turns; those that are not among them are added. Another program may have gone on from there. */
function along(
  turns: readonly Turn[],
  messages: readonly Pick<Turn, "role" | "content">[],
  now: number,
): Pick<Conversation, "turns" | "at"> {
  let at: string | null = null;
  for (const [index, { role, content }] of messages.entries()) {
    const next = turns.findLast((turn) => turn.parent === at && turn.role === role && turn.content === content);
    if (next === undefined) {
      const [first, ...rest] = inARow(messages.slice(index), now);
      const added = [{ ...first!, parent: at }, ...rest];
      return { turns: [...turns, ...added], at: added.at(-1)!.id };
    }
    at = next.id;
  }
  return { turns, at };
}
