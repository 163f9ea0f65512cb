// The kept sets of transformers' own processors, for thousands of rows of options and logits (tools/generation.py processors).
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { type KeptSetOptions, keptSet, pcg3d } from "../../src/index.ts";

type Row = [
  row: number,
  scale: number,
  ids: number[],
  prompt: number,
  eos: number[],
  end: number,
  options: KeptSetOptions,
];
const read = (file: string): Buffer => readFileSync(new URL(`fixtures/${file}`, import.meta.url));
const golden = JSON.parse(read("processors.json").toString()) as { vocabulary: number; rows: Row[] };
const numbers = read("processors.bin");

/** As row_logits() of the tool: a sum of three uniform numbers of 24 bits. */
function rowLogits(row: number, scale: number): Float32Array {
  return Float32Array.from({ length: golden.vocabulary }, (_, id) => {
    const [a, b, c] = [1, 2, 3].map((seed) => (pcg3d(id, row, seed) >>> 8) / 2 ** 24) as [number, number, number];
    return scale * (a + b + c - 1.5);
  });
}

/** The expected set of each row: a bit per id, then the probabilities of those kept as float32. */
function* expectedSets(): Generator<{ ids: number[]; probabilities: number[] }> {
  let at = 0;
  for (const _ of golden.rows) {
    const ids: number[] = [];
    for (let id = 0; id < golden.vocabulary; id++) if ((numbers[at + (id >> 3)]! >> (id & 7)) & 1) ids.push(id);
    at += Math.ceil(golden.vocabulary / 8);
    const probabilities = ids.map((_, index) => numbers.readFloatLE(at + 4 * index));
    at += 4 * ids.length;
    yield { ids, probabilities };
  }
  expect(at).toBe(numbers.length);
}

it("keptSet equals transformers' processors for every row, ids and probabilities", () => {
  const used = new Map<string, number>();
  const sets = expectedSets();
  for (const [row, scale, ids, promptLength, eosTokenId, maxLength, options] of golden.rows) {
    const expected = sets.next().value!;
    const found = keptSet(rowLogits(row, scale), ids, { ...options, promptLength, eosTokenId, maxLength });
    const what = `row ${row}: ${JSON.stringify(options)}`;
    expect([...found.ids], what).toEqual(expected.ids);
    // The golden probabilities are rounded to float32: 2^-24 of each.
    found.probabilities.forEach((probability, index) => {
      const golden = expected.probabilities[index]!;
      expect(Math.abs(probability - golden), what).toBeLessThanOrEqual(golden * 2 ** -23 + 1e-30);
    });
    for (const name of Object.keys(options)) used.set(name, (used.get(name) ?? 0) + 1);
  }
  sets.next();
  expect(golden.rows.length).toBeGreaterThan(2000);
  expect(used.size).toBe(19);
  for (const [name, count] of used) expect(count, name).toBeGreaterThan(name.startsWith("forced") ? 30 : 300);
});

it("topH keeps nothing that cannot be drawn, as transformers' cumulated NaN does not", () => {
  // 4 at a temperature of 0.01: the others have the probability 0, and the entropy is 0.
  expect([...keptSet([4, -10, 0, 2], [], { temperature: 0.01, topK: 0, topH: 0.8 }).ids]).toEqual([0]);
});
