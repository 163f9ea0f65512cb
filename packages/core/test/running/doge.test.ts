// Doge and its sessions on the mock: inputs, options and their precedence, reuse of prefixes, errors and what works after them.
import { describe, expect, it } from "vitest";
import type { Config, Drawn, Message, Model, SampleRow } from "../../src/index.ts";
import { checked, Doge, type GenerationDefaults, isDogeError, nextTask } from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend } from "./mock.ts";
import { mockTokenizer } from "./text.ts";

const template =
  "{% for m in messages %}[{{ m.role[0] }}{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}";
interface Setup {
  readonly config?: Partial<Config>;
  readonly defaults?: GenerationDefaults;
  readonly bare?: boolean;
  readonly context?: number;
  readonly rows?: number;
}
/** A Doge on the mock, with the rows of every sample call that reached it. */
async function open({ config, defaults = {}, bare = false, context, rows: atOnce }: Setup = {}) {
  const raw = new MockBackend();
  const rows: SampleRow[] = [];
  const load = raw.load.bind(raw);
  raw.load = async (source, options) => {
    const model = await load(source, options);
    const { sample } = model;
    const spied: Model["sample"] = (all, signal): Promise<Drawn[]> => {
      rows.push(...all);
      return sample(all, signal);
    };
    return Object.assign(model, { sample: spied });
  };
  const backend = checked(raw);
  const model = await backend.load(checkpoint({ maxPositions: 400, eosIds: [], ...config }), { context });
  const doge = new Doge({
    backend,
    model,
    tokenizer: bare ? null : mockTokenizer(),
    chatTemplate: bare ? null : template,
    defaults,
    info: { source: "a mock", loadMs: 12, warnings: [], tried: [] },
    rows: atOnce,
  });
  return { doge, raw, rows };
}
function greedyAfter(prompt: ArrayLike<number>, count: number): number[] {
  const all = Array.from(prompt);
  for (let step = 0; step < count; step++) {
    const logits = logitsAfter(all);
    all.push(logits.indexOf(Math.max(...logits)));
  }
  return all.slice(prompt.length);
}
const user = (content: string): Message => ({ role: "user", content });
const code = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (isDogeError(error)) return error.code;
    throw error;
  }
  return "nothing was thrown";
};

describe("input", () => {
  it("is text, messages or ids", async () => {
    const { doge } = await open();
    const tokenizer = mockTokenizer();
    const prompt = async (input: Parameters<Doge["generate"]>[0], options = {}) => [
      ...(await doge.generate(input, { maxNewTokens: 0, ...options }).result()).promptIds,
    ];
    expect(await prompt("ab")).toEqual([...tokenizer.encode("ab")]);
    expect(await prompt("")).toEqual([0]);
    expect(await prompt([3, 4])).toEqual([3, 4]);
    expect(await prompt(Int32Array.of(3, 4))).toEqual([3, 4]);
    const chat = (text: string) => [...tokenizer.encode(text, { addSpecial: false })];
    expect(await prompt([user("hi")])).toEqual(chat("[uhi]>"));
    expect(await prompt([user("hi")], { addGenerationPrompt: false })).toEqual(chat("[uhi]"));
  });

  it("that is none is refused at once", async () => {
    const { doge } = await open();
    expect(code(() => doge.generate([]))).toBe("empty-prompt");
    expect(code(() => doge.generate(5 as never))).toBe("invalid-argument");
    expect(code(() => doge.generate([40]))).toBe("invalid-token");
    expect(code(() => doge.generate([1.5]))).toBe("invalid-token");
    expect(code(() => doge.generate([{ role: "nobody", content: "x" }]))).toBe("invalid-messages");
    const { doge: bare } = await open({ bare: true });
    expect(code(() => bare.generate("hi"))).toBe("tokenizer-missing");
    expect(code(() => bare.generate([user("hi")]))).toBe("tokenizer-missing");
    const result = await bare.generate([3], { maxNewTokens: 4 }).result();
    expect([result.text, [...result.ids]]).toEqual([null, greedyAfter([3], 4)]);
  });
});

