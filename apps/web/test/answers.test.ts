// Answers: what is shown, kept and said of them when things go well and when they do not.
import { describe, expect, test } from "vitest";
import { inSight, versionsOf } from "../src/state/versions.ts";
import {
  answering,
  app,
  facts,
  frames,
  loaded,
  settled,
  state,
  store,
  versions,
  words,
  worker,
} from "./told-engine.ts";

describe("answers", () => {
  test("are shown as often as the page is drawn, and kept", async () => {
    await loaded();
    let shown = 0;
    app.state.subscribe(() => {
      if (state().answering?.text) shown++;
    });
    answering(..."abcdefgh");
    await app.answers.send(" Hi ");
    expect(frames.length).toBe(1); // eight pieces, one drawing
    frames[0]!();
    expect(shown).toBe(0); // the answer had ended before it
    expect(state().current.turns).toMatchObject([
      { role: "user", content: "Hi" },
      { role: "assistant", content: "abcdefgh", facts: { model: "Demo model" } },
    ]);
    expect(state().answering).toBeNull();
    expect(state().announcement).toBe("Doge answered: abcdefgh");
    expect((await store.list())[0]!.turns.length).toBe(2);
  });

  test("that are stopped stay as far as they came", async () => {
    await loaded();
    worker().answer = ({ ticket, kind }) => {
      if (kind === "ask") worker().say({ ticket, kind: "piece", text: "Once", tokens: 1 });
      if (kind === "cancel") worker().done(ticket, { ...facts, stopReason: "abort" });
    };
    const sent = app.answers.send("A story");
    await settled();
    expect(state().answering).not.toBeNull();
    app.answers.stop();
    await sent;
    expect(state().current.turns.at(-1)).toMatchObject({ content: "Once", facts: { stopReason: "abort" } });
    expect(state().announcement).toBe("Stopped.");
  });

  test("that are stopped before their first token leave the question alone, to be answered later", async () => {
    await loaded();
    worker().answer = ({ ticket, kind }) => {
      if (kind === "cancel") worker().done(ticket, { ...facts, ids: [], stopReason: "abort" });
    };
    const sent = app.answers.send("A story");
    await settled();
    app.answers.stop();
    await sent;
    expect(words()).toEqual(["A story"]);
    answering("Once");
    await app.answers.retry();
    expect(words()).toEqual(["A story", "Once"]);
  });

  test("that fail leave what was said, what had come and a notice", async () => {
    await loaded();
    worker().answer = ({ ticket, kind }) => {
      if (kind !== "ask") return;
      worker().say({ ticket, kind: "piece", text: "On", tokens: 1 });
      worker().fail(ticket, "device-lost", "The device is gone.");
    };
    await app.answers.send("Hi");
    expect(words()).toEqual(["Hi", "On"]);
    expect(state().notices[0]).toMatchObject({ title: "The GPU was lost", ways: ["try-again", "wasm"] });
    // Another answer stands beside the one that broke off.
    answering("Hello");
    await app.answers.retry();
    expect(words()).toEqual(["Hi", "Hello"]);
    expect(versions(1)).toEqual(["On", "Hello"]);
  });

  test("again and the same at temperature 0 are explained", async () => {
    await loaded();
    answering("Hello");
    await app.answers.send("Hi");
    await app.answers.retry();
    expect(state().notices[0]?.text).toContain("temperature 0");
  });

  test("that were asked for again and did not come at all leave the one before", async () => {
    await loaded();
    answering("Hello");
    await app.answers.send("Hi");
    worker().answer = ({ ticket, kind }) => {
      if (kind === "ask") worker().fail(ticket, "device-lost", "The device is gone.");
    };
    const before = state().current;
    const again = app.answers.retry();
    await settled();
    await again;
    expect(state().current).toEqual(before);
    expect(words()).toEqual(["Hi", "Hello"]);
    expect((await store.list())[0]!.turns.length).toBe(2);
    expect(state().notices.map(({ title }) => title)).toEqual(["The GPU was lost"]);
  });

  test("of a conversation that is too long say so once, and no longer than they are in sight", async () => {
    await loaded();
    worker().answer = ({ ticket, kind }) => {
      if (kind === "ask") worker().done(ticket, { ...facts, truncated: 10 * ticket });
    };
    await app.answers.send("one");
    await app.answers.send("two");
    expect(state().notices.map(({ title }) => title)).toEqual(["The beginning is out of sight"]);
    app.conversations.fresh();
    expect(state().notices).toEqual([]);
    worker().answer = ({ ticket }) => worker().fail(ticket, "context-overflow", "Shorten it.");
    await app.answers.send("three");
    expect(state().notices.map(({ title }) => title)).toEqual(["The conversation is too long"]);
    answering("a");
    await app.answers.send("four");
    expect(state().notices).toEqual([]);
  });

  test("to an earlier message said otherwise stand beside what came after", async () => {
    await loaded();
    answering("a");
    await app.answers.send("one");
    await app.answers.send("two");
    const [first] = inSight(state().current);
    await app.answers.edit(first!, "three");
    expect(words()).toEqual(["three", "a"]);
    expect(worker().asked.at(-1)).toMatchObject({ messages: [{ role: "user", content: "three" }] });
    expect(versions(0)).toEqual(["one", "three"]);
    await app.conversations.see(first!.id, "");
    expect(words()).toEqual(["one", "a", "two", "a"]);
    // What is in sight is what is kept.
    expect(inSight((await store.list())[0]!).length).toBe(4);
    // The same words once more are another answer to them, and no message of their own.
    await app.answers.edit(first!, " one ");
    expect(words()).toEqual(["one", "a"]);
    expect(versions(0)).toEqual(["one", "three"]);
    expect(versions(1)).toEqual(["a", "a"]);
  });

  test("have versions, each with what followed it, of which one is given to the model", async () => {
    await loaded();
    answering("first");
    await app.answers.send("one");
    answering("second");
    await app.answers.retry();
    expect([words(), versions(1)]).toEqual([
      ["one", "second"],
      ["first", "second"],
    ]);
    answering("third");
    await app.answers.send("two");
    const [, second] = inSight(state().current);
    const [first] = versionsOf(state().current.turns, second!);
    await app.conversations.see(first!.id, "Version 1 of 2.");
    expect(state().announcement).toBe("Version 1 of 2.");
    expect(words()).toEqual(["one", "first"]);
    await app.answers.send("three");
    expect(worker().asked.at(-1)).toMatchObject({
      messages: [{ content: "one" }, { content: "first" }, { content: "three" }],
    });
    await app.conversations.see(second!.id, "");
    expect(words()).toEqual(["one", "second", "two", "third"]);
  });

  test("go to the conversation that they were asked in", async () => {
    await loaded();
    worker().answer = ({ ticket, kind }) => {
      if (kind === "cancel") worker().done(ticket, { ...facts, stopReason: "abort" });
      if (kind === "ask") worker().say({ ticket, kind: "piece", text: "late", tokens: 1 });
    };
    const sent = app.answers.send("first");
    await settled();
    const { id } = state().current;
    app.conversations.fresh();
    expect(state().answering).toBeNull();
    await sent;
    expect(state().current.turns).toEqual([]);
    expect(state().conversations.find((one) => one.id === id)?.turns.length).toBe(2);
  });

  test("keep the name that the conversation got meanwhile, and do not bring back one that was deleted", async () => {
    await loaded();
    const begin = async (text: string) => {
      worker().answer = () => {};
      const sent = app.answers.send(text);
      await settled();
      return { sent, ticket: worker().asked.at(-1)!.ticket, id: state().current.id };
    };
    const first = await begin("one");
    await app.conversations.rename(first.id, "Mine");
    worker().done(first.ticket, facts);
    await first.sent;
    expect(state().current).toMatchObject({ title: "Mine", named: true });
    const second = await begin("two");
    await app.conversations.remove(second.id);
    worker().done(second.ticket, facts);
    await second.sent;
    expect([state().conversations, await store.list()]).toEqual([[], []]);
  });

  test("without a model say what to do", async () => {
    await app.answers.send("Hi");
    expect(state().notices[0]).toMatchObject({ title: "No model is loaded", ways: ["choose-model", "demo-model"] });
    expect(state().current.turns).toEqual([]);
  });
});
