// Conversations, settings and files: what is kept, and what is refused when it is read back.
import { describe, expect, test } from "vitest";
import { type Conversation, emptyConversation, messagesOf, titleOf, UNTITLED } from "../src/state/conversation.ts";
import { hubName } from "../src/state/hub-name.ts";
import {
  answerOptions,
  DEFAULT_PARAMETERS,
  DEFAULT_SETTINGS,
  fitted,
  readSettings,
  seedOf,
} from "../src/state/settings.ts";
import { inSight, versionsOf, withTurn } from "../src/state/versions.ts";
import { memoryStore, openConversations } from "../src/storage/database.ts";
import { gathered } from "../src/storage/local-files.ts";
import { exportSession, fileNameOf, importSession } from "../src/storage/session-file.ts";

const facts = {
  ids: [5, 6],
  promptIds: [1, 2],
  stopReason: "eos",
  seed: 0,
  firstMs: 1,
  speed: 10,
  truncated: 0,
  model: "m",
  backend: "wasm",
} as const;
const talk: Conversation = {
  ...emptyConversation(5, "Be brief."),
  turns: [
    { id: "q", parent: null, said: 5, role: "user", content: "Hi" },
    { id: "a", parent: "q", said: 6, role: "assistant", content: "Hello!", facts },
  ],
  at: "a",
};
const given = (conversation: Conversation) => messagesOf(conversation.system, inSight(conversation));

describe("a conversation", () => {
  test("is named by what was said first, unless the person named it", () => {
    const turn = { id: "q", parent: null, said: 2, role: "user", content: "  What is\nthis? " } as const;
    const said = withTurn(emptyConversation(1), turn);
    expect([said.title, said.updated]).toEqual(["What is this?", 2]);
    const named = withTurn({ ...said, title: "Mine", named: true }, { ...turn, id: "r", content: "Other" });
    expect(named.title).toBe("Mine");
    expect(titleOf("")).toBe(UNTITLED);
    expect(titleOf("word ".repeat(30)).length).toBeLessThanOrEqual(61);
    expect(titleOf(`a${"🎉".repeat(80)}`)).toBe(`a${"🎉".repeat(29)}…`); // no half of one
  });

  test("is given to the model with its system message first", () => {
    expect(given(talk).map(({ role }) => role)).toEqual(["system", "user", "assistant"]);
    expect(given({ ...talk, system: " " }).map(({ role }) => role)).toEqual(["user", "assistant"]);
  });
});

test.each([
  ["SmallDoge/Doge-20M", { name: "SmallDoge/Doge-20M" }],
  ["https://huggingface.co/SmallDoge/Doge-20M", { name: "SmallDoge/Doge-20M" }],
  ["huggingface.co/SmallDoge/Doge-20M/", { name: "SmallDoge/Doge-20M" }],
  ["https://hf.co/a/b/tree/v%201/sub", { name: "a/b", revision: "v 1" }],
  ["https://hf.co/a/b/tree/100%/sub", { name: "a/b", revision: "100%" }],
  ["http://127.0.0.1:8000/a/b?x=1", { name: "a/b", endpoint: "http://127.0.0.1:8000" }],
  ["https://huggingface.co/a", { name: "https://huggingface.co/a" }],
  ["https://", { name: "https://" }],
  ["Doge", { name: "Doge" }],
])("a model of a hub is named by its name or by the address of its page: %s", (text, named) => {
  expect(hubName(text)).toEqual(named);
});

