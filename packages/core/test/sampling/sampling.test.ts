// The definition of a draw: each filter against a naive sorted form, the edges of every option, and the frequencies.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Sampling } from "../../src/backend.ts";
import { isDogeError } from "../../src/errors.ts";
import { keptSet } from "../../src/sampling/kept-set.ts";
import { defaultSampling, draw, logProbabilities, mostLikely, validateSampling } from "../../src/sampling/sampling.ts";

const floats = (...values: number[]) => Float32Array.from(values);
const kept = (logits: ArrayLike<number>, options: Parameters<typeof keptSet>[2], ids: number[] = []) => [
  ...keptSet(logits, ids, options).ids,
];
const code = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (isDogeError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "nothing was thrown";
};

/** The rules of transformers' processors, sorted and one after the other, groups of equals kept whole. */
function naive(logits: readonly number[], past: readonly number[], o: Sampling, allowed?: ReadonlySet<number>) {
  const score = logits.map((logit, id) => {
    const seen = past.includes(id);
    const penalised = !seen ? logit : logit < 0 ? logit * o.repetitionPenalty : logit / o.repetitionPenalty;
    return penalised / o.temperature;
  });
  let ids = score.map((_, id) => id).filter((id) => (allowed?.has(id) ?? true) && score[id]! > -Infinity);
  if (ids.length === 0) return { ids, probabilities: [], gap: 1 };
  const descending = () => [...ids].sort((a, b) => score[b]! - score[a]!);
  if (o.topK > 0 && o.topK < ids.length) {
    const last = score[descending()[o.topK - 1]!]!;
    ids = ids.filter((id) => score[id]! >= last);
  }
  const best = Math.max(...ids.map((id) => score[id]!));
  const weight = (id: number) => Math.exp(score[id]! - best);
  let gap = 1; // distance of the cuts from the sums they cut at
  if (o.topP < 1) {
    const total = ids.reduce((sum, id) => sum + weight(id), 0);
    let mass = 0;
    let cut = -Infinity;
    for (const id of descending()) {
      mass += weight(id) / total;
      gap = Math.min(gap, Math.abs(mass - o.topP));
      if (cut === -Infinity && mass >= o.topP) cut = score[id]!;
    }
    ids = ids.filter((id) => score[id]! >= cut);
  }
  ids = ids.filter((id) => weight(id) >= o.minP);
  const total = ids.reduce((sum, id) => sum + weight(id), 0);
  return { ids, probabilities: ids.map((id) => weight(id) / total), gap };
}

