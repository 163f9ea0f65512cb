// The loop above a backend: chunks, stops, early leaving, abort; and the streamer.
import { describe, expect, it } from "vitest";
import type { Generation, LoopOptions, Model, Tokenizer } from "../../src/index.ts";
import { checked, DogeError, generate, isDogeError, nextTask, StopStrings, TextStreamer } from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend } from "./mock.ts";
import { mockTokenizer, word } from "./text.ts";

const ids = (...values: number[]) => Int32Array.from(values);
const tokenizer = mockTokenizer();
const greedy: LoopOptions = { temperature: 0, stop: [], tokenizer };

/** Greedy by the definition. */
function expected(prompt: readonly number[], count: number): number[] {
  const all = [...prompt];
  for (let step = 0; step < count; step++) {
    const logits = logitsAfter(all);
    all.push(logits.indexOf(Math.max(...logits)));
  }
  return all.slice(prompt.length);
}
const text = (tokens: readonly number[]) => tokenizer.decode(tokens.filter((id) => id < tokenizer.size));
async function open(over = {}): Promise<{ raw: MockBackend; model: Model }> {
  const raw = new MockBackend();
  return { raw, model: await checked(raw).load(checkpoint({ maxPositions: 200, ...over })) };
}
async function read(generation: Generation) {
  const pieces = [];
  for await (const piece of generation) pieces.push(piece);
  return pieces;
}

