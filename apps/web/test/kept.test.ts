// The keys that a head keeps, against the definition taken word by word.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { droppedAt, standing, strengths, strongest } from "../src/attention/kept.ts";

/** docs/model.md: of the keys up to `position` the `window` greatest in (bias, position) order. */
function visible(biases: readonly number[], window: number, position: number): Set<number> {
  const keys = Array.from({ length: position + 1 }, (_, at) => at);
  keys.sort((a, b) => biases[b]! - biases[a]! || b - a);
  return new Set(keys.slice(0, window));
}

describe("kept keys", () => {
  test("are those of the definition, ties and all", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 30 }),
        fc.integer({ min: 1, max: 8 }),
        (biases, window) => {
          const dropped = droppedAt(biases, window);
          for (let position = 0; position < biases.length; position++) {
            const seen = visible(biases, window, position);
            for (let key = 0; key <= position; key++) {
              expect(standing(key, position, dropped)).toBe(seen.has(key) ? "kept" : "dropped");
            }
            for (let key = position + 1; key < biases.length; key++) {
              expect(standing(key, position, dropped)).toBe("not yet");
            }
          }
        },
      ),
    );
  });

  test("are all without a window", () => {
    expect([...droppedAt([3, 1, 2], null)]).toEqual([3, 3, 3]);
  });

  test("may not include the newest: it is the least", () => {
    expect([...droppedAt([3, 2, 1], 2)]).toEqual([3, 3, 2]);
  });

  test("strengths go from the least to the greatest", () => {
    expect([...strengths([1, 3, 2])]).toEqual([0, 1, 0.5]);
    expect([...strengths([2, 2])]).toEqual([0.5, 0.5]);
  });

  test("strongest first, of equals the most recent", () => {
    expect(strongest([1, 5, 5, 2, 9], 3, 3)).toEqual([2, 1, 3]);
  });
});
