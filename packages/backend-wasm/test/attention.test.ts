// Attention over keys and values in every dtype they are held in: the numbers, exact sums where they are bytes, and bits that do not
// depend on company.
import { describe, expect, test } from "vitest";
import type { Binary } from "../src/index.ts";
import { openKernels } from "../src/kernels.ts";
import type { CacheDType } from "../src/layout.ts";

const numbers = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, index) => Math.sin((index + 1) * 12.9898 * seed) * 2);

/** As kernels.ts says it, in f64, for each query. */
function defined(query: Float32Array, keys: Float32Array, values: Float32Array, bias: Float32Array, headDim: number) {
  const out: number[] = [];
  for (let head = 0; head < query.length; head += headDim) {
    const weights = Array.from(bias, (own, slot) => {
      let score = 0;
      for (let at = 0; at < headDim; at++) score += query[head + at]! * keys[slot * headDim + at]!;
      return Math.exp(score / Math.sqrt(headDim) + own);
    });
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let at = 0; at < headDim; at++) {
      out.push(weights.reduce((sum, weight, slot) => sum + (weight / total) * values[slot * headDim + at]!, 0));
    }
  }
  return out;
}

const caches: Record<Binary, CacheDType[]> = { simd: ["f32", "bf16"], relaxed: ["f32", "bf16", "q8"] };

describe.each(["simd", "relaxed"] satisfies Binary[])("attention of %s", async (binary) => {
  const kernels = await openKernels({ binary });

  describe.each(caches[binary])("keys and values in %s", (cache) => {
    // Of values of at most 2 and scores of at most 6, in bytes: 1/126 of a query, 1/254 of a key, a value and a weight each.
    const step = { f32: 2e-6, bf16: 2e-2, q8: 8e-2 }[cache];

    test.each([
      [8, 1],
      [16, 5],
      [24, 16],
      [32, 17],
      [40, 33],
      [64, 64],
      [100, 65],
      [128, 200],
    ])("is the weighted sum of values, heads of %i, %i keys", (headDim, count) => {
      const [query, keys, values] = [numbers(3 * headDim, 1), numbers(count * headDim, 2), numbers(count * headDim, 3)];
      const bias = numbers(count, 4);
      const found = kernels.attentionAs(cache, false)(query, keys, values, bias, headDim);
      defined(query, keys, values, bias, headDim).forEach((expected, index) => {
        expect(Math.abs(found[index]! - expected), `number ${index}`).toBeLessThan(step);
      });
    });

    test("gives each head the same bits, alone and in company, in narrow, wide and fused tiles", () => {
      const [headDim, count, heads] = [40, 150, 13];
      const [query, keys, values] = [
        numbers(heads * headDim, 5),
        numbers(count * headDim, 6),
        numbers(count * headDim, 7),
      ];
      const bias = numbers(count, 8);
      const queryOf = (head: number) => query.slice(head * headDim, (head + 1) * headDim);
      const narrow = kernels.attentionAs(cache, false);
      const alone = Array.from({ length: heads }, (_, head) => narrow(queryOf(head), keys, values, bias, headDim));
      for (const attention of [narrow, kernels.attentionAs(cache, true), kernels.attentionAs(cache, false, true)]) {
        for (let some = 1; some <= heads; some++) {
          const together = attention(query.slice(0, some * headDim), keys, values, bias, headDim);
          for (let head = 0; head < some; head++) {
            expect(together.slice(head * headDim, (head + 1) * headDim)).toEqual(alone[head]);
          }
        }
      }
    });
  });
});