describe("a saved session", () => {
  const file = (content: unknown) =>
    new File([typeof content === "string" ? content : JSON.stringify(content)], "a.json");

  test("comes back as it was", async () => {
    const saved = exportSession(talk);
    expect(saved).toMatchObject({ format: "doge-session", version: 1, ids: [1, 2, 5, 6] });
    expect(saved).not.toHaveProperty("turns");
    const read = await importSession(file(saved), 7);
    expect(given(read)).toEqual(given(talk));
    expect(read).toMatchObject({ title: "Hi", system: "Be brief." });
    expect(read.id).not.toBe(talk.id);
  });

  test("comes back with every version, and with the one that was in sight", async () => {
    const bye = { id: "b", parent: "q", said: 7, role: "assistant", content: "Bye!" } as const;
    const versions = { ...withTurn(talk, bye), at: "a" };
    const saved = exportSession(versions);
    expect(saved.messages).toEqual(given(talk));
    const read = await importSession(file(saved), 9);
    expect(given(read)).toEqual(given(talk));
    expect(versionsOf(read.turns, inSight(read)[1]!).map(({ content }) => content)).toEqual(["Hello!", "Bye!"]);
    // Another program went on from there: its messages are no list of turns, and none of them is lost.
    const messages = [...saved.messages, { role: "user", content: "And?" }, { role: "assistant", content: "So." }];
    const longer = await importSession(file({ ...saved, messages }), 9);
    expect(given(longer)).toEqual(messages);
    expect(longer.turns.length).toBe(5);
  });

  test.each([
    ["{", "not JSON"],
    [[], "no saved session"],
    [{ format: "doge-session", version: 2, messages: [] }, "version 2"],
    [{ format: "doge-session", version: 1, messages: {} }, "no list of messages"],
    [{ format: "doge-session", version: 1, messages: [null] }, "message 0 has no text"],
    [{ format: "doge-session", version: 1, messages: [{ role: "tool", content: "x" }] }, 'role "tool"'],
    [{ format: "doge-session", version: 1, messages: [], turns: {} }, "turns are no list"],
    [{ format: "doge-session", version: 1, messages: [], turns: [{ role: "user", parent: null }] }, "turn 0 has no"],
    [
      { format: "doge-session", version: 1, messages: [], turns: [{ role: "user", content: "x", parent: 0 }] },
      "turn 0 stands behind none",
    ],
  ])("is refused with a sentence: %j", async (content, why) => {
    await expect(importSession(file(content), 1)).rejects.toThrow(why);
  });

  test("has a name that any file system takes", () => {
    expect(fileNameOf({ ...talk, title: "Où est / le café?" })).toBe("ou-est-le-cafe.doge.json");
    expect(fileNameOf({ ...talk, title: "☃" })).toBe("conversation.doge.json");
  });
});

describe("settings", () => {
  test("that were kept are checked when they are read", () => {
    expect(readSettings(null)).toEqual(DEFAULT_SETTINGS);
    expect(readSettings({ theme: "pink", backend: "cuda", threads: 1e9, dtype: 4, system: {}, parameters: 3 })).toEqual(
      DEFAULT_SETTINGS,
    );
    const own = { ...DEFAULT_SETTINGS, theme: "dark", threads: 2, parameters: { ...DEFAULT_PARAMETERS, seed: 7 } };
    expect(readSettings(JSON.parse(JSON.stringify(own)))).toEqual(own);
    expect(readSettings({ parameters: { temperature: 99, topK: -1, topP: "x" } }).parameters).toMatchObject({
      temperature: 2,
      topK: 0,
      topP: 1,
    });
  });

  test("mean the options of generate", () => {
    expect(answerOptions(DEFAULT_PARAMETERS)).toEqual({ maxNewTokens: 256, temperature: 0, repetitionPenalty: 1 });
    expect(answerOptions({ ...DEFAULT_PARAMETERS, temperature: 0.5, seed: 3 })).toMatchObject({ topK: 50, seed: 3 });
  });

  test("take numbers inside their ranges alone", () => {
    expect([fitted("topK", 7.4), fitted("topP", 0), fitted("minP", Number.NaN)]).toEqual([7, 0.05, 0]);
    expect([seedOf(""), seedOf("12"), seedOf("-1"), seedOf("4294967296"), seedOf("x")]).toEqual([
      null,
      12,
      null,
      null,
      null,
    ]);
  });
});

describe("files of this machine", () => {
  const named = (path: string): [string, File] => [path, new File(["x"], path.split("/").at(-1)!)];

  test("lose the folder that config.json lies in", () => {
    const files = gathered([named("Doge/config.json"), named("Doge/model.safetensors"), named("other.txt")]);
    expect(Object.keys(files).sort()).toEqual(["config.json", "model.safetensors"]);
    expect(Object.keys(gathered([named("config.json"), named("a/config.json")]))).toEqual([
      "config.json",
      "a/config.json",
    ]);
  });

  test("without a config.json are refused with the way out", () => {
    expect(() => gathered([named("model.gguf")])).toThrow("choose the model's whole folder");
  });
});

describe("the store of conversations", () => {
  test("is in memory, with the reason, where there is no database", async () => {
    const store = await openConversations(undefined);
    expect(store.fault).toContain("until the page is closed");
    await store.put(talk);
    await store.put({ ...talk, id: "2", updated: 9 });
    expect((await store.list()).map(({ id }) => id)).toEqual(["2", talk.id]);
    await store.remove("2");
    expect(await store.list()).toEqual([talk]);
    expect(memoryStore().fault).toBeNull();
  });

  test("says why when the database does not open", async () => {
    const request = { error: new Error("the disk is broken") } as unknown as IDBOpenDBRequest;
    const factory = {
      open: () => {
        queueMicrotask(() => request.onerror?.(new Event("error")));
        return request;
      },
    } as unknown as IDBFactory;
    expect((await openConversations(factory)).fault).toContain("the disk is broken");
  });
});
