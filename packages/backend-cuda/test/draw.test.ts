// Draws beside core's, over many seeds. Without filters the kernel computes the scores of a few ids only, chosen by bounds; under topK it
// lists a few likely ids and draws from those: both must draw what looking at all of them draws.
import { draw, type Sampling } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { shimBinding, withoutShim } from "./shim.ts";

const base: Sampling = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0, stop: [] };

describe.skipIf(withoutShim !== undefined)(`draws${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  const binding = withoutShim === undefined ? shimBinding() : (undefined as never);
  const device = withoutShim === undefined ? binding.open(0) : (undefined as never);
  const drawn = (logits: Float32Array, past: number[], sampling: Sampling, allowed?: Uint32Array): number => {
    const { stop, ...options } = sampling;
    const row = { tokens: Int32Array.from(past), stop: Int32Array.from(stop), ...options, allowed };
    return binding.kernelDraw(device, logits, past.length, row as never);
  };
  /** Logits of 8,192 ids and more: a block's turn and a rest, in rows that are whole fours and in others. */
  const kinds: [string, (id: number) => number][] = [
    ["equal", () => 0],
    ["even", (id) => Math.sin(id * 12.9898) * 2],
    ["steep", (id) => -Math.log(1 + ((id * 7919) % 9000)) * 3],
    ["large", (id) => Math.sin(id) * 1e30],
    ["small", (id) => Math.sin(id) * 1e-38],
    [
      "partly infinite",
      (id) => (id % 3 === 0 ? Number.NEGATIVE_INFINITY : id % 1000 === 7 ? Number.POSITIVE_INFINITY : id),
    ],
    ["one finite", (id) => (id === 8200 ? 3 : Number.NEGATIVE_INFINITY)],
  ];

  test.each(kinds)("%s logits", (_, of) => {
    for (const vocabulary of [8220, 8221]) {
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => of(id));
      const allowed = new Uint32Array(Math.ceil(vocabulary / 32)).fill(0xbeefdead);
      for (const temperature of [0, 1e-6, 1e-3, 0.3, 1, 4, 1e6]) {
        for (let seed = 0; seed < 3; seed++) {
          const plain = { ...base, temperature, seed };
          const past = [1, 2, 5, 8200, 4000 + seed];
          for (const [sampling, mask] of [
            [plain, undefined],
            [{ ...plain, repetitionPenalty: 1.7 }, allowed],
          ] as const)
            expect(drawn(logits, past, sampling, mask), JSON.stringify(sampling)).toBe(
              draw(logits, past, past.length, sampling, mask),
            );
        }
      }
    }
  });

  test.each([33, 128, 1500])("a thousand seeds over %i ids, with and without a penalty", (vocabulary) => {
    for (let seed = 0; seed < 1000; seed++) {
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => Math.sin(id * 78.233 + seed) * 3);
      const repetitionPenalty = [1, 0.8, 1.7][seed % 3]!;
      const past = Array.from({ length: seed % 40 }, (_, index) => (index * index * 7 + seed) % vocabulary);
      const sampling = { ...base, seed, repetitionPenalty, temperature: (seed % 13) / 4 };
      expect(drawn(logits, past, sampling), JSON.stringify(sampling)).toBe(draw(logits, past, past.length, sampling));
    }
  });

  const filters: Partial<Sampling>[] = [
    { topK: 1 },
    { topK: 2 },
    { topK: 50, topP: 0.9 },
    { topK: 50, topP: 0 },
    { topK: 255, topP: 0.5, minP: 0.01 },
    { topK: 256, minP: 0.2 },
    { topK: 257, topP: 0.999 },
    { topK: 600, topP: 0.97 },
    { topK: 100_000, topP: 0.3 },
    { topP: 0.8 },
    { minP: 0.05 },
  ];

  test.each(kinds)("filters over %s logits", (_, of) => {
    // Fewer ids than threads, than places in the list, and more; rows of whole fours and others.
    for (const vocabulary of [7, 200, 400, 8220, 8221]) {
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => of(id % 8221));
      if (!logits.some(Number.isFinite)) continue;
      const allowed = new Uint32Array(Math.ceil(vocabulary / 32)).fill(0xbeefdead);
      for (const [index, filter] of filters.entries()) {
        for (const temperature of [1e-3, 0.7, 4]) {
          const sampling = { ...base, ...filter, temperature, seed: index };
          const past = [1, 2, 5, 6, vocabulary - 1];
          for (const [its, mask] of [
            [sampling, undefined],
            [{ ...sampling, repetitionPenalty: 1.7 }, allowed],
          ] as const)
            expect(drawn(logits, past, its, mask), JSON.stringify({ vocabulary, its })).toBe(
              draw(logits, past, past.length, its, mask),
            );
        }
      }
    }
  });

  test("equal scores at topK's end all stay, however many they are", () => {
    for (const [greater, equal] of [
      [49, 2],
      [49, 400],
      [49, 3000],
      [0, 700],
      [300, 300],
    ] as const) {
      const vocabulary = 8192;
      // The equal ones are spread; everything else is less.
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => {
        const rank = (id * 2_731) % vocabulary;
        return rank < greater ? 5 + rank / 64 : rank < greater + equal ? 4 : -rank / 1000;
      });
      const seen = new Set<number>();
      for (let seed = 0; seed < 60; seed++) {
        const sampling = { ...base, topK: greater + 1, temperature: 9, seed };
        const id = drawn(logits, [], sampling);
        expect(id).toBe(draw(logits, [], 0, sampling));
        seen.add(logits[id]!);
      }
      expect(Math.min(...seen)).toBe(4);
    }
  });

  test("two thousand seeds under filters", () => {
    for (let seed = 0; seed < 2000; seed++) {
      const vocabulary = [64, 999, 3000][seed % 3]!;
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => Math.sin(id * 78.233 + seed) * 4);
      const past = Array.from({ length: seed % 40 }, (_, index) => (index * index * 7 + seed) % vocabulary);
      const repetitionPenalty = [1, 0.8, 1.7][seed % 3]!;
      const { topK = 0, topP = 1, minP = 0 } = filters[seed % filters.length]!;
      const sampling = { ...base, seed, repetitionPenalty, topK, topP, minP, temperature: 0.2 + (seed % 13) / 4 };
      expect(drawn(logits, past, sampling), JSON.stringify(sampling)).toBe(draw(logits, past, past.length, sampling));
    }
  });
});
