// How an answer is looked into.
import { expect, test } from "vitest";
import { calls } from "../src/engine/look.ts";

test("an answer is looked into in bounded calls, or in those of its generation", () => {
  expect(calls(70, 150, false)).toEqual([
    [0, 64],
    [64, 128],
    [128, 150],
  ]);
  expect(calls(70, 72, true)).toEqual([
    [0, 70],
    [70, 71],
    [71, 72],
  ]);
});
