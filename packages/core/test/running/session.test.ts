// Sessions on the mock: conversations kept, cloned, restored, and longer than the context.
import { describe, expect, it } from "vitest";
import { code, greedyAfter, open, user } from "./doge.ts";
import { mockTokenizer } from "./text.ts";

describe("session", () => {
  it("keeps the conversation, reuses its past, and forgets turns", async () => {
    const { doge } = await open();
    const session = doge.session({ system: "be", maxNewTokens: 5 });
    const first = await session.send("hi").result();
    expect(session.messages).toEqual([
      { role: "system", content: "be" },
      user("hi"),
      { role: "assistant", content: first.text },
    ]);
    expect([...first.promptIds]).toEqual([...mockTokenizer().encode("[sbe][uhi]>", { addSpecial: false })]);
    const second = await session.send(user("yo"), { maxNewTokens: 2 }).result();
    expect(second.ids.length).toBe(2);
    // Of the second prompt everything up to the first answer was there: the template's text of it is another one here.
    expect(second.timings.prefillTokens).toBeLessThanOrEqual(second.promptIds.length - first.promptIds.length + 1);
    expect(session.messages.length).toBe(5);
    session.rewind(1);
    expect(session.messages.length).toBe(3);
    session.rewind(5);
    expect(session.messages).toEqual([{ role: "system", content: "be" }]);
    expect(() => session.rewind(-1)).toThrow("turns is -1");
    expect([...(await session.send("hi").result()).ids]).toEqual([...first.ids]);
    await session.close();
  });

  it("clones and restores to the same continuation, without disturbing the other", async () => {
    const { doge } = await open();
    const session = doge.session({ maxNewTokens: 4 });
    await session.send("one").result();
    const copy = session.clone();
    const saved = JSON.parse(JSON.stringify(session.save()));
    const answer = await session.send("two").result();
    const other = await copy.send("three").result();
    expect([...other.ids]).toEqual(greedyAfter(other.promptIds, 4));
    const { doge: elsewhere } = await open();
    const restored = elsewhere.restore(saved, { maxNewTokens: 4 });
    expect([...(await restored.send("two").result()).ids]).toEqual([...answer.ids]);
    expect(restored.messages).toEqual(session.messages);
    expect(restored.save().ids).toEqual([...answer.promptIds, ...answer.ids]);
    for (const bad of [
      null,
      {},
      { ...saved, version: 2 },
      { ...saved, messages: [{}] },
      { ...saved, messages: [{ role: "user", content: 5 }] },
      { ...saved, ids: [40] },
    ]) {
      expect(code(() => doge.restore(bad as never))).toBe("invalid-argument");
    }
  });

  it("an aborted answer stays as far as it came; a turn without an answer, or that failed, was none", async () => {
    const { doge, raw } = await open();
    const session = doge.session({ maxNewTokens: 200 });
    let said = "";
    for await (const piece of session.send("hi")) {
      said += piece.text;
      if (said.length > 10) break;
    }
    expect(session.messages).toEqual([user("hi"), { role: "assistant", content: said }]);
    expect((await session.send("x", { signal: AbortSignal.abort() }).result()).stopReason).toBe("abort");
    expect(session.messages.length).toBe(2);
    raw.fail = new Error("the mock fell over");
    await expect(session.send("x").result()).rejects.toThrow("fell over");
    expect(session.messages.length).toBe(2);
    expect((await session.send("x", { maxNewTokens: 2 }).result()).ids.length).toBe(2);
    expect(session.messages.length).toBe(4);
  });

  it("answers one at a time", async () => {
    const { doge } = await open();
    const session = doge.session({ maxNewTokens: 5 });
    const answer = session.send("hi");
    await answer[Symbol.asyncIterator]().next();
    expect(code(() => session.send("and"))).toBe("invalid-argument");
    expect(code(() => session.rewind(1))).toBe("invalid-argument");
    await answer.result();
    expect((await session.send("and").result()).ids.length).toBe(5);
  });
});

describe("a conversation longer than the context", () => {
  /** Turns of a session until its past has met the context three times over, and the prompts it made. */
  async function talk(overflow: "truncate" | "slide") {
    const { doge } = await open({ context: 100 });
    const session = doge.session({ system: "be", maxNewTokens: 4, overflow });
    const turns = [];
    for (let turn = 0; turn < 20; turn++) turns.push(await session.send(String.fromCharCode(97 + turn)).result());
    return { session, turns };
  }

  it("is an error by default, and the session stays as it was", async () => {
    const { doge } = await open({ context: 40 });
    const session = doge.session({ maxNewTokens: 8 });
    await session.send("hi").result();
    const before = session.save();
    expect(code(() => session.send("x".repeat(40)))).toBe("context-overflow");
    expect(session.save()).toEqual(before);
    session.rewind(1);
    expect((await session.send("hi").result()).ids.length).toBe(8);
  });

  it('"truncate" leaves the oldest exchanges out of the prompt, and keeps them in its messages', async () => {
    const { session, turns } = await talk("truncate");
    expect(session.messages.length).toBe(41);
    const cut = turns.filter(({ truncated = 0 }) => truncated > 0);
    expect(cut.length).toBeGreaterThan(5);
    for (const { promptIds, ids } of turns) {
      expect(promptIds.length).toBeLessThanOrEqual(96);
      expect(ids.length).toBe(4);
      expect([...promptIds.slice(0, 5)]).toEqual([...mockTokenizer().encode("[sbe]", { addSpecial: false })]);
    }
  });

  it('"slide" forgets the oldest exchanges for good, half of the context at a time, and reuses its past in between', async () => {
    const { session, turns } = await talk("slide");
    const slid = turns.flatMap(({ truncated = 0 }, index) => (truncated > 0 ? [index] : []));
    expect(slid.length).toBeGreaterThan(1);
    for (const [place, index] of slid.entries()) {
      expect(turns[index]!.promptIds.length).toBeLessThanOrEqual(50);
      if (place > 0) expect(index - slid[place - 1]!).toBeGreaterThan(1);
    }
    expect(session.messages[0]).toEqual({ role: "system", content: "be" });
    expect(session.messages[1]!.role).toBe("user");
    expect(session.messages.length).toBeLessThan(41);
    expect(session.messages.at(-2)).toEqual(user("t"));
    const after = turns[slid[0]! + 1]!;
    expect(after.timings.prefillTokens).toBeLessThan(after.promptIds.length / 2);
    const copy = session.clone();
    expect(copy.messages).toEqual(session.messages);
  });

  it("keeps its last question where that alone takes more than half of the context", async () => {
    const { doge } = await open({ context: 40 });
    for (const overflow of ["truncate", "slide"] as const) {
      const session = doge.session({ maxNewTokens: Infinity, overflow });
      const first = await session.send("x".repeat(30)).result();
      expect([first.truncated, first.promptIds.length, first.ids.length]).toEqual([undefined, 34, 6]);
      const second = await session.send("y".repeat(30)).result();
      expect([second.promptIds.length, second.ids.length]).toEqual([34, 6]);
      expect(session.messages.length).toBe(overflow === "slide" ? 2 : 4);
    }
  });

  it("that overflows with its last question alone is an error under every policy", async () => {
    const { doge } = await open({ context: 40 });
    for (const overflow of ["truncate", "slide"] as const) {
      const session = doge.session({ maxNewTokens: 8, overflow });
      await session.send("hi").result();
      expect(code(() => session.send("x".repeat(40)))).toBe("context-overflow");
      expect(session.messages.length).toBe(2);
    }
  });
});
