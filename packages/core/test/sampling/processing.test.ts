// Options beyond a device's draw, in the loop over the mock: masks and how long they hold, draws on the host, echo, what is refused.
import { describe, expect, it } from "vitest";
import type { LoopOptions, Model, SampleRow } from "../../src/index.ts";
import { checked, generate, isDogeError, keptSet, logProbabilities, tokenMask } from "../../src/index.ts";
import { checkpoint, config, logitsAfter, MockBackend } from "../running/mock.ts";
import { mockTokenizer } from "../running/text.ts";

const vocabulary = config.vocabSize;
const prompt = Int32Array.of(3, 4, 5);
const base: LoopOptions = { temperature: 0, stop: [], maxNewTokens: 24 };

/** A model on the mock, with the rows of every sample call that reached it. */
async function open(): Promise<{ model: Model; raw: MockBackend; rows: SampleRow[] }> {
  const raw = new MockBackend();
  const rows: SampleRow[] = [];
  const load = raw.load.bind(raw);
  raw.load = async (source, options) => {
    const model = await load(source, options);
    const { sample } = model;
    return Object.assign(model, {
      sample: ((all, signal) => {
        rows.push(...all);
        return sample(all, signal);
      }) satisfies Model["sample"],
    });
  };
  const model = await checked(raw).load(checkpoint({ maxPositions: 200 }));
  return { model, raw, rows };
}

/** The definition: one id after the other, the best or drawn one of what keptSet leaves. */
function expected(options: Parameters<typeof keptSet>[2], count: number): number[] {
  const ids = [...prompt];
  const maxLength = prompt.length + count;
  for (let step = 0; step < count; step++) {
    const kept = keptSet(logitsAfter(ids), ids, { ...options, promptLength: prompt.length, maxLength, temperature: 0 });
    if (kept.ids.length === 0) break;
    ids.push(kept.ids[0]!);
    if (options?.stop?.includes(kept.ids[0]!)) break;
  }
  return ids.slice(prompt.length);
}
const free = expected({}, 24);
const code = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (isDogeError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "nothing was thrown";
};

describe("masks", () => {
  it("are drawn under on the device, in chunks as long as each holds", async () => {
    const stop = [free[1]!, free[6]!];
    const early = free.slice(0, 4);
    expect(free.indexOf(free[9]!)).toBe(9);
    const cases: [Parameters<typeof keptSet>[2] & object, chunked: boolean][] = [
      [{ suppressTokens: early }, true],
      [{ beginSuppressTokens: early }, true],
      [{ badWordsIds: [[free[0]!], [free[3]!]] }, true],
      [{ badWordsIds: [[free[0]!, free[1]!], [free[2]!]] }, false],
      [{ noRepeatNgramSize: 1 }, false],
      [{ stop, minNewTokens: 9 }, true],
      [{ stop, minLength: 15 }, true],
      // Allowed at the very place where it is the most likely for the first time.
      [{ stop: [free[9]!], minNewTokens: 9 }, true],
      [{ forcedEosTokenId: 7 }, true],
      [{ stop, minNewTokens: 9, badWordsIds: [[stop[0]!]], suppressTokens: early.slice(2) }, true],
    ];
    for (const [options, chunked] of cases) {
      const { model, rows } = await open();
      const result = await generate(model, prompt, { ...base, ...options }).result();
      expect([...result.ids], JSON.stringify(options)).toEqual(expected(options, 24));
      expect([...result.ids]).not.toEqual(free);
      expect(result.drawnOn).toBe("device");
      const single = rows.filter(({ count }) => count === 1).length;
      if (chunked) expect(Math.max(...rows.map(({ count }) => count))).toBeGreaterThan(1);
      else expect(single).toBe(rows.length);
    }
  });

  it("allowedTokens sees every id so far and rules each place", async () => {
    const { model, rows } = await open();
    const seen: number[][] = [];
    const allowedTokens = (ids: Int32Array) => {
      seen.push([...ids]);
      return ids.length % 2 === 1 ? tokenMask([10, 11, 12], vocabulary) : null;
    };
    const result = await generate(model, prompt, { ...base, maxNewTokens: 8, allowedTokens }).result();
    expect(seen).toEqual(Array.from({ length: 8 }, (_, step) => [...prompt, ...result.ids.slice(0, step)]));
    for (const [step, id] of result.ids.entries()) if (step % 2 === 0) expect([10, 11, 12]).toContain(id);
    expect(rows.length).toBe(8);
    expect(result.drawnOn).toBe("device");
  });

  it("that leave nothing end the text, on the device and on the host, and it is said", async () => {
    for (const host of [false, true]) {
      const { model } = await open();
      const sequence = model.sequence();
      const allowedTokens = (ids: Int32Array) => tokenMask(ids.length < 6 ? [8, 9] : [], vocabulary);
      const options = { ...base, allowedTokens, ...(host ? { logitsProcessors: [() => {}] } : {}) };
      const result = await generate(model, { sequence, tokens: prompt }, options).result();
      expect([result.ids.length, result.stopReason, result.drawnOn]).toEqual([
        3,
        "exhausted",
        host ? "host" : "device",
      ]);
      expect(sequence.length).toBe(6);
    }
  });

  it("of the wrong kind are refused, and what was written stays", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    const allowedTokens = (ids: Int32Array) => (ids.length < 5 ? null : new Uint32Array(1));
    const generation = generate(model, { sequence, tokens: prompt }, { ...base, allowedTokens });
    await expect(generation.result()).rejects.toThrow("allowedTokens returned Uint32Array(1)");
    expect(sequence.length).toBe(4); // the id after it was drawn but never seen
  });
});

