// The controller with an engine that does as it is told: what is shown, kept and said when things go well and when they do not.
import { beforeEach, describe, expect, test } from "vitest";
import { EngineClient, type EnginePort } from "../src/engine/client.ts";
import type { AnswerFacts, LoadRequest, ModelFacts, Report, Request } from "../src/engine/protocol.ts";
import { App } from "../src/state/app.ts";
import { DEFAULT_SETTINGS } from "../src/state/settings.ts";
import { inSight, versionsOf, withTurn } from "../src/state/versions.ts";
import { type ConversationStore, memoryStore } from "../src/storage/database.ts";
import { keptDrafts } from "../src/storage/drafts.ts";
import { type TurnTaking, turnTaking } from "../src/storage/turn-taking.ts";

const model = {
  name: "Demo model",
  backend: "wasm",
  device: "wasm simd128",
  context: 512,
  chats: true,
  warnings: [],
} as unknown as ModelFacts;
const facts: AnswerFacts = {
  model: "Demo model",
  backend: "wasm",
  ids: [3],
  promptIds: [1],
  stopReason: "eos",
  seed: 0,
  firstMs: 1,
  speed: null,
  truncated: 0,
};
const demo: LoadRequest = { source: { kind: "demo" }, backend: "auto", dtype: "f32" };

/** A worker whose answers are those of `script`, each time it is asked. */
class FakeWorker implements EnginePort {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  readonly asked: Request[] = [];
  terminated = false;
  answer: (request: Request) => void = () => {};
  postMessage(message: unknown): void {
    this.asked.push(message as Request);
    queueMicrotask(() => this.answer(message as Request));
  }
  say(report: Report): void {
    this.onmessage?.({ data: report } as MessageEvent);
  }
  done(ticket: number, result: unknown): void {
    this.say({ ticket, kind: "done", result } as Report);
  }
  fail(ticket: number, code: string, message = "It failed."): void {
    this.say({ ticket, kind: "failed", problem: { code, message } });
  }
  terminate(): void {
    this.terminated = true;
  }
}

let workers: FakeWorker[];
let store: ConversationStore;
let turns: TurnTaking;
let app: App;
let frames: (() => void)[];
const worker = () => workers.at(-1)!;
const state = () => app.state.get();
const words = () => inSight(state().current).map(({ content }) => content);
/** Of what stands at this place. */
const versions = (place: number) =>
  versionsOf(state().current.turns, inSight(state().current)[place]!).map(({ content }) => content);
const settled = () => new Promise((done) => setTimeout(done));

beforeEach(() => {
  workers = [];
  frames = [];
  store = memoryStore();
  turns = turnTaking(undefined);
  const engine = new EngineClient(() => {
    workers.push(new FakeWorker());
    return worker();
  });
  let time = 0;
  app = new App({
    engine,
    store,
    turns,
    drafts: keptDrafts([]),
    settings: DEFAULT_SETTINGS,
    saveSettings: () => {},
    nextFrame: (work) => frames.push(work),
    now: () => ++time,
  });
});

async function loaded(): Promise<void> {
  const loading = app.models.load(demo);
  worker().answer = ({ ticket, kind }) => {
    if (kind === "load") worker().done(ticket, model);
  };
  expect(await loading).toBe(true);
}

/** Answer what is asked with these pieces. */
function answering(...pieces: string[]): void {
  worker().answer = ({ ticket, kind }) => {
    if (kind !== "ask") return;
    for (const text of pieces) worker().say({ ticket, kind: "piece", text, tokens: 1 });
    worker().done(ticket, facts);
  };
}

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
