// TextStreamer against transformers' own, piece by piece (tools/generation.py streamer), on the small tokenizer of the text tests.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { TextStreamer } from "../../src/index.ts";
import { tokenizer } from "./support.ts";

interface Case {
  readonly skipPrompt: boolean;
  readonly skipSpecialTokens: boolean;
  /** What is put in for each answer: the prompt's ids, then one id at a time. */
  readonly answers: number[][][];
  /** What it prints, and whether that ends an answer. */
  readonly said: [string, boolean][];
}
const golden = JSON.parse(readFileSync(new URL("fixtures/streamer.json", import.meta.url), "utf8")) as {
  cases: Case[];
};

it("prints what transformers' TextStreamer prints, over two answers in a row", () => {
  expect(golden.cases.length).toBe(36);
  for (const { skipPrompt, skipSpecialTokens, answers, said } of golden.cases) {
    const found: [string, boolean][] = [];
    const streamer = new TextStreamer(tokenizer, (text, end) => found.push([text, end]), {
      skipPrompt,
      skipSpecialTokens,
    });
    for (const puts of answers) {
      for (const ids of puts) streamer.put(ids);
      streamer.end();
    }
    expect(found).toEqual(said);
  }
});