describe("draws on the host", () => {
  it("give the device's ids for the same seed, chunk or not, and ln p as it does", async () => {
    const { model } = await open();
    for (const seed of [1, 2, 3]) {
      const options: LoopOptions = {
        ...{
          seed,
          temperature: 0.9,
          topK: 20,
          topP: 0.9,
          minP: 0.02,
          repetitionPenalty: 1.2,
          stop: [],
          maxNewTokens: 30,
        },
        ...{ noRepeatNgramSize: 3, logprobs: 2 },
      };
      const device = await generate(model, prompt, options).result();
      const host = await generate(model, prompt, { ...options, logitsProcessors: [() => {}] }).result();
      expect([...host.ids]).toEqual([...device.ids]);
      expect(host.logprobs).toEqual(device.logprobs);
      expect([device.drawnOn, host.drawnOn]).toEqual(["device", "host"]);
    }
  });

  it("are made for the filters a device does not have, and only where a token is drawn", async () => {
    const { model } = await open();
    const at = async (options: LoopOptions) =>
      (await generate(model, prompt, { ...base, seed: 1, ...options }).result()).drawnOn;
    for (const options of [{ typicalP: 0.9 }, { epsilonCutoff: 0.01 }, { etaCutoff: 0.01 }, { topH: 0.5 }]) {
      expect(await at({ ...options, temperature: 1 })).toBe("host");
      expect(await at({ ...options, temperature: 0 })).toBe("device");
    }
    expect(await at({ typicalP: 1, epsilonCutoff: 0, etaCutoff: 1, noRepeatNgramSize: 0, temperature: 1 })).toBe(
      "device",
    );
    expect(await at({ sequenceBias: [[[3], 1]] })).toBe("host");
    expect(await at({ forcedEosTokenId: [3, 4] })).toBe("host");
  });

  it("draw every id from the kept set of a typical, an epsilon and an eta cut", async () => {
    const { model } = await open();
    for (const options of [{ typicalP: 0.4 }, { epsilonCutoff: 0.05 }, { etaCutoff: 0.3 }]) {
      const { ids } = await generate(model, prompt, { ...base, ...options, temperature: 1.5, seed: 3 }).result();
      const before = [...prompt];
      for (const id of ids) {
        const kept = keptSet(logitsAfter(before), before, { ...options, temperature: 1.5 });
        expect(kept.ids.length).toBeLessThan(vocabulary);
        expect([...kept.ids]).toContain(id);
        before.push(id);
      }
    }
  });

  it("let a function change the scores behind the other processors", async () => {
    const { model } = await open();
    const seen: number[] = [];
    const logitsProcessors = [
      (ids: Int32Array, scores: Float64Array) => {
        seen.push(ids.length);
        expect(scores[free[0]!]).toBe(Number.NEGATIVE_INFINITY);
        scores[11] = 100;
        ids.fill(0); // a copy: it changes nothing
      },
      (_: Int32Array, scores: Float64Array) => {
        if (seen.length === 3) scores.fill(Number.NEGATIVE_INFINITY, 11, 12);
      },
    ];
    const options = { ...base, maxNewTokens: 4, suppressTokens: [free[0]!], logitsProcessors };
    const { ids } = await generate(model, prompt, options).result();
    expect(seen).toEqual([3, 4, 5, 6]);
    expect([ids[0], ids[1], ids[3]]).toEqual([11, 11, 11]);
    expect(ids[2]).not.toBe(11);
    const nan = generate(model, prompt, { ...base, logitsProcessors: [(_, scores) => scores.fill(Number.NaN, 2, 3)] });
    await expect(nan.result()).rejects.toThrow("score of id 2 is NaN");
  });

  it("leave the sequence with exactly the ids given out: at the end, at a stop, left early, aborted, failed", async () => {
    const { model, raw } = await open();
    const tokenizer = mockTokenizer();
    const options: LoopOptions = { ...base, tokenizer, logitsProcessors: [() => {}] };
    const after = async (sequence: ReturnType<Model["sequence"]>, ids: ArrayLike<number>) => {
      expect(sequence.length).toBe(prompt.length + ids.length);
      const [logits] = await model.forward([{ sequence, tokens: Int32Array.of(9) }]);
      expect(logits).toEqual(logitsAfter([...prompt, ...Array.from(ids), 9]));
    };
    const run = async (more: LoopOptions) => {
      const sequence = model.sequence();
      const result = await generate(model, { sequence, tokens: prompt }, { ...options, ...more }).result();
      await after(sequence, result.ids);
      return result;
    };
    expect([...(await run({})).ids]).toEqual(free);
    expect((await run({ maxNewTokens: 0 })).ids.length).toBe(0);
    expect((await run({ stop: [free[4]!] })).stopReason).toBe("eos");
    expect((await run({ stopStrings: tokenizer.decode(free.slice(5, 7)) })).stopReason).toBe("stop");

    const left = model.sequence();
    const seen: number[] = [];
    for await (const piece of generate(model, { sequence: left, tokens: prompt }, options)) {
      seen.push(...piece.ids);
      if (seen.length === 5) break;
    }
    await after(left, seen);

    const stopped = model.sequence();
    const controller = new AbortController();
    const generation = generate(
      model,
      { sequence: stopped, tokens: prompt },
      { ...options, signal: controller.signal },
    );
    for await (const piece of generation) if (piece.ids[0] === free[3]) controller.abort();
    const result = await generation.result();
    expect([[...result.ids], result.stopReason]).toEqual([free.slice(0, result.ids.length), "abort"]);
    await after(stopped, result.ids);

    raw.nanAfter = free[5]!;
    const failed = generate(model, { sequence: model.sequence(), tokens: prompt }, options);
    await expect(failed.result()).rejects.toThrow("NaN");
    raw.nanAfter = -1;
    expect([...(await run({})).ids]).toEqual(free);
  });

  it("end at the context", async () => {
    const raw = new MockBackend();
    const model = await checked(raw).load(checkpoint({ maxPositions: 10 }));
    const options = { ...base, maxNewTokens: 100, logitsProcessors: [() => {}] };
    const result = await generate(model, prompt, options).result();
    expect([result.ids.length, result.stopReason]).toEqual([7, "length"]);
  });
});

