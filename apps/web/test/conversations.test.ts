// Conversations: renamed, deleted, kept, and followed where another tab writes them.
import { describe, expect, test } from "vitest";
import { withTurn } from "../src/state/versions.ts";
import {
  answering,
  app,
  facts,
  frames,
  loaded,
  settled,
  state,
  store,
  turns,
  versions,
  words,
  worker,
} from "./told-engine.ts";

describe("conversations", () => {
  test("are renamed, opened and deleted", async () => {
    await loaded();
    answering("a");
    await app.answers.send("one");
    const { id } = state().current;
    await app.conversations.rename(id, "Mine");
    app.conversations.fresh();
    expect(state().current.turns).toEqual([]);
    app.conversations.open(id);
    expect(state().current).toMatchObject({ title: "Mine", named: true });
    await app.conversations.remove(id);
    expect([state().conversations, await store.list()]).toEqual([[], []]);
    expect(state().current.id).not.toBe(id);
  });

  test("that cannot be kept say so once, and go on", async () => {
    await loaded();
    answering("a");
    store.put = () => Promise.reject(Object.assign(new Error("full"), { name: "QuotaExceededError" }));
    await app.answers.send("one");
    await app.answers.send("two");
    expect(state().current.turns.length).toBe(4);
    expect(state().notices.map(({ title }) => title)).toEqual(["The conversation is not kept"]);
    expect(state().notices[0]?.text).toContain("storage is full");
  });

  test("follow what another tab keeps and removes", async () => {
    await loaded();
    answering("a");
    await app.answers.send("one");
    const mine = state().current;
    const theirs = withTurn(mine, { id: "t", parent: mine.at, said: 1000, role: "user", content: "two" });
    store.onElsewhere({ kept: theirs });
    expect(state().current.turns.length).toBe(3);
    // What is said here goes on from there.
    await app.answers.send("three");
    expect(words()).toEqual(["one", "a", "two", "three", "a"]);
    store.onElsewhere({ kept: { ...theirs, id: "other", title: "Other" } });
    expect(state().conversations.map(({ title }) => title)).toEqual(["Other", "one"]);
    expect(state().current.id).toBe(mine.id);
    store.onElsewhere({ removed: mine.id });
    expect(state().current.turns).toEqual([]);
    expect(state().conversations.map(({ id }) => id)).toEqual(["other"]);
  });

  test("that another tab removes are not brought back by an answer that comes later", async () => {
    await loaded();
    worker().answer = () => {};
    const sent = app.answers.send("one");
    await settled();
    const { ticket } = worker().asked.at(-1)!;
    const { id } = state().current;
    // Another tab's word of it does not disturb what is being written.
    store.onElsewhere({ kept: { ...state().current, turns: [], at: null } });
    expect(words()).toEqual(["one"]);
    store.onElsewhere({ removed: id });
    await store.remove(id);
    worker().done(ticket, facts);
    await sent;
    expect([state().conversations, await store.list()]).toEqual([[], []]);
  });

  test("keep an unfinished answer when the page goes away", async () => {
    await loaded();
    worker().answer = ({ ticket, kind }) => {
      if (kind === "ask") worker().say({ ticket, kind: "piece", text: "half of", tokens: 1 });
    };
    void app.answers.send("Hi");
    await settled();
    for (const frame of frames) frame();
    await app.answers.keepUnfinished();
    expect((await store.list())[0]!.turns.map(({ content }) => content)).toEqual(["Hi", "half of"]);
    // It was not: the whole answer takes its place.
    worker().say({ ticket: worker().asked.at(-1)!.ticket, kind: "piece", text: " it", tokens: 1 });
    worker().done(worker().asked.at(-1)!.ticket, facts);
    await settled();
    expect((await store.list())[0]!.turns.map(({ content }) => content)).toEqual(["Hi", "half of it"]);
  });

  test("that two tabs answer at once keep the turns of both", async () => {
    await loaded();
    answering("a");
    await app.answers.send("one");
    const before = state().current;
    worker().answer = () => {};
    const sent = app.answers.send("mine");
    await settled();
    const { ticket } = worker().asked.at(-1)!;
    let theirs = withTurn(before, { id: "q", parent: before.at, said: 1000, role: "user", content: "theirs" });
    theirs = withTurn(theirs, { id: "r", parent: "q", said: 1001, role: "assistant", content: "b" });
    store.onElsewhere({ kept: { ...theirs, title: "Renamed there", named: true } });
    expect(words().at(-1)).toBe("mine");
    worker().say({ ticket, kind: "piece", text: "c", tokens: 1 });
    worker().done(ticket, facts);
    await sent;
    expect(words()).toEqual(["one", "a", "mine", "c"]);
    expect(versions(2)).toEqual(["mine", "theirs"]);
    const [kept] = await store.list();
    expect(kept!.turns.map(({ content }) => content).sort()).toEqual(["a", "b", "c", "mine", "one", "theirs"]);
    expect(kept!.title).toBe("Renamed there");
  });

  test("in which another tab answers take no question, which is kept to be sent later", async () => {
    await loaded();
    turns.take = async () => null;
    expect(await app.answers.send("Hi")).toBe(false);
    expect([state().answering, state().current.turns]).toEqual([null, []]);
    expect(state().notices.map(({ title }) => title)).toEqual(["Another tab is answering here"]);
    turns.onElsewhere(true);
    expect(state()).toMatchObject({
      elsewhere: true,
      announcement: "Another tab is answering in this conversation.",
    });
    turns.onElsewhere(false);
    expect(state()).toMatchObject({ elsewhere: false, announcement: "The other tab has answered." });
    let back = 0;
    turns.take = async () => () => void back++;
    answering("Hello");
    expect(await app.answers.send("Hi")).toBe(true);
    expect([words(), back, state().notices]).toEqual([["Hi", "Hello"], 1, []]);
  });
});
