// Models: one answers while another one is loaded, fails to load, or dies.
import { describe, expect, test } from "vitest";
import {
  answering,
  app,
  demo,
  facts,
  frames,
  loaded,
  model,
  settled,
  state,
  words,
  worker,
  workers,
} from "./told-engine.ts";

describe("models", () => {
  test("come from a worker that may begin ahead of them, and is the only one", async () => {
    app.around.engine.start();
    expect(workers.length).toBe(1);
    await loaded();
    expect(workers.length).toBe(1);
  });

  test("that fail to load leave the one before", async () => {
    await loaded();
    worker().answer = ({ ticket }) => worker().fail(ticket, "hub-not-found", "There is no model a/b.");
    expect(await app.models.load({ ...demo, source: { kind: "hub", name: "a/b" } })).toBe(false);
    expect(state().model).toBe(model);
    expect(state().notices[0]).toMatchObject({ title: "There is no such model", text: "There is no model a/b." });
  });

  test("that cannot chat say so before anything is said to them", async () => {
    const loading = app.models.load(demo);
    worker().answer = ({ ticket }) => worker().done(ticket, { ...model, chats: false });
    expect(await loading).toBe(true);
    expect(state().notices).toMatchObject([{ title: "This model does not chat", ways: ["choose-model"] }]);
    expect(state().notices[0]!.text).toContain("choose an instruct model");
  });

  test("that are on their way let the one before finish what it says, and go on answering", async () => {
    await loaded();
    worker().answer = () => {};
    const sent = app.answers.send("Hi");
    await settled();
    const { ticket } = worker().asked.at(-1)!;
    const loading = app.models.load({ ...demo, source: { kind: "hub", name: "a/b" } });
    await settled();
    const other = worker().asked.at(-1)!;
    expect(other.kind).toBe("load");
    expect(worker().asked).not.toContainEqual({ kind: "cancel", ticket });
    worker().say({ ticket, kind: "piece", text: "Hello", tokens: 1 });
    worker().done(ticket, facts);
    await sent;
    answering("again");
    await app.answers.send("And?");
    expect(state().loading?.name).toBe("a/b");
    expect(words()).toEqual(["Hi", "Hello", "And?", "again"]);
    worker().done(other.ticket, model);
    expect(await loading).toBe(true);
  });

  test("are cancelled, and say so", async () => {
    const loading = app.models.load(demo);
    worker().answer = ({ ticket, kind }) => {
      if (kind === "cancel") worker().fail(ticket, "aborted");
    };
    await settled();
    app.models.cancelLoading();
    expect(await loading).toBe(false);
    expect([state().loading, state().notices]).toEqual([null, []]);
    expect(state().announcement).toContain("cancelled");
  });

  test("tell of their progress as often as the page is drawn", async () => {
    const loading = app.models.load(demo);
    const { ticket } = worker().asked[0]!;
    for (let loaded = 1; loaded <= 100; loaded++)
      worker().say({ ticket, kind: "progress", progress: { phase: "fetching", file: "f", loaded, total: 100 } });
    expect(frames.length).toBe(1);
    frames[0]!();
    expect(state().loading?.progress?.loaded).toBe(100);
    worker().done(ticket, model);
    await loading;
  });

  test("whose worker dies can be loaded again, in a new one", async () => {
    await loaded();
    const sent = app.answers.send("Hi");
    await settled();
    worker().onerror?.({ message: "out of memory" } as ErrorEvent);
    await sent;
    expect(worker().terminated).toBe(true);
    expect(state().model).toBeNull();
    expect(state().notices[0]?.text).toContain("out of memory");
    expect(words()).toEqual(["Hi"]);
    await loaded();
    expect(workers.length).toBe(2);
  });
});