describe("echo", () => {
  it("puts the prompt first, in pieces, text and ids", async () => {
    const { model } = await open();
    const tokenizer = mockTokenizer();
    const pieces: number[][] = [];
    const generation = generate(model, prompt, { ...base, tokenizer, maxNewTokens: 5, echo: true });
    for await (const { ids } of generation) pieces.push([...ids]);
    const result = await generation.result();
    expect(pieces[0]).toEqual([...prompt]);
    expect([...result.ids]).toEqual([...prompt, ...free.slice(0, 5)]);
    expect([...result.promptIds]).toEqual([...prompt]);
    const known = [...result.ids].filter((id) => id < tokenizer.size); // the model has a few ids more
    expect(result.text).toBe(tokenizer.decode(known));
    // A stop string in the prompt stops nothing.
    const stopStrings = tokenizer.decode(prompt.slice(0, 2));
    const again = await generate(model, prompt, {
      ...base,
      tokenizer,
      maxNewTokens: 5,
      echo: true,
      stopStrings,
    }).result();
    expect([...again.ids]).toEqual([...result.ids]);
  });

  it("with logprobs gives ln p of the prompt too, the same alone and with alternatives", async () => {
    for (const logprobs of [0, 3]) {
      const { model } = await open();
      const result = await generate(model, prompt, { ...base, maxNewTokens: 4, echo: true, logprobs }).result();
      expect(result.logprobs!.map(({ id }) => id)).toEqual([...result.ids]);
      expect(result.logprobs![0]).toEqual({ id: 3, logprob: 0, top: [] });
      for (let index = 1; index < result.ids.length; index++) {
        const ln = logProbabilities(logitsAfter(result.ids.subarray(0, index)));
        const { logprob, top } = result.logprobs![index]!;
        expect(logprob).toBeCloseTo(ln[result.ids[index]!]!, 5);
        expect(top.length).toBe(logprobs);
        if (logprobs > 0) expect(top[0]![1]).toBeCloseTo(Math.max(...ln), 5);
      }
      expect(result.timings.prefillTokens).toBe(3);
    }
  });
});

