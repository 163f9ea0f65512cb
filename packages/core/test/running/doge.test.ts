// Doge on the mock: inputs, options and their precedence, scores, and what runs where.
import { describe, expect, it } from "vitest";
import type { SampleRow } from "../../src/index.ts";
import { type Doge, isDogeError } from "../../src/index.ts";
import { code, greedyAfter, open, user } from "./doge.ts";
import { mockTokenizer } from "./text.ts";

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
