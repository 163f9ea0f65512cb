// One Doge asked many things: prefixes reused, generations side by side, aborts, failures, and what works after them.
import { describe, expect, it } from "vitest";
import { type Doge, isDogeError, nextTask } from "../../src/index.ts";
import { greedyAfter, open } from "./doge.ts";

describe("prefix reuse", () => {
  it("evaluates what is new only, and changes nothing", async () => {
    const { doge, rows } = await open();
    const first = await doge.generate([3, 4, 5], { maxNewTokens: 6 }).result();
    expect(first.timings).toMatchObject({ prefillTokens: 3, decodeTokens: 5, loadMs: 12 });
    const longer = [3, 4, 5, ...first.ids.slice(0, 4), 9, 9];
    const second = await doge.generate(longer, { maxNewTokens: 6 }).result();
    expect(second.timings.prefillTokens).toBe(2);
    expect([...second.ids]).toEqual(greedyAfter(longer, 6));
    const again = await doge.generate(longer, { maxNewTokens: 6 }).result();
    expect(again.timings.prefillTokens).toBe(1); // one is always left to go on from
    expect([...again.ids]).toEqual([...second.ids]);
    const other = await doge.generate([8, 8], { maxNewTokens: 6 }).result();
    expect([other.timings.prefillTokens, ...other.ids]).toEqual([2, ...greedyAfter([8, 8], 6)]);
    expect(rows.length).toBeGreaterThan(0);
  });

  it("is not done under reference routing, where the tokens of a call belong together", async () => {
    const { doge } = await open();
    Object.defineProperty(doge.model, "routing", { value: "reference" });
    for (let turn = 0; turn < 2; turn++) {
      expect((await doge.generate([3, 4, 5], { maxNewTokens: 2 }).result()).timings.prefillTokens).toBe(3);
    }
  });

  it("needs no more room than what it takes over leaves to be filled", async () => {
    const { doge } = await open({ context: 40 });
    const { model } = doge;
    const first = await doge.generate([3, 4, 5, 6, 7, 8, 9], { maxNewTokens: 23 }).result();
    // As much room as a context has, of which 30 are taken.
    const whole = () => Reflect.get(Object.getPrototypeOf(model), "room", model) as number;
    const less = whole() - 10;
    Object.defineProperty(model, "room", { get: () => whole() - less });
    expect(model.room).toBe(10);
    // Half of what is kept is left behind: there is room for 35 in its place, and not beside it.
    const again = [...first.promptIds, ...first.ids].slice(0, 15);
    const second = await doge.generate([...again, 30], { maxNewTokens: 19 }).result();
    expect(second.timings.prefillTokens).toBe(1);
    expect([...second.ids]).toEqual(greedyAfter([...again, 30], 19));
  });

  it("makes room by forgetting what was used longest ago", async () => {
    const { doge } = await open({ context: 20 }); // the mock has room for four contexts
    const sessions = Array.from({ length: 12 }, () => doge.session({ maxNewTokens: 8 }));
    for (const [index, session] of sessions.entries()) {
      expect((await session.send(String.fromCharCode(97 + index)).result()).ids.length).toBe(8);
    }
    const { room, context } = doge.model;
    expect(room).toBeLessThan(4 * context);
    // Also where the model's room is a guess that was too good.
    Object.defineProperty(doge.model, "room", { value: 1e6 });
    for (const letter of "qrstuvw") {
      expect((await doge.session({ maxNewTokens: 8 }).send(letter).result()).ids.length).toBe(8);
    }
  });
});

