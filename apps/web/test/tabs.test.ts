// What tabs of one browser have to agree on, and what each keeps for itself: the right to answer, and drafts.
import { setTimeout } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { keptDrafts } from "../src/storage/drafts.ts";
import { turnTaking } from "../src/storage/turn-taking.ts";

const locked = typeof navigator.locks === "object";
describe.skipIf(!locked)(`the right to answer${locked ? "" : " (skipped: this Node has no Web Locks)"}`, () => {
  // Two of these in one process are as two tabs.
  const tab = () => turnTaking(navigator.locks);

  test("is one tab's at a time, in each conversation", async () => {
    const [one, other] = [tab(), tab()];
    const back = await one.take("a");
    expect(back).not.toBeNull();
    expect(await other.take("a")).toBeNull();
    const elsewhere = await other.take("b");
    expect(elsewhere).not.toBeNull();
    elsewhere!();
    back!();
    await setTimeout();
    const again = await other.take("a");
    expect(again).not.toBeNull();
    again!();
  });

  test("passes on without a refusal where it is about to be given back", async () => {
    const [one, other] = [tab(), tab()];
    const back = await one.take("f");
    const waiting = other.take("f");
    await setTimeout(20);
    back!();
    const again = await waiting;
    expect(again).not.toBeNull();
    again!();
  });

  test("is followed by the others, in the conversation in sight", async () => {
    const [one, other] = [tab(), tab()];
    const told: boolean[] = [];
    other.onElsewhere = (busy) => told.push(busy);
    one.onElsewhere = () => expect.unreachable();
    const back = await one.take("c");
    one.watch("c");
    other.watch("c");
    await expect.poll(() => told).toEqual([true]);
    other.watch("d");
    expect(told).toEqual([true, false]);
    other.watch("c");
    await expect.poll(() => told).toEqual([true, false, true]);
    back!();
    await expect.poll(() => told).toEqual([true, false, true, false]);
  });

  test("is learnt of when it is refused", async () => {
    const [one, other] = [tab(), tab()];
    const told: boolean[] = [];
    other.watch("e");
    await setTimeout();
    other.onElsewhere = (busy) => told.push(busy);
    const back = await one.take("e");
    expect(await other.take("e")).toBeNull();
    await expect.poll(() => told).toEqual([true]);
    back!();
  });

  test("is everybody's where there are no locks, or they are refused", async () => {
    const refused = {
      request: () => Promise.reject(new Error("Not here.")),
      query: () => Promise.reject(new Error("Not here.")),
    } as unknown as LockManager;
    for (const locks of [undefined, refused]) {
      const one = turnTaking(locks);
      one.onElsewhere = () => expect.unreachable();
      one.watch("a");
      (await one.take("a"))!();
      (await one.take("a"))!();
    }
  });
});

describe("drafts", () => {
  function place() {
    const kept = new Map<string, string>();
    return {
      kept,
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, text: string) => void kept.set(key, text),
      removeItem: (key: string) => void kept.delete(key),
    };
  }

  test("are kept until they are sent", () => {
    const [own, all] = [place(), place()];
    const open = () => keptDrafts([() => own, () => all]);
    open().save("a", "Half a sen");
    const drafts = open(); // the page, loaded again
    expect([drafts.load("a"), drafts.load("b")]).toEqual(["Half a sen", ""]);
    drafts.save("a", "");
    expect([drafts.load("a"), own.kept.size, all.kept.size]).toEqual(["", 0, 0]);
  });

  test("of two tabs are each tab's own, and the last one outlives them", () => {
    const [mine, theirs, all] = [place(), place(), place()];
    const here = () => keptDrafts([() => mine, () => all]);
    const there = keptDrafts([() => theirs, () => all]);
    const drafts = here();
    drafts.save("new", "mine");
    there.save("new", "theirs");
    expect(here().load("new")).toBe("mine");
    drafts.save("new", ""); // sent
    expect(keptDrafts([() => theirs, () => all]).load("new")).toBe("theirs");
    expect(keptDrafts([place, () => all]).load("new")).toBe("theirs");
  });

  test("are known until the page is closed where nothing is kept", () => {
    const drafts = keptDrafts([
      () => {
        throw new Error("The operation is insecure.");
      },
    ]);
    expect(drafts.load("a")).toBe("");
    drafts.save("a", "Half a sen");
    expect(drafts.load("a")).toBe("Half a sen");
  });
});