describe("what is refused", () => {
  it("names the option and its value", async () => {
    const { model } = await open();
    const bad: [LoopOptions, string][] = [
      [{ noRepeatNgramSize: -1 }, "noRepeatNgramSize is -1"],
      [{ noRepeatNgramSize: 1.5 }, "noRepeatNgramSize is 1.5"],
      [{ minNewTokens: Number.NaN }, "minNewTokens is NaN"],
      [{ minLength: -2 }, "minLength is -2"],
      [{ typicalP: 0 }, "typicalP is 0"],
      [{ topH: 1.1 }, "topH is 1.1"],
      [{ epsilonCutoff: -0.1 }, "epsilonCutoff is -0.1"],
      [{ etaCutoff: 2 }, "etaCutoff is 2"],
      [{ suppressTokens: [40] }, "suppressTokens is 40"],
      [{ beginSuppressTokens: 3 as never }, "beginSuppressTokens is 3"],
      [{ badWordsIds: [[]] }, "badWordsIds has Array(0)"],
      [{ badWordsIds: [[40]] }, "badWordsIds has the id 40"],
      [{ badWordsIds: [3] as never }, "badWordsIds has 3"],
      [{ sequenceBias: [[[1], Number.NaN]] }, "sequenceBias is Array(2)"],
      [{ forcedBosTokenId: -1 }, "forcedBosTokenId is -1"],
      [{ forcedEosTokenId: [] }, "forcedEosTokenId is Array(0)"],
      [{ forcedEosTokenId: null as never }, "forcedEosTokenId is null"],
      [{ exponentialDecayLengthPenalty: [1, "2" as never] }, "exponentialDecayLengthPenalty is Array(2)"],
      [{ exponentialDecayLengthPenalty: [1, 0] }, "exponentialDecayLengthPenalty is Array(2)"],
      [{ allowedTokens: 3 as never }, "allowedTokens is 3"],
      [{ logitsProcessors: [3] as never }, "logitsProcessors is Array(1)"],
    ];
    for (const [options, words] of bad) {
      expect(code(() => generate(model, prompt, { ...base, ...options }))).toContain(words);
      expect(code(() => generate(model, prompt, { ...base, ...options }))).toMatch(/^invalid-argument: /);
    }
  });

  it("a sequence whose ids are not known, where an option looks at them", async () => {
    const { model } = await open();
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: prompt }]);
    const call = () => generate(model, { sequence, tokens: new Int32Array(0) }, { ...base, noRepeatNgramSize: 2 });
    expect(code(call)).toMatch(/^invalid-argument: .*noRepeatNgramSize.*holds 3/);
  });
});
