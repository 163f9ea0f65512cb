// The import checker itself: it must see imports of every form, and refuse those that cross an arrow.
import { describe, expect, test } from "vitest";
import { circles, judge, specifiers, violations } from "./arrows.ts";

test("every form of import is seen, and nothing else", () => {
  const source = `import a from "a";
import {
  b,
} from "b";
import "c";
export * from "d";
export type { E } from "e";
const lazy = await import("f");
export const text = "from 'nowhere'";
// import x from "comment-is-not-at-the-start";
`;
  expect(specifiers(source)).toEqual(["a", "b", "c", "d", "e", "f"]);
});

describe("what is refused", () => {
  test.each([
    ["packages/core/src/open.ts", "node:fs"],
    ["packages/core/src/open.ts", "@doge-lm/wasm"],
    ["packages/core/src/open.ts", "lodash"],
    ["packages/backend-wasm/src/model.ts", "@doge-lm/reference"],
    ["packages/backend-wasm/src/model.ts", "../../core/src/index.ts"],
    ["packages/conformance/src/index.ts", "@doge-lm/wasm"],
  ])("%s imports %s", (file, specifier) => {
    expect(judge(file, specifier)).toMatch(/\w/);
  });

  test.each([
    ["packages/core/src/node/folder.ts", "node:fs"],
    ["packages/backend-wasm/src/model.ts", "@doge-lm/core"],
    ["packages/backend-wasm/test/kernels.test.ts", "@doge-lm/reference"],
    ["packages/core/src/tokenizer.ts", "@huggingface/tokenizers"],
    ["apps/cli/src/main.ts", "commander"],
  ])("but not: %s imports %s", (file, specifier) => {
    expect(judge(file, specifier)).toBeNull();
  });
});

test("imports that go round in a circle are found, and those that only meet are not", () => {
  const meeting = new Map([
    ["a", ["b", "c"]],
    ["b", ["d"]],
    ["c", ["d"]],
    ["d", []],
  ]);
  expect(circles(meeting)).toEqual([]);
  expect(circles(new Map([...meeting, ["d", ["b"]]]))).toEqual([["b", "d", "b"]]);
  expect(circles(new Map([["a", ["a"]]]))).toEqual([["a", "a"]]);
});

test("no import of this repository crosses an arrow", () => {
  expect(violations()).toEqual([]);
});
