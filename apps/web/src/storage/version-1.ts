// Conversations as the page kept them before answers had versions: a list of turns, without ids.
import type { Conversation, Turn } from "../state/conversation.ts";

export type ConversationOfVersion1 = Omit<Conversation, "turns" | "at"> & {
  readonly turns: readonly Omit<Turn, "id" | "parent" | "said">[];
};

export function upgraded(old: ConversationOfVersion1): Conversation {
  const turns = inARow(old.turns, old.created);
  return { ...old, turns, at: turns.at(-1)?.id ?? null };
}

/** Turns that stand behind each other, said a moment apart from `from` on. */
export function inARow(turns: readonly Omit<Turn, "id" | "parent" | "said">[], from: number): Turn[] {
  const row: Turn[] = [];
  for (const turn of turns)
    row.push({ ...turn, id: crypto.randomUUID(), parent: row.at(-1)?.id ?? null, said: from + row.length });
  return row;
}