describe("side by side, or one after the other", () => {
  it("generations of one Doge with one row never interleave", async () => {
    const { doge, rows } = await open({ rows: 1 });
    const prompts = [[3], [4, 4], [5, 5, 5]];
    const results = await Promise.all(prompts.map((prompt) => doge.generate(prompt, { maxNewTokens: 25 }).result()));
    results.forEach((result, index) => {
      expect([...result.ids]).toEqual(greedyAfter(prompts[index]!, 25));
    });
    const changes = rows.filter((row, index) => row.sequence !== rows[index - 1]?.sequence).length;
    expect(changes).toBe(3);
  });

  it("one that waits can be aborted, and those behind it come", async () => {
    const { doge } = await open({ rows: 1 });
    const controller = new AbortController();
    const first = doge.generate([3], { maxNewTokens: 50 })[Symbol.asyncIterator]();
    await first.next();
    const waiting = doge.generate([4], { signal: controller.signal }).result();
    const behind = doge.generate([5], { maxNewTokens: 3 }).result();
    await nextTask();
    controller.abort();
    expect(await waiting).toMatchObject({ stopReason: "abort", text: "" });
    await first.return();
    expect((await behind).ids.length).toBe(3);
  });

  it("several sessions at once are served in the order they asked, each as if alone", async () => {
    const { doge } = await open({ rows: 1 });
    const sessions = Array.from({ length: 5 }, () => doge.session({ maxNewTokens: 6 }));
    const order: string[] = [];
    const talk = async (session: ReturnType<Doge["session"]>, name: string) => {
      for (const turn of ["a", "b", "c"]) {
        const { promptIds, ids } = await session.send(name + turn).result();
        expect([...ids]).toEqual(greedyAfter(promptIds, 6));
        order.push(name);
      }
    };
    await Promise.all(sessions.map((session, index) => talk(session, String(index))));
    expect(order.join("")).toBe("012340123401234"); // nobody comes twice before all have come once
  });

  it("one that nobody reads on does not hold up the others, and its reader finds all of it", async () => {
    const { doge, rows } = await open();
    const idle = doge.generate([3], { maxNewTokens: 50 });
    const reader = idle[Symbol.asyncIterator]();
    const first = await reader.next();
    for (let task = 0; task < 200; task++) await nextTask();
    expect(rows.length).toBe(2); // alone, it waits for its reader: only the chunk behind the one read is on its way
    const other = await doge.generate([4], { maxNewTokens: 3 }).result();
    expect([...other.ids]).toEqual(greedyAfter([4], 3));
    const ids = [...(first.value?.ids ?? [])];
    for (let piece = await reader.next(); !piece.done; piece = await reader.next()) ids.push(...piece.value.ids);
    expect(ids).toEqual(greedyAfter([3], 50));
    expect([...(await idle.result()).ids]).toEqual(ids);
    // Also where it is a session's, and where it comes to its turn while others wait already.
    const session = doge.session({ maxNewTokens: 50 });
    const answer = session.send("hi");
    await answer[Symbol.asyncIterator]().next();
    const late = doge.generate([5], { maxNewTokens: 50 });
    const begun = late[Symbol.asyncIterator]().next();
    expect((await doge.score([3, 4])).ids.length).toBe(2);
    await begun;
    expect((await answer.result()).ids.length).toBe(50);
    expect(session.messages.length).toBe(2);
    expect([...(await late.result()).ids]).toEqual(greedyAfter([5], 50));
  });

  it("leaving the loop ends it at what was read, also while others wait", async () => {
    const { doge } = await open();
    const session = doge.session({ maxNewTokens: 300 });
    const answer = session.send("hi");
    const behind = { result: undefined as Promise<{ ids: Int32Array }> | undefined };
    let said = "";
    for await (const piece of answer) {
      behind.result ??= doge.generate([5], { maxNewTokens: 3 }).result();
      said += piece.text;
      if (said.length > 10) break;
    }
    expect((await behind.result!).ids.length).toBe(3);
    expect(session.messages.at(-1)).toEqual({ role: "assistant", content: said });
    expect((await answer.result()).stopReason).toBe("abort");
  });

  it("goes on after a failure and says closed after close", async () => {
    const { doge, raw } = await open();
    raw.nanAfter = greedyAfter([3], 3)[2]!;
    await expect(doge.generate([3]).result()).rejects.toSatisfy((error) => isDogeError(error, "numerical"));
    raw.nanAfter = -1;
    expect([...(await doge.generate([3], { maxNewTokens: 5 }).result()).ids]).toEqual(greedyAfter([3], 5));
    const running = doge.generate([3], { maxNewTokens: 1 }).result();
    await nextTask();
    await doge[Symbol.asyncDispose]();
    expect((await running).ids.length).toBe(1);
    expect(raw.closed).toBe(true);
    await expect(doge.generate([3]).result()).rejects.toSatisfy((error) => isDogeError(error, "closed"));
  });
});