describe("options", () => {
  it("come from the caller, then the model's file, then transformers' defaults", async () => {
    const { doge, rows } = await open({ defaults: { temperature: 0.6, topP: 0.95, maxNewTokens: 3, eosIds: [7] } });
    const { doge: plain, rows: plainRows } = await open({ config: { eosIds: [9] } });
    const sampling = async (which: Doge, list: SampleRow[], options: object) => {
      list.length = 0;
      const result = await which.generate([3], { seed: 1, ...options }).result();
      return { ...list[0]!.sampling, count: result.ids.length };
    };
    expect(await sampling(doge, rows, {})).toMatchObject({ temperature: 0, topK: 0, topP: 1, stop: [7] });
    expect(await sampling(doge, rows, { doSample: true })).toMatchObject({ temperature: 0.6, topK: 50, topP: 0.95 });
    expect(await sampling(doge, rows, { temperature: 0.8 })).toMatchObject({ temperature: 0.8, topK: 50, topP: 0.95 });
    expect(await sampling(doge, rows, { temperature: 0.8, topK: 0, topP: 1 })).toMatchObject({ topK: 0, topP: 1 });
    expect(await sampling(doge, rows, { doSample: true, temperature: 0 })).toMatchObject({ temperature: 0, topK: 0 });
    expect(await sampling(doge, rows, { doSample: false, temperature: 1 })).toMatchObject({ temperature: 0 });
    expect(await sampling(doge, rows, { eosTokenId: 8 })).toMatchObject({ stop: [8] });
    expect(await sampling(doge, rows, { ignoreEos: true })).toMatchObject({ stop: [], count: 3 });
    expect(await sampling(plain, plainRows, { eosTokenId: [] })).toMatchObject({ stop: [], count: 20 });
    expect(await sampling(plain, plainRows, { eosTokenId: [], maxLength: 6 })).toMatchObject({ count: 5 });
    expect(await sampling(plain, plainRows, {})).toMatchObject({ stop: [9], repetitionPenalty: 1 });
  });

  it("the file's do_sample holds", async () => {
    const { doge, rows } = await open({ defaults: { doSample: true, temperature: 0.6, topK: 5 } });
    await doge.generate([3], { maxNewTokens: 1 }).result();
    expect(rows[0]!.sampling).toMatchObject({ temperature: 0.6, topK: 5 });
    await doge.generate([3], { maxNewTokens: 1, temperature: 0 }).result();
    expect(rows.at(-1)!.sampling.temperature).toBe(0);
  });

  it("beyond the draw come in the same order, and are no hindrance without a tokenizer", async () => {
    const [first, second] = greedyAfter([3], 2) as [number, number];
    const processing = { suppressTokens: [first], minNewTokens: 4, typicalP: 0.5 };
    const { doge } = await open({
      bare: true,
      defaults: { processing, stop: ["x"], maxNewTokens: 5, eosIds: [second] },
    });
    const run = async (options: object) => doge.generate([3], { seed: 1, ...options }).result();
    const free = await run({ suppressTokens: [], minNewTokens: 0, eosTokenId: [] });
    expect([...free.ids]).toEqual(greedyAfter([3], 5));
    expect([...(await run({})).ids]).not.toContain(first);
    expect((await run({ suppressTokens: [] })).ids.length).toBeGreaterThan(3);
    // As in transformers, a number of new tokens wins over one of all tokens, whoever says which.
    const file = [...(await run({ suppressTokens: [] })).ids];
    expect([...(await run({ suppressTokens: [], minLength: 0 })).ids]).toEqual(file);
    expect((await run({ eosTokenId: [], maxLength: 3 })).ids.length).toBe(5);
    expect((await run({ eosTokenId: [], maxLength: 3, maxNewTokens: 4 })).ids.length).toBe(4);
    const both = { suppressTokens: [], minLength: 6, minNewTokens: 1 }; // of one's own, the new tokens count
    expect([...(await run(both)).ids]).toEqual([first, second]);
    expect((await run({ temperature: 1 })).drawnOn).toBe("host");
    expect((await run({ temperature: 1, typicalP: 1 })).drawnOn).toBe("device");
    expect((await run({})).drawnOn).toBe("device"); // greedy: the filter has nothing to do
    const { doge: text } = await open({ defaults: { stop: ["7"] } });
    expect((await text.generate([3], { maxNewTokens: 300 }).result()).stopReason).toBe("stop");
    expect((await text.generate([3], { maxNewTokens: 30, stop: [] }).result()).stopReason).toBe("length");
  });

  it("echo brings ln p of the whole prompt, also where its beginning was kept, and is not for conversations", async () => {
    const { doge } = await open();
    const input = [3, 4, 5, 6];
    const options = { maxNewTokens: 3, echo: true, logprobs: 1 };
    const first = await doge.generate(input, options).result();
    const again = await doge.generate(input, options).result();
    expect(again.logprobs).toEqual(first.logprobs);
    expect(again.logprobs!.map(({ id }) => id)).toEqual([...input, ...greedyAfter(input, 3)]);
    expect(again.timings.prefillTokens).toBe(4);
    // Without ln p the kept beginning serves.
    expect((await doge.generate(input, { maxNewTokens: 3, echo: true }).result()).timings.prefillTokens).toBe(1);
    const { logprobs } = await doge.score(input);
    first.logprobs!.slice(0, 4).forEach(({ logprob }, index) => {
      expect(logprob).toBeCloseTo(logprobs[index]!, 6);
    });
    expect(code(() => doge.session().send("hi", { echo: true }))).toBe("invalid-argument");
  });

  it("without a seed a random one is taken and told, and gives the same again", async () => {
    const { doge } = await open();
    const options = { temperature: 1.5, topK: 0, maxNewTokens: 30 };
    const [a, b] = [await doge.generate([3], options).result(), await doge.generate([3], options).result()];
    expect(a.seed).not.toBe(b.seed);
    expect([...a.ids]).not.toEqual([...b.ids]);
    expect([...(await doge.generate([3], { ...options, seed: a.seed }).result()).ids]).toEqual([...a.ids]);
  });

  it("that are bad are refused by name at once, and the Doge goes on (T7, T9)", async () => {
    const { doge } = await open();
    const bad: [object, string][] = [
      [{ maxNewTokens: -1 }, "maxNewTokens is -1"],
      [{ maxNewTokens: NaN }, "maxNewTokens is NaN"],
      [{ maxNewTokens: 1.5 }, "maxNewTokens is 1.5"],
      [{ temperature: NaN }, "temperature is NaN"],
      [{ temperature: -1 }, "temperature is -1"],
      [{ temperature: 1e9 }, "temperature is 1000000000"],
      [{ doSample: true, topK: -1 }, "topK is -1"],
      [{ topK: 0.5 }, "topK is 0.5"],
      [{ topP: 2 }, "topP is 2"],
      [{ minP: -1 }, "minP is -1"],
      [{ seed: 2 ** 64 }, "seed is 18446744073709552000"],
      [{ repetitionPenalty: 0 }, "repetitionPenalty is 0"],
      [{ logprobs: 21 }, "logprobs is 21"],
      [{ stop: Array(17).fill("a") }, "17 strings"],
      [{ overflow: "ignore" }, 'overflow is "ignore"'],
      [{ numBeams: 3 }, "numBeams is not an option"],
    ];
    for (const [options, words] of bad) {
      expect(() => doge.generate([3], options)).toThrow(words);
      expect(code(() => doge.generate([3], options))).toBe("invalid-argument");
    }
    expect((await doge.generate([3], { maxNewTokens: 4 }).result()).ids.length).toBe(4);
  });

  it("maxNewTokens 0 is an empty text; more than fits ends at the context (T7)", async () => {
    const { doge } = await open({ context: 16 });
    const none = await doge.generate([3, 4], { maxNewTokens: 0 }).result();
    expect([none.text, none.ids.length, none.stopReason]).toEqual(["", 0, "length"]);
    const all = await doge.generate([3, 4], { maxNewTokens: Infinity }).result();
    expect([all.ids.length, all.stopReason]).toEqual([14, "length"]);
  });
});