describe("generate", () => {
  it("gives what the definition gives, in pieces whose first is one token", async () => {
    const { model, raw } = await open();
    const generation = generate(model, ids(3, 4), { ...greedy, maxNewTokens: 60 });
    const pieces = await read(generation);
    const result = await generation.result();
    const all = expected([3, 4], 60);
    expect(pieces.flatMap((piece) => [...piece.ids])).toEqual(all);
    expect([...result.ids]).toEqual(all);
    expect(pieces[0]!.ids.length).toBe(1);
    expect(pieces.map((piece) => piece.text).join("")).toBe(text(all));
    expect(result.text).toBe(text(all));
    expect([result.stopReason, [...result.promptIds]]).toEqual(["length", [3, 4]]);
    expect([result.timings.prefillTokens, result.timings.decodeTokens]).toEqual([2, 59]);
    // Far fewer crossings than tokens: the chunks grow by the clock.
    expect(raw.log.filter((entry) => entry.startsWith("sample")).length).toBeLessThan(60);
    expect(Math.max(...pieces.map((piece) => piece.ids.length))).toBeLessThanOrEqual(64);
  });

  it("the next chunk is on its way while one is read", async () => {
    const { model, raw } = await open();
    const iterator = generate(model, ids(3), { ...greedy, maxNewTokens: 9 })[Symbol.asyncIterator]();
    expect(raw.log.length).toBe(0); // nothing runs before it is asked for
    await iterator.next();
    for (let task = 0; task < 100; task++) await nextTask(); // the mock takes one for a token
    expect(raw.log.filter((entry) => entry.startsWith("sample")).length).toBe(2);
    await iterator.return();
  });

  it("result() alone runs it, and it can be read before, besides and after", async () => {
    const { model } = await open();
    const generation = generate(model, ids(3), { ...greedy, maxNewTokens: 12 });
    const promise = generation.result();
    const pieces = await read(generation);
    expect(pieces.flatMap((piece) => [...piece.ids])).toEqual(expected([3], 12));
    expect([...(await promise).ids]).toEqual(expected([3], 12));
    expect((await read(generation)).length).toBe(pieces.length);
  });

  it("a stop id ends it and is among the ids", async () => {
    const { model } = await open();
    const all = expected([3], 30);
    const stop = all[7]!;
    const cut = all.slice(0, all.indexOf(stop) + 1);
    const result = await generate(model, ids(3), { ...greedy, stop: [stop] }).result();
    expect([[...result.ids], result.stopReason]).toEqual([cut, "eos"]);
  });

  it("the model's own stop ids hold unless others are given", async () => {
    const stop = expected([3], 30)[4]!;
    const { model } = await open({ eosIds: [stop] });
    const { stop: _, ...own } = greedy;
    expect((await generate(model, ids(3), own).result()).stopReason).toBe("eos");
    expect((await generate(model, ids(3), { ...greedy, maxNewTokens: 9 }).result()).ids.length).toBe(9);
  });

  it("ends at the context, at maxNewTokens 0 and beyond what fits (T7)", async () => {
    const { model, raw } = await open({ maxPositions: 20 });
    const full = await generate(model, ids(3, 4), { ...greedy, maxNewTokens: 1000 }).result();
    expect([full.ids.length, full.stopReason]).toEqual([18, "length"]);
    const none = await generate(model, ids(3, 4), { ...greedy, maxNewTokens: 0 }).result();
    expect([none.ids.length, none.text, none.stopReason]).toEqual([0, "", "length"]);
    for (const maxNewTokens of [-1, NaN, 1.5]) {
      expect(() => generate(model, ids(3), { ...greedy, maxNewTokens })).toThrow(`maxNewTokens is ${maxNewTokens}`);
    }
    const long = generate(model, new Int32Array(21), greedy);
    await expect(long.result()).rejects.toThrow("row 0: 0 tokens and 21 more are 21; the context holds 20.");
    await expect(read(long)).rejects.toThrow("context");
    await expect(generate(model, ids(), greedy).result()).rejects.toThrow("row 0: neither");
    expect((await generate(model, ids(3), { ...greedy, maxNewTokens: 2 }).result()).ids.length).toBe(2);
    expect(raw.log.length).toBeGreaterThan(0);
  });

  it("a reader that leaves early has the tokens it has not seen taken back", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    const seen: number[] = [];
    const generation = generate(model, { sequence, tokens: ids(3, 4) }, greedy);
    for await (const piece of generation) {
      seen.push(...piece.ids);
      if (seen.length > 5) break;
    }
    expect(sequence.length).toBe(2 + seen.length);
    const result = await generation.result();
    expect([[...result.ids], result.stopReason]).toEqual([seen, "abort"]);
    const [logits] = await model.forward([{ sequence, tokens: ids(9) }]);
    expect(logits).toEqual(logitsAfter([3, 4, ...seen, 9]));
  });

  it("an abort ends it with what was seen, before, between and inside chunks", async () => {
    const { model } = await open();
    const early = await generate(model, ids(3), { ...greedy, signal: AbortSignal.abort() }).result();
    expect([early.ids.length, early.stopReason]).toEqual([0, "abort"]);
    const sequence = model.sequence();
    const controller = new AbortController();
    const generation = generate(model, { sequence, tokens: ids(3) }, { ...greedy, signal: controller.signal });
    const seen: number[] = [];
    for await (const piece of generation) {
      seen.push(...piece.ids);
      if (seen.length > 3) controller.abort();
    }
    const result = await generation.result();
    expect([[...result.ids], result.stopReason, result.text]).toEqual([seen, "abort", text(seen)]);
    expect(seen).toEqual(expected([3], seen.length));
    expect(sequence.length).toBe(1 + seen.length);
  });

  it("an error of the model comes out of the pieces and of the result, and the model goes on", async () => {
    const { model, raw } = await open();
    raw.nanAfter = expected([3], 6)[5]!;
    const sequence = model.sequence();
    const generation = generate(model, { sequence, tokens: ids(3) }, { ...greedy, maxNewTokens: 50 });
    const seen: number[] = [];
    const reading = async () => {
      for await (const piece of generation) seen.push(...piece.ids);
    };
    await expect(reading()).rejects.toThrow("NaN");
    await expect(generation.result()).rejects.toSatisfy((error) => isDogeError(error, "numerical"));
    expect(sequence.length).toBe(1 + seen.length);
    raw.nanAfter = -1;
    expect((await generate(model, ids(3), { ...greedy, maxNewTokens: 8 }).result()).ids.length).toBe(8);
  });

  it("gives ln p of each id and of the most likely", async () => {
    const { model } = await open();
    const { logprobs } = await generate(model, ids(3), { ...greedy, maxNewTokens: 7, logprobs: 3 }).result();
    const all = expected([3], 7);
    expect(logprobs!.map(({ id }) => id)).toEqual(all);
    for (const { id, logprob, top } of logprobs!) {
      expect(top.length).toBe(3);
      expect(top[0]).toEqual([id, logprob]);
    }
    expect(() => generate(model, ids(3), { ...greedy, logprobs: 21 })).toThrow("logprobs is 21");
  });

  it("without a tokenizer there is no text", async () => {
    const { model } = await open();
    const generation = generate(model, ids(3), { ...greedy, tokenizer: null, maxNewTokens: 3 });
    expect((await generation.result()).text).toBeNull();
    expect(() => generate(model, ids(3), { ...greedy, tokenizer: null, stopStrings: ["x"] })).toThrow("tokenizer");
  });

  it("seeded draws do not depend on how the chunks fall", async () => {
    const { model } = await open();
    const options = { ...greedy, temperature: 1.3, topP: 0.9, seed: 4, maxNewTokens: 40 };
    const once = await generate(model, ids(3), options).result();
    const again = await generate(model, ids(3), options).result();
    const sequence = model.sequence();
    const one: number[] = [];
    for (let step = 0; step < 40; step++) {
      const tokens = step === 0 ? ids(3) : ids();
      const part = await generate(model, { sequence, tokens }, { ...options, maxNewTokens: 1 }).result();
      one.push(...part.ids);
    }
    expect([...again.ids]).toEqual([...once.ids]);
    expect(one).toEqual([...once.ids]);
    expect(once.seed).toBe(4);
  });
});

