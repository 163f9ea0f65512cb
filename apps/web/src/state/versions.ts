// The turns of a conversation as a tree: a turn that was said otherwise, or answered again, stands beside the one before, and one way
// through them is in sight. Pure functions; nothing here changes what it is given.
import { type Conversation, type Turn, titleOf } from "./conversation.ts";

type Followers = ReadonlyMap<string | null, readonly Turn[]>;
const known = new WeakMap<readonly Turn[], Followers>();

/** The turns behind each turn, the oldest first. A turn whose parent is not there begins the conversation. */
function followersOf(turns: readonly Turn[]): Followers {
  let followers = known.get(turns);
  if (followers === undefined) {
    const ids = new Set(turns.map(({ id }) => id));
    const inOrder = turns.toSorted((a, b) => a.said - b.said || (a.id < b.id ? -1 : 1));
    followers = Map.groupBy(inOrder, ({ parent }) => (parent !== null && ids.has(parent) ? parent : null));
    known.set(turns, followers);
  }
  return followers;
}

/** What was said up to the turn `id`, that one included. */
export function pathTo(turns: readonly Turn[], id: string | null): readonly Turn[] {
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const path: Turn[] = [];
  // Each turn at most once: what was read may be no tree.
  for (let turn = byId.get(id ?? ""); turn !== undefined; turn = byId.get(turn.parent ?? "")) {
    byId.delete(turn.id);
    path.unshift(turn);
  }
  return path;
}

/** The turns in sight, the first one first. */
export function inSight({ turns, at }: Pick<Conversation, "turns" | "at">): readonly Turn[] {
  const followers = followersOf(turns);
  const path = [...pathTo(turns, at)];
  const seen = new Set(path);
  for (;;) {
    const next = followers.get(path.at(-1)?.id ?? null)?.at(-1);
    if (next === undefined || seen.has(next)) return path;
    seen.add(next);
    path.push(next);
  }
}

/** The versions of a turn, the oldest first, itself among them. */
export function versionsOf(turns: readonly Turn[], { parent, id }: Turn): readonly Turn[] {
  const followers = followersOf(turns);
  const own = followers.get(parent) ?? [];
  return own.some((one) => one.id === id) ? own : (followers.get(null) ?? []);
}

/** The conversation with one more turn, or with a turn as it is in the end; it comes into sight. */
export function withTurn(conversation: Conversation, turn: Turn): Conversation {
  const turns = [...conversation.turns.filter(({ id }) => id !== turn.id), turn];
  const first = pathTo(turns, turn.id).find(({ role }) => role === "user");
  const title = conversation.named || first === undefined ? conversation.title : titleOf(first.content);
  return { ...conversation, turns, title, at: turn.id, updated: Math.max(conversation.updated, turn.said) };
}

/** One conversation of two tabs: every turn of both. The rest is as `theirs`, the later word; but `stay` keeps in sight what is. */
export function merged(mine: Conversation, theirs: Conversation, stay = false): Conversation {
  const own = new Map(mine.turns.map((turn) => [turn.id, turn]));
  const news = theirs.turns.filter(({ id }) => !own.has(id));
  for (const turn of theirs.turns) {
    const before = own.get(turn.id);
    // One of them may have been kept before its end.
    if (before === undefined || (before.facts === undefined && before.content.length <= turn.content.length))
      own.set(turn.id, turn);
  }
  return {
    ...theirs,
    turns: [...own.values()],
    at: stay || news.length === 0 ? mine.at : theirs.at,
    updated: Math.max(mine.updated, theirs.updated),
  };
}
