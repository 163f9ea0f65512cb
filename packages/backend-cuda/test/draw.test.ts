// Draws without filters beside core's, over many seeds: the kernel computes the scores of a few ids only, chosen by bounds, and must draw
// what computing all of them draws.
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
});