describe("stop strings (T8)", () => {
  const all = expected([3], 30);
  const whole = text(all);

  it("end the text before them, across token borders, wherever they lie", async () => {
    const { model } = await open();
    for (let from = 1; from < 40; from += 3) {
      const stop = whole.slice(from, from + 6);
      const generation = generate(model, ids(3), { ...greedy, maxNewTokens: 30, stopStrings: [stop, "never there"] });
      let streamed = "";
      for await (const piece of generation) {
        streamed += piece.text;
        expect(whole.slice(0, whole.indexOf(stop)).startsWith(streamed)).toBe(true);
      }
      const result = await generation.result();
      expect([result.text, result.stopReason]).toEqual([whole.slice(0, whole.indexOf(stop)), "stop"]);
      expect(streamed).toBe(result.text);
      // The ids reach to the token that completed it, and no further.
      const decoded = text([...result.ids]);
      expect(decoded).toContain(stop);
      expect(text([...result.ids].slice(0, -1))).not.toContain(stop);
    }
  });

  it("take back what was drawn behind them", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    const stop = word(all[9]!);
    const result = await generate(model, { sequence, tokens: ids(3) }, { ...greedy, stopStrings: stop }).result();
    expect(sequence.length).toBe(1 + result.ids.length);
  });

  it("what only looks like the beginning of one is given out in the end", async () => {
    const { model } = await open();
    const result = await generate(model, ids(3), {
      ...greedy,
      maxNewTokens: 4,
      stopStrings: [`${text(all.slice(0, 4))}!`],
    });
    expect((await result.result()).text).toBe(text(all.slice(0, 4)));
  });

  it("never emit a part of one (every split of a text, overlapping stops)", () => {
    const source = "aabaabaac<END>rest";
    for (let a = 0; a <= source.length; a++) {
      for (let b = a; b <= source.length; b++) {
        const stops = new StopStrings(["aac", "<END>", "baac<"]);
        const out = [source.slice(0, a), source.slice(a, b), source.slice(b)].map((part) => stops.push(part));
        expect(out.join("") + stops.end()).toMatch(/^aabaa?b?$/);
        expect(stops.met).toBe(true);
      }
    }
  });

  it("see special tokens that are not shown, but for those that end the text themselves", async () => {
    const { model } = await open();
    const special = all[6]!;
    const name = `<|${special}|>`;
    const marked: Tokenizer = {
      ...tokenizer,
      special: new Map([[name, special]]),
      decode: (tokens, options) => Array.from(tokens, (id) => shown(id, options?.skipSpecial ?? true)).join(""),
      stream: ({ skipSpecial = true } = {}) => ({
        push: (tokens) => Array.from(tokens, (id) => shown(id, skipSpecial)).join(""),
        end: () => "",
      }),
    };
    const shown = (id: number, skip: boolean): string => (id !== special ? word(id) : skip ? "" : name);
    const run = (options: LoopOptions) =>
      generate(model, ids(3), { ...greedy, tokenizer: marked, maxNewTokens: 20, ...options }).result();
    const at = all.indexOf(special);
    const before = text(all.slice(0, at));
    for (const stop of [name, `${before.slice(-2)}${name.slice(0, 3)}`]) {
      const result = await run({ stopStrings: stop });
      expect([[...result.ids], result.stopReason]).toEqual([all.slice(0, at + 1), "stop"]);
      expect(result.text).toBe(stop === name ? before : before.slice(0, -2));
    }
    // What only began like one is given out without the token.
    const close = await run({ stopStrings: `${before.slice(-2)}${name}never` });
    expect(close.text).toBe(
      all
        .slice(0, 20)
        .map((id) => shown(id, true))
        .join(""),
    );
    const ended = await run({ stopStrings: name, stop: [special] });
    expect([ended.stopReason, ended.text]).toEqual(["eos", before]);
  });

  it("may begin in the prompt, as in transformers, but not end there", async () => {
    const { model } = await open();
    const prompt = [7, 3];
    const free = expected(prompt, 12);
    const run = (stopStrings: string[], more: LoopOptions = {}) =>
      generate(model, ids(...prompt), { ...greedy, maxNewTokens: 12, stopStrings, ...more }).result();
    const across = `${word(3)}${word(free[0]!)}`;
    for (const stop of [across, `${text(prompt)}${word(free[0]!).slice(0, 2)}`, across.slice(1, -1)]) {
      const result = await run(["never there", stop]);
      expect([result.text, [...result.ids], result.stopReason]).toEqual(["", free.slice(0, 1), "stop"]);
      const echoed = await run([stop], { echo: true });
      expect([echoed.text, [...echoed.ids]]).toEqual([text(prompt), [...prompt, free[0]]]);
    }
    // Wholly in the prompt, also where another one goes on from there; and one that only seems to begin there.
    for (const stop of [word(3).trim(), word(3), text(prompt), `${word(3)}!`]) {
      for (const more of [[], [`${text(prompt)}${text(free.slice(0, 3))}!`]]) {
        const result = await run([stop, ...more]);
        const seen = text(free.slice(0, 12)).includes(stop);
        if (!seen) expect([result.text, result.stopReason]).toEqual([text(free.slice(0, 12)), "length"]);
      }
    }
    const stops = new StopStrings(["ab", "xabyz"]);
    stops.begin("1xab");
    expect([stops.push("y"), stops.push("a"), stops.push("b"), stops.met]).toEqual(["", "y", "", true]);
  });

  it("are at most 16, none empty", () => {
    expect(() => new StopStrings(Array(17).fill("x"))).toThrow("17 strings");
    expect(() => new StopStrings(Array(1000).fill("x"))).toThrow("1000 strings");
    expect(() => new StopStrings([""])).toThrow("0 characters");
    expect(() => new StopStrings([3 as never])).toThrow(DogeError);
  });
});

