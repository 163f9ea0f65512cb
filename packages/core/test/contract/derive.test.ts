// sample and score as derived from forward: against forward and core's draw one token at a time.
import { describe, expect, it } from "vitest";
import type { Sampling } from "../../src/index.ts";
import { checked, defaultSampling, draw, logProbabilities } from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend } from "../running/mock.ts";

const ids = (...values: number[]) => Int32Array.from(values);
const sampling: Sampling = { ...defaultSampling, temperature: 0.9, topK: 12, repetitionPenalty: 1.2, seed: 77 };

/** The definition: forward, draw, append. */
function expected(prompt: readonly number[], count: number, options: Sampling, allowed?: Uint32Array): number[] {
  const all = [...prompt];
  while (all.length < prompt.length + count) {
    const id = draw(logitsAfter(all), all, all.length, options, allowed);
    if (id < 0) break;
    all.push(id);
    if (options.stop.includes(id)) break;
  }
  return all.slice(prompt.length);
}
const model = async () => checked(new MockBackend()).load(checkpoint());

describe("sampleByForward", () => {
  it("draws what forward and draw give, alone, in company and in any chunks", async () => {
    const doge = await model();
    const prompts = [[3], [4, 5, 6], [7, 8]];
    const rows = prompts.map((prompt, index) => ({
      sequence: doge.sequence(),
      tokens: ids(...prompt),
      count: 5 * index,
      sampling: { ...sampling, seed: index },
    }));
    const together = await doge.sample(rows);
    together.forEach(({ ids: drawn }, index) => {
      expect([...drawn]).toEqual(expected(prompts[index]!, 5 * index, { ...sampling, seed: index }));
    });
    const alone = doge.sequence();
    const chunks: number[] = [];
    for (const [index, count] of [1, 3, 0, 6].entries()) {
      const tokens = index === 0 ? ids(7, 8) : ids();
      const [drawn] = await doge.sample([{ sequence: alone, tokens, count, sampling: { ...sampling, seed: 2 } }]);
      chunks.push(...drawn!.ids);
    }
    expect(chunks).toEqual([...together[2]!.ids]);
    expect(alone.length).toBe(12);
  });

  it("a stop is returned and holds until tokens are appended or it is rewound", async () => {
    const doge = await model();
    const stop = expected([3], 4, sampling)[3]!;
    const options = { ...sampling, stop: [stop, 39] };
    const drawn = expected([3], 20, options);
    const sequence = doge.sequence();
    const go = async (tokens: number[], count = 20) => [
      ...(await doge.sample([{ sequence, tokens: ids(...tokens), count, sampling: options }]))[0]!.ids,
    ];
    expect(await go([3])).toEqual(drawn);
    const { length } = sequence;
    expect(await go([])).toEqual([]);
    expect(sequence.length).toBe(length);
    sequence.rewind(length); // nothing: there are no more
    expect(await go([])).toEqual([]);
    const fork = sequence.fork();
    expect((await doge.sample([{ sequence: fork, tokens: ids(), count: 2, sampling: options }]))[0]!.ids.length).toBe(
      0,
    );
    expect(await go([9], 2)).toEqual(expected([3, ...drawn, 9], 2, options));
    sequence.rewind(length - 1);
    expect(await go([])).toEqual([drawn.at(-1)]);
  });

  it("ends when nothing is allowed", async () => {
    const doge = await model();
    const row = { sequence: doge.sequence(), tokens: ids(3), count: 4, sampling };
    const only = new Uint32Array(2);
    only[0] = (1 << 6) | (1 << 9);
    const [some] = await doge.sample([{ ...row, allowed: only }]);
    expect([...some!.ids]).toEqual(expected([3], 4, sampling, only));
    const [none] = await doge.sample([{ ...row, tokens: ids(), allowed: new Uint32Array(2) }]);
    expect(none!.ids.length).toBe(0);
    expect(row.sequence.length).toBe(5);
  });

  it("gives ln p before filters, and the most likely", async () => {
    const doge = await model();
    const row = { sequence: doge.sequence(), tokens: ids(3, 4), count: 3, sampling };
    const [drawn] = await doge.sample([{ ...row, alternatives: 4 }]);
    const all = [3, 4];
    drawn!.ids.forEach((id, index) => {
      const reference = logProbabilities(logitsAfter(all));
      expect(drawn!.logprobs[index]).toBeCloseTo(reference[id]!, 5);
      const top = [...reference.keys()].sort((a, b) => reference[b]! - reference[a]!).slice(0, 4);
      expect([...drawn!.topIds.subarray(4 * index, 4 * index + 4)]).toEqual(top);
      top.forEach((other, place) => {
        expect(drawn!.topLogprobs[4 * index + place]).toBeCloseTo(reference[other]!, 5);
      });
      all.push(id);
    });
    const [zero] = await doge.sample([{ ...row, tokens: ids(), alternatives: 0 }]);
    expect([zero!.logprobs.length, zero!.topIds.length]).toEqual([3, 0]);
    const [unasked] = await doge.sample([{ ...row, tokens: ids() }]);
    expect([unasked!.logprobs.length, unasked!.topIds.length, unasked!.topLogprobs.length]).toEqual([0, 0, 0]);
  });
});

describe("scoreByForward", () => {
  it("is the log-softmax of forward, 0 for a sequence's first token, and appends", async () => {
    const doge = await model();
    const [a, b] = [doge.sequence(), doge.sequence()];
    await doge.forward([{ sequence: b, tokens: ids(5, 6) }]);
    const rows = [
      { sequence: a, tokens: ids(3, 4, 5) },
      { sequence: b, tokens: ids(7, 8) },
    ];
    const [first, second] = await doge.score(rows);
    const lnp = (past: number[], id: number) => logProbabilities(logitsAfter(past))[id]!;
    expect([...first!]).toEqual([0, expect.closeTo(lnp([3], 4), 5), expect.closeTo(lnp([3, 4], 5), 5)]);
    expect([...second!]).toEqual([expect.closeTo(lnp([5, 6], 7), 5), expect.closeTo(lnp([5, 6, 7], 8), 5)]);
    expect([a.length, b.length]).toEqual([3, 4]);
    expect((await doge.score([{ sequence: a, tokens: ids() }]))[0]!.length).toBe(0);
  });

  it("crosses its pieces without a seam", async () => {
    const doge = await checked(new MockBackend()).load(checkpoint({ maxPositions: 200 }));
    const tokens = Int32Array.from({ length: 150 }, (_, index) => (index * 7) % 40);
    const [scores] = await doge.score([{ sequence: doge.sequence(), tokens }]);
    for (const at of [1, 63, 64, 65, 128, 149]) {
      expect(scores![at]).toBeCloseTo(logProbabilities(logitsAfter(tokens.subarray(0, at)))[tokens[at]!]!, 5);
    }
  });
});