describe("keys and values in bytes", async () => {
  const kernels = await openKernels({ binary: "relaxed" });
  const tiles = [
    kernels.attentionAs("q8", false),
    kernels.attentionAs("q8", true),
    kernels.attentionAs("q8", false, true),
  ];
  const headDim = 48;

  test.each([
    ["small", 3],
    ["as large as can be", 127],
  ])("values that are %s are added up to the exact integer, in every tile", (_, most) => {
    for (const count of [1, 4, 16, 17, 31, 32, 40, 48, 63, 64]) {
      // All scores are 0, so that a weight is the scale of its value: an integer, of which each block of 32 has a 127.
      const scales = Array.from({ length: count }, (_, slot) => (slot % 32 === 0 ? 127 : ((slot * 37) % 127) + 1));
      const codes = Array.from({ length: count * headDim }, (_, index) => {
        const [slot, channel] = [Math.floor(index / headDim), index % headDim];
        if (most === 127) return (channel + slot) % 5 === 0 ? -127 : 127;
        return channel === slot % headDim ? -127 : ((index * 7) % (2 * most + 1)) - most;
      });
      const values = Float32Array.from(codes, (code, index) => code * scales[Math.floor(index / headDim)]!);
      for (const attention of tiles) {
        for (const heads of [1, 2, 3, 4, 7]) {
          const found = attention(
            new Float32Array(heads * headDim),
            new Float32Array(count * headDim),
            values,
            new Float32Array(count),
            headDim,
          );
          for (let index = 0; index < found.length; index++) {
            let sum = 0;
            for (let slot = 0; slot < count; slot++) sum += scales[slot]! * codes[slot * headDim + (index % headDim)]!;
            expect(Math.round(found[index]! * count), `number ${index} of ${count} keys`).toBe(sum);
          }
        }
      }
    }
  });

  test.each([
    ["small", () => false],
    ["as large as can be", () => true],
    ["of both kinds, key by key", (key: number) => key % 3 === 1],
    ["of both kinds, block by block", (key: number, block: number) => (key + block) % 2 === 0],
  ])("scores of products that are %s are the exact integers, in every tile", (_, alike) => {
    // Codes that need no rounding: 63 of the queries, 127 of the keys. Eight products of the largest add up to 64008, beyond 16 bits.
    // Heads of 64 are divided by 8: a bias takes each exact score off again, so that all weights are 1.
    const [wide, count] = [64, 70];
    const keys = Float32Array.from({ length: count * wide }, (_, index) => {
      const [key, at] = [Math.floor(index / wide), index % wide];
      if (alike(key, at >> 5)) return key % 2 === 0 ? 127 : -127;
      return at % 32 === 0 ? 127 : ((index * 13) % 41) - 20;
    });
    const queries = Array.from({ length: 7 }, (_, head) =>
      Float32Array.from({ length: wide }, (_, at) => {
        if (alike(head + 1, at >> 5)) return 63;
        return at % 32 === 0 ? 63 : (((at + head) * 5) % 21) - 10;
      }),
    );
    const values = Float32Array.from({ length: count * wide }, (_, index) =>
      index % wide === Math.floor(index / wide) % wide ? 0 : 1,
    );
    for (const [head, query] of queries.entries()) {
      const bias = Float32Array.from({ length: count }, (_, key) => {
        let sum = 0;
        for (let at = 0; at < wide; at++) sum += query[at]! * keys[key * wide + at]!;
        return -sum / 8;
      });
      for (const attention of tiles) {
        for (const [heads, at] of [
          [1, 0],
          [2, 1],
          [3, 2],
          [4, 3],
          [7, head],
        ] as const) {
          const many = new Float32Array(heads * wide);
          queries.slice(0, heads).forEach((other, row) => void many.set(other, row * wide));
          many.set(query, at * wide);
          const found = attention(many, keys, values, bias, wide).subarray(at * wide, (at + 1) * wide);
          for (let channel = 0; channel < wide; channel++) {
            const others = channel < count - wide ? count - 2 : count - 1;
            expect(Math.abs(found[channel]! - others / count), `channel ${channel} of ${heads} heads`).toBeLessThan(
              1e-6,
            );
          }
        }
      }
    }
  });

  test("a value that is no number reaches every channel, and one that is not seen none", () => {
    const count = 20;
    const values = numbers(count * headDim, 9);
    values[3 * headDim + 7] = Number.NaN;
    const zeros = new Float32Array(count * headDim);
    const seen = tiles[0]!(new Float32Array(headDim), zeros, values, new Float32Array(count), headDim);
    expect(Array.from(seen).every(Number.isNaN)).toBe(true);
    const bias = new Float32Array(count);
    bias[3] = -1000;
    const hidden = tiles[0]!(new Float32Array(headDim), zeros, values, bias, headDim);
    expect(Array.from(hidden).every(Number.isFinite)).toBe(true);
  });
});