describe("a streamer", () => {
  const recorder = () => {
    const calls: (number[] | "end")[] = [];
    return {
      calls,
      put: (put: ArrayLike<number>) => void calls.push(Array.from(put)),
      end: () => void calls.push("end"),
    };
  };

  it("is given the prompt, then what is new, then told the end; with echo too", async () => {
    for (const echo of [false, true]) {
      const { model } = await open();
      const streamer = recorder();
      const { ids: made } = await generate(model, ids(3, 4), { ...greedy, maxNewTokens: 9, streamer, echo }).result();
      expect(streamer.calls[0]).toEqual([3, 4]);
      expect(streamer.calls.at(-1)).toBe("end");
      expect(streamer.calls.slice(1, -1).flat()).toEqual([...made].slice(echo ? 2 : 0));
    }
  });

  it("is told the end when the reader leaves or the signal fires", async () => {
    const { model } = await open();
    const [left, aborted] = [recorder(), recorder()];
    for await (const _ of generate(model, ids(3), { ...greedy, streamer: left })) break;
    expect(left.calls.at(-1)).toBe("end");
    const stop = new AbortController();
    const generation = generate(model, ids(3), { ...greedy, streamer: aborted, signal: stop.signal });
    for await (const _ of generation) stop.abort();
    expect((await generation.result()).stopReason).toBe("abort");
    expect(aborted.calls.at(-1)).toBe("end");
  });

  it("that throws ends the generation with its error, and the model goes on", async () => {
    const { model } = await open();
    const put = () => {
      throw new Error("no paper");
    };
    const failing = generate(model, ids(3), { ...greedy, maxNewTokens: 4, streamer: { put, end() {} } });
    await expect(failing.result()).rejects.toThrow("no paper");
    const { ids: made } = await generate(model, ids(3), { ...greedy, maxNewTokens: 4 }).result();
    expect([...made]).toEqual(expected([3], 4));
  });
});

describe("TextStreamer", () => {
  it("skips the prompt and prints up to the last space, a line's end or an ideograph", () => {
    const said: string[] = [];
    const texts = ["prompt ", "He", "llo wor", "ld\n", "x", "中", "y z", ""];
    const streamer = new TextStreamer(
      {
        ...tokenizer,
        decode: (tokens) => Array.from(tokens, (id) => texts[id]).join(""),
        stream: () => ({ push: (tokens) => Array.from(tokens, (id) => texts[id]).join(""), end: () => "" }),
      },
      (part, end) => said.push(end ? `${part}|` : part),
      { skipPrompt: true },
    );
    for (let id = 0; id < texts.length; id++) streamer.put([id]);
    streamer.end();
    expect(said).toEqual(["Hello ", "world\n", "x中", "y ", "z|"]);
  });
});
