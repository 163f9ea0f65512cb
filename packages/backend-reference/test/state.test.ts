// The bounded cache against its definition: the greatest W of all keys so far, in (bias, position) order.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { JOURNAL, KeptKeys } from "../src/state.ts";

const one = (value: number) => Float32Array.of(value);

/** Biases from few values, so that they tie. Keys and values carry their position. */
function insert(kept: KeptKeys, position: number, bias: number): void {
  kept.insert(position, one(position), one(-position), one(bias));
}

function greatest(biases: readonly number[], window: number): number[] {
  return biases
    .map((bias, position) => ({ bias, position }))
    .sort((left, right) => right.bias - left.bias || right.position - left.position)
    .slice(0, window)
    .map(({ position }) => position)
    .sort((left, right) => left - right);
}

function expectState(kept: KeptKeys, biases: readonly number[], window: number): void {
  expect(kept.keptPositions()).toEqual(greatest(biases, window));
  const held: number[] = [];
  for (let slot = 0; slot < kept.slots; slot++) if (kept.isKept(slot)) held.push(kept.keys[slot]!);
  expect(held).toEqual(kept.keptPositions());
}

describe("KeptKeys", () => {
  it("keeps the greatest W through any inserts, rewinds within its reach and copies", () => {
    const step = fc.oneof(
      { weight: 20, arbitrary: fc.record({ bias: fc.integer({ min: 0, max: 4 }) }) },
      { weight: 2, arbitrary: fc.record({ back: fc.integer({ min: 0, max: JOURNAL }) }) },
      { weight: 1, arbitrary: fc.constant({ copy: true }) },
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.array(step, { minLength: 50, maxLength: 400 }),
        (window, steps) => {
          let kept = new KeptKeys(1, 1, window, 4);
          const biases: number[] = [];
          for (const action of steps) {
            if ("bias" in action) {
              insert(kept, biases.length, action.bias);
              biases.push(action.bias);
            } else if ("back" in action) {
              const length = Math.max(0, biases.length - action.back);
              if (length === 0) continue;
              expect(kept.reaches(length)).toBe(true); // 64 tokens back, always
              kept.truncate(length);
              biases.length = length;
            } else {
              const copy = kept.copy();
              insert(kept, biases.length, 99); // what happens to the original does not reach the copy
              kept = copy;
            }
            expectState(kept, biases, window);
          }
        },
      ),
      { numRuns: 200, seed: 5 },
    );
  });

  it("says when a rewind is out of reach, and stays bounded", () => {
    const kept = new KeptKeys(1, 1, 8, 8);
    for (let position = 0; position < 1000; position++) insert(kept, position, position % 7);
    expect(kept.reaches(1000 - JOURNAL)).toBe(true);
    expect(kept.reaches(500)).toBe(false);
    expect(kept.biases.length).toBeLessThan(4 * (8 + JOURNAL));
  });

  it("drops nothing without a window", () => {
    const kept = new KeptKeys(1, 1, null, 2);
    for (let position = 0; position < 100; position++) insert(kept, position, 0);
    expect(kept.keptPositions()).toHaveLength(100);
    kept.truncate(3);
    expect(kept.keptPositions()).toEqual([0, 1, 2]);
  });
});