describe("keptSet", () => {
  it("keeps every token with its softmax when no filter is on", () => {
    const { ids, probabilities } = keptSet(floats(0, Math.log(3)), []);
    expect([...ids]).toEqual([0, 1]);
    expect(probabilities[1]).toBeCloseTo(0.75, 6);
  });

  it("topK keeps the ties with the k-th", () => {
    expect(kept(floats(1, 3, 2, 2, 0), { topK: 2 })).toEqual([1, 2, 3]);
    expect(kept(floats(1, 3, 2, 2, 0), { topK: 1 })).toEqual([1]);
    expect(kept(floats(1, 3, 2, 2, 0), { topK: 0 })).toEqual([0, 1, 2, 3, 4]);
    expect(kept(floats(1, 3, 2, 2, 0), { topK: 2147483647 })).toEqual([0, 1, 2, 3, 4]);
  });

  it("topP keeps the token that crosses it, and a group of equals whole", () => {
    const logits = Float32Array.from([0.5, 0.2, 0.2, 0.1], Math.log);
    expect(kept(logits, { topP: 0.4 })).toEqual([0]);
    expect(kept(logits, { topP: 0.6 })).toEqual([0, 1, 2]);
    expect(kept(logits, { topP: 0.95 })).toEqual([0, 1, 2, 3]);
    expect(kept(logits, { topP: 1 })).toEqual([0, 1, 2, 3]);
    expect(kept(logits, { topP: 0 })).toEqual([0]);
  });

  it("topP looks at what topK left, renormalised", () => {
    const logits = Float32Array.from([0.4, 0.3, 0.2, 0.1], Math.log);
    expect(kept(logits, { topP: 0.69 })).toEqual([0, 1]);
    expect(kept(logits, { topP: 0.69, topK: 2 })).toEqual([0, 1]);
    expect(kept(logits, { topP: 0.5, topK: 2 })).toEqual([0]);
    expect(kept(logits, { topP: 0.5 })).toEqual([0, 1]);
  });

  it("minP compares with the most likely", () => {
    const logits = Float32Array.from([0.6, 0.31, 0.09], Math.log);
    expect(kept(logits, { minP: 0.5 })).toEqual([0, 1]);
    expect(kept(logits, { minP: 1 })).toEqual([0]);
    expect(kept(logits, { minP: 0.1 })).toEqual([0, 1, 2]);
  });

  it("repetitionPenalty counts an id once and turns on the sign", () => {
    const { ids, probabilities } = keptSet(floats(2, -1, 0.5), [0, 0, 1, 0], { repetitionPenalty: 2 });
    const scores = [1, -2, 0.5].map(Math.exp);
    const total = scores.reduce((a, b) => a + b);
    expect([...ids]).toEqual([0, 1, 2]);
    probabilities.forEach((probability, id) => {
      expect(probability).toBeCloseTo(scores[id]! / total, 12);
    });
  });

  it("temperature 0 keeps the single most likely, the lowest id on a tie, after the penalty", () => {
    expect(kept(floats(1, 4, 4), { temperature: 0 })).toEqual([1]);
    expect(kept(floats(1, 4, 3), { temperature: 0, repetitionPenalty: 2 }, [1])).toEqual([2]);
    expect([...keptSet(floats(1, 4, 4), [], { temperature: 0 }).probabilities]).toEqual([1]);
  });

  it("equals the sorted form over the whole vocabulary, with every filter alone and together", () => {
    let compared = 0;
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -40, max: 40 }), { minLength: 1, maxLength: 60 }),
        fc.array(fc.nat(59), { maxLength: 8 }),
        fc.record({
          temperature: fc.constantFrom(1, 0.25, 3),
          topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 70 })),
          topP: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
          minP: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
          repetitionPenalty: fc.constantFrom(1, 2, 0.5),
        }),
        fc.option(fc.uniqueArray(fc.nat(59)), { nil: undefined }),
        (eighths, past, options, allowedIds) => {
          const logits = Float32Array.from(eighths, (value) => value / 8);
          const allowed = allowedIds && new Uint32Array(2);
          for (const id of allowedIds ?? []) allowed![id >> 5]! |= 1 << (id & 31);
          const sampling = { ...defaultSampling, ...options };
          const expected = naive([...logits], past, sampling, allowedIds && new Set(allowedIds));
          if (expected.gap < 1e-9) return; // the sum lies within rounding of topP: either answer is right
          compared++;
          const actual = keptSet(logits, past, { ...options, allowed });
          expect([...actual.ids]).toEqual(expected.ids);
          actual.probabilities.forEach((probability, index) => {
            expect(probability).toBeCloseTo(expected.probabilities[index]!, 10);
          });
        },
      ),
      { numRuns: 1500, seed: 7 },
    );
    expect(compared).toBeGreaterThan(1000);
  });

  it("finds the exact thresholds in a vocabulary of 131,072", () => {
    const logits = Float32Array.from({ length: 131072 }, (_, id) => ((id * 7919) % 131072) / 20000);
    const sorted = [...logits].sort((a, b) => b - a);
    for (const topK of [1, 50, 5000, 131071]) {
      const cut = sorted[topK - 1]!;
      expect(kept(logits, { topK })).toEqual([...logits.keys()].filter((id) => logits[id]! >= cut));
    }
    const weights = sorted.map(Math.exp);
    const total = weights.reduce((a, b) => a + b);
    for (const topP of [0.01, 0.9, 0.999]) {
      let mass = 0;
      const count = weights.findIndex((weight) => (mass += weight / total) >= topP) + 1;
      expect(kept(logits, { topP }).length).toBe([...logits].filter((logit) => logit >= sorted[count - 1]!).length);
    }
  });
});

