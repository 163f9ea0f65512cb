// The turns of a conversation as a tree: what is in sight, what stands beside it, and that no tab's turns are lost.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Conversation, emptyConversation, type Turn } from "../src/state/conversation.ts";
import { inSight, merged, pathTo, versionsOf, withTurn } from "../src/state/versions.ts";
import { inARow, upgraded } from "../src/storage/version-1.ts";

const turn = (id: string, parent: string | null, said: number, more: Partial<Turn> = {}): Turn => ({
  id,
  parent,
  said,
  role: "user",
  content: id,
  ...more,
});
const ids = (turns: readonly Turn[]) => turns.map(({ id }) => id).join(" ");

//   a ─ b ─ c
//    └ d ─ e
//       └ f
const turns = [
  turn("a", null, 1),
  turn("b", "a", 2),
  turn("c", "b", 3),
  turn("d", "a", 4),
  turn("e", "d", 5),
  turn("f", "d", 6),
];
const tree: Conversation = { ...emptyConversation(0), turns, at: null };

describe("the turns in sight", () => {
  test.each([
    [null, "a d f"],
    ["a", "a d f"],
    ["b", "a b c"],
    ["e", "a d e"],
    ["lost", "a d f"],
  ])("are the way to %s, and the newest of what follows", (at, way) => {
    expect(ids(inSight({ ...tree, at }))).toBe(way);
  });

  test("have the versions beside them, the oldest first", () => {
    expect(ids(versionsOf(turns, turns[3]!))).toBe("b d");
    expect(ids(versionsOf(turns.toReversed(), turns[4]!))).toBe("e f");
    expect(ids(versionsOf(turns, turns[0]!))).toBe("a");
  });

  test("end, whatever was read back", () => {
    const circle = [turn("a", "b", 1), turn("b", "a", 2)];
    expect(ids(pathTo(circle, "b"))).toBe("a b");
    expect(ids(inSight({ turns: circle, at: "b" }))).toBe("a b");
    // A turn whose parent is gone is not lost.
    const orphan = turn("x", "gone", 9);
    expect(ids(inSight({ turns: [...turns, orphan], at: null }))).toBe("x");
    expect(ids(versionsOf([...turns, orphan], orphan))).toBe("a x");
    expect(inSight(emptyConversation(0))).toEqual([]);
  });
});

describe("one conversation of two tabs", () => {
  test("has every turn of both, whichever comes first", () => {
    const parts = fc.subarray(turns);
    fc.assert(
      fc.property(parts, parts, fc.boolean(), (mine, theirs, stay) => {
        const one = merged({ ...tree, turns: mine }, { ...tree, turns: theirs }, stay);
        expect(new Set(one.turns)).toEqual(new Set([...mine, ...theirs]));
        expect(one.turns.length).toBe(new Set([...mine, ...theirs]).size);
      }),
    );
  });

  test("shows what is new, unless it is to stay where it is", () => {
    const mine = { ...tree, turns: turns.slice(0, 3), at: "c", title: "mine", updated: 9 };
    const theirs = { ...tree, at: "e", title: "theirs", updated: 6 };
    expect(merged(mine, theirs)).toMatchObject({ at: "e", title: "theirs", updated: 9 });
    expect(merged(mine, theirs, true).at).toBe("c");
    // Another version in sight there is none of this tab's business.
    expect(merged({ ...mine, turns }, theirs).at).toBe("c");
  });

  test("has of a turn that was kept before its end the whole", () => {
    const half = turn("b", "a", 2, { content: "ha" });
    const whole = turn("b", "a", 3, { content: "half and half" });
    for (const [one, other] of [
      [half, whole],
      [whole, half],
    ] as const)
      expect(merged({ ...tree, turns: [one] }, { ...tree, turns: [other] }).turns).toEqual([whole]);
    expect(withTurn({ ...tree, turns: [half] }, whole).turns).toEqual([whole]);
  });
});

test("conversations of version 1 become turns that stand behind each other", () => {
  const { turns: _, at: __, ...head } = emptyConversation(100, "Be brief.");
  const facts = { ids: [1] } as unknown as NonNullable<Turn["facts"]>;
  const old = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello!", facts },
    { role: "user", content: "And?" },
  ] as const;
  const now = upgraded({ ...head, turns: old });
  expect(inSight(now)).toMatchObject(old);
  expect(now).toMatchObject({ ...head, at: now.turns[2]!.id });
  expect(new Set(now.turns.map(({ id }) => id)).size).toBe(3);
  expect(upgraded({ ...head, turns: [] })).toMatchObject({ turns: [], at: null });
  expect(inARow(old, 7).map(({ said }) => said)).toEqual([7, 8, 9]);
});
