// Learnt vocabularies against the Rust library's (goldens by tools/tokenizer/identity.ts), and what comes of them.
import { readFileSync } from "node:fs";
import { createTokenizer, isDogeError } from "@doge-lm/core";
import { createFastTokenizer, trainTokenizer } from "@doge-lm/tokenizer-fast";
import { describe, expect, test } from "vitest";

const read = (name: string): string => readFileSync(new URL(`fixtures/${name}`, import.meta.url), "utf8");
const corpus = read("corpus.txt").split("\n");
interface Trained {
  readonly pattern: "llama3" | "gpt2";
  readonly special: string[];
  readonly size: number;
  readonly least: number;
  readonly limit: number | null;
  readonly vocab: Record<string, number>;
  readonly merges: [string, string][];
}
const goldens = JSON.parse(read("trained.json")) as Trained[];

describe("merges of the Rust library", () => {
  test.each(goldens)("$pattern, $size ids, least count $least, limit $limit", async (golden) => {
    const json = await trainTokenizer(corpus, {
      pattern: golden.pattern,
      specialTokens: golden.special,
      vocabSize: golden.size,
      minFrequency: golden.least,
      maxTokenLength: golden.limit ?? undefined,
    });
    expect(golden.merges.length).toBeGreaterThan(100);
    expect(json.model).toMatchObject({ merges: golden.merges, vocab: golden.vocab });
  });
});

test("what is learnt is a tokenizer.json for every reader", async () => {
  const [golden] = goldens as [Trained];
  async function* stream() {
    yield* corpus;
  }
  const json = await trainTokenizer(stream(), {
    vocabSize: golden.size,
    specialTokens: golden.special,
    bosToken: "<|begin_of_text|>",
  });
  const [slow, fast] = [createTokenizer(json), await createFastTokenizer(json)];
  const text = "How many birds are there?<|end_of_text|>\n";
  expect([...fast.encode(text)]).toEqual([...slow.encode(text)]);
  expect(fast.encode(text)[0]).toBe(0);
  expect(fast.encode(text)).toContain(1);
  expect(fast.decode(fast.encode(text), { skipSpecial: false })).toBe(`<|begin_of_text|>${text}`);
  // Words of the corpus are tokens now: fewer ids than bytes by far.
  expect(fast.encode("How many birds are there?").length).toBeLessThan(12);
});

test("nothing to learn from gives the bytes alone", async () => {
  const tokenizer = await createFastTokenizer(await trainTokenizer([]));
  expect(tokenizer.size).toBe(256);
  expect(tokenizer.decode(tokenizer.encode("é\ud800"))).toBe("é\ufffd");
});

describe("what is refused", () => {
  test.each([
    [{ vocabSize: -1 }, "vocabSize is -1"],
    [{ vocabSize: 1.5 }, "vocabSize is 1.5"],
    [{ minFrequency: Number.NaN }, "minFrequency is NaN"],
    [{ specialTokens: ["a", ""] }, "specialTokens"],
    [{ specialTokens: ["<x>", "<x>"] }, "twice"],
    [{ pattern: "gpt4" as "gpt2" }, '"gpt4"'],
    [{ bosToken: "<s>" }, '"<s>"'],
  ])("%j", async (options, said) => {
    const error = await trainTokenizer(corpus, options).catch((caught: unknown) => caught);
    expect(isDogeError(error, "invalid-argument")).toBe(true);
    expect((error as Error).message).toContain(said);
  });

  test("a text that is no string, and a special token that ordinary text would make", async () => {
    const error = await trainTokenizer(["a", 7 as unknown as string]).catch((caught: unknown) => caught);
    expect(isDogeError(error, "invalid-argument")).toBe(true);
    const made = await trainTokenizer(["to to to to"], { specialTokens: ["to"] }).catch((caught: unknown) => caught);
    expect(isDogeError(made, "tokenizer-invalid")).toBe(true);
  });
});