describe("an input longer than the context (T7)", () => {
  it("is an error by default, and the Doge goes on", async () => {
    const { doge } = await open({ context: 16 });
    expect(() => doge.generate(Array(17).fill(3))).toThrow("The input has 17 tokens; the context holds 16.");
    expect(code(() => doge.generate([user("x".repeat(40))]))).toBe("context-overflow");
    expect((await doge.generate([3], { maxNewTokens: 2 }).result()).ids.length).toBe(2);
  });

  it("is cut from the left when asked, and the result says so", async () => {
    const { doge } = await open({ context: 16 });
    const options = { overflow: "truncate", maxNewTokens: 4 } as const;
    const long = [0, ...Array.from({ length: 30 }, (_, index) => 3 + index)];
    const ids = await doge.generate(long, options).result();
    expect([...ids.promptIds]).toEqual([0, ...long.slice(-11)]);
    expect([ids.truncated, ids.ids.length]).toEqual([19, 4]);
    const messages = [{ role: "system", content: "s" }, user("aaaa"), { role: "assistant", content: "bbb" }, user("c")];
    const chat = await doge.generate(messages, options).result();
    expect([...chat.promptIds]).toEqual([...mockTokenizer().encode("[ss][uc]>", { addSpecial: false })]);
    expect(chat.truncated).toBe(13);
    expect(code(() => doge.generate([user("x".repeat(20))], options))).toBe("context-overflow");
    expect((await doge.generate([3, 4], options).result()).truncated).toBeUndefined();
  });

  it("loses whole exchanges: no answer is left without its question", async () => {
    const { doge } = await open({ context: 24 });
    const messages = [
      user("aaaa"),
      { role: "assistant", content: "bbb" },
      user("cc"),
      { role: "assistant", content: "d" },
    ];
    const { promptIds } = await doge
      .generate([...messages, user("e")], { overflow: "truncate", maxNewTokens: 4 })
      .result();
    expect([...promptIds]).toEqual([...mockTokenizer().encode("[ucc][ad][ue]>", { addSpecial: false })]);
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

describe("score and info", () => {
  it("gives ln p of all, or of a continuation", async () => {
    const { doge } = await open();
    const all = await doge.score([3, 4, 5]);
    expect([...all.ids]).toEqual([3, 4, 5]);
    expect(all.logprobs[0]).toBe(0);
    const part = await doge.score([3], [4, 5]);
    expect(all.perplexity).toBeCloseTo(Math.exp(-all.sum / 2), 12);
    expect(part.perplexity).toBeCloseTo(Math.exp(-part.sum / 2), 12);
    expect((await doge.score([3])).perplexity).toBeNull();
    expect([...part.logprobs]).toEqual([...all.logprobs.slice(1)]);
    expect(part.sum).toBeCloseTo(all.logprobs[1]! + all.logprobs[2]!, 5);
    const text = await doge.score("ab", "c");
    expect([...text.ids]).toEqual([...mockTokenizer().encode("c", { addSpecial: false })]);
    await expect(doge.score(Array(401).fill(3))).rejects.toSatisfy((error) => isDogeError(error, "context-overflow"));
    await expect(doge.score([])).rejects.toSatisfy((error) => isDogeError(error, "empty-prompt"));
  });

  it("tells what runs where", async () => {
    const { doge } = await open({ context: 30 });
    expect(doge.info()).toMatchObject({
      backend: "mock",
      device: "a few lines",
      dtype: "f32",
      context: 30,
      loadMs: 12,
    });
    expect(doge.config.vocabSize).toBe(40);
  });
});