describe("draw", () => {
  it("draws by the softmax, rare tokens included (chi-square)", () => {
    // 400,000 draws of ids at 0.5 down to 2e-4: 10 classes, 9 degrees of freedom; 27.9 is the 0.1 % point.
    const probabilities = [0.5, 0.25, 0.15, 0.05, 0.03, 0.015, 0.004, 0.0005, 0.0003, 0.0002];
    const logits = Float32Array.from(probabilities, Math.log);
    const counts = new Float64Array(probabilities.length);
    const draws = 400_000;
    for (let position = 0; position < draws; position++) {
      counts[draw(logits, [], position % 4096, { seed: 1 + Math.floor(position / 4096) })]!++;
    }
    const statistic = probabilities.reduce(
      (sum, probability, id) => sum + (counts[id]! - draws * probability) ** 2 / (draws * probability),
      0,
    );
    expect(statistic).toBeLessThan(27.9);
  });

  it("draws by the kept set when filters are on (chi-square)", () => {
    const logits = Float32Array.from({ length: 64 }, (_, id) => Math.sin(id) * 2);
    const options = { temperature: 0.8, topK: 20, topP: 0.9, minP: 0.05, repetitionPenalty: 1.3 };
    const { ids, probabilities } = keptSet(logits, [3, 7], options);
    const counts = new Map<number, number>();
    const draws = 60_000;
    for (let position = 0; position < draws; position++) {
      const id = draw(logits, [3, 7], position, { ...options, seed: 5 });
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual([...ids]);
    const statistic = [...ids].reduce((sum, id, index) => {
      const expected = draws * probabilities[index]!;
      return sum + (counts.get(id)! - expected) ** 2 / expected;
    }, 0);
    // 99.9 % point of chi-square by Wilson and Hilferty for the degrees of freedom at hand.
    const degrees = ids.length - 1;
    expect(degrees).toBeGreaterThan(5);
    expect(statistic).toBeLessThan(degrees * (1 - 2 / (9 * degrees) + 3.09 * Math.sqrt(2 / (9 * degrees))) ** 3);
  });

  it("is greedy at temperature 0, with the lowest id on a tie", () => {
    expect(draw(floats(0, 5, 5, 1), [], 0, { temperature: 0, seed: 3 })).toBe(1);
  });

  it("draws only what is allowed, and -1 when nothing is", () => {
    const logits = floats(9, 0, 0, 0);
    for (let position = 0; position < 50; position++) {
      expect([1, 3]).toContain(draw(logits, [], position, {}, Uint32Array.of(0b1010)));
    }
    expect(draw(logits, [], 0, {}, Uint32Array.of(0))).toBe(-1);
    expect(draw(logits, [], 0, { temperature: 0 }, Uint32Array.of(0))).toBe(-1);
    expect(draw(floats(-Infinity, 1), [], 0, {}, Uint32Array.of(0b01))).toBe(-1);
  });

  it("refuses logits with a NaN or with nothing finite, and never draws -Infinity (T9)", () => {
    for (const temperature of [0, 1]) {
      expect(code(() => draw(floats(1, NaN, 2), [], 0, { temperature }))).toMatch(/^numerical: .*id 1/);
      expect(code(() => draw(floats(-Infinity, -Infinity), [], 0, { temperature }))).toMatch(/^numerical/);
      expect(draw(floats(-Infinity, -3), [], 0, { temperature })).toBe(1);
    }
  });
});

describe("validateSampling", () => {
  it("names the option and its value (T9)", () => {
    const bad: [keyof Sampling, unknown][] = [
      ["temperature", NaN],
      ["temperature", -1],
      ["temperature", Infinity],
      ["temperature", 1e9],
      ["temperature", 1e-300],
      ["topK", -1],
      ["topK", 1.5],
      ["topK", NaN],
      ["topP", -0.1],
      ["topP", 1.1],
      ["topP", NaN],
      ["minP", -0.1],
      ["minP", 2],
      ["repetitionPenalty", 0],
      ["repetitionPenalty", -1],
      ["repetitionPenalty", Infinity],
      ["seed", -1],
      ["seed", 2 ** 32],
      ["seed", 2 ** 64],
      ["seed", 0.5],
      ["stop", 3],
    ];
    for (const [option, value] of bad) {
      const message = code(() => validateSampling({ ...defaultSampling, [option]: value } as Sampling, "row 2: "));
      expect(message).toContain(`invalid-argument: [doge:core] row 2: ${option} is ${String(value)};`);
    }
    expect(code(() => validateSampling({ ...defaultSampling, stop: [1, -1] }))).toContain("stop is -1");
    expect(code(() => keptSet(floats(1), [], { topP: 7 }))).toContain("topP is 7");
  });

  it("accepts the ends of every range", () => {
    validateSampling({ ...defaultSampling, temperature: 0, topP: 0, minP: 1, seed: 4294967295, topK: 2147483647 });
    validateSampling({ ...defaultSampling, temperature: 1e6, repetitionPenalty: 1e-9 });
  });
});

describe("ln p", () => {
  it("is the log-softmax, stable for large logits", () => {
    const values = logProbabilities(floats(1000, 1000 + Math.log(3), -1000));
    expect(values[0]).toBeCloseTo(Math.log(0.25), 4);
    expect(values[1]).toBeCloseTo(Math.log(0.75), 4);
    expect(code(() => logProbabilities(floats(NaN)))).toMatch(/^numerical/);
  });

  it("mostLikely orders by logit, then by id, as a sort would", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 40 }),
        fc.nat(20),
        (logits, k) => {
          const sorted = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
          expect([...mostLikely(logits, k)]).toEqual(sorted.slice(0, k));
        },
      ),
      { seed: 3 },
    );
  });
});
