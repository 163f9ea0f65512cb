// Ids and texts against the Rust library's (goldens by tools/tokenizer/identity.ts), and against core's own tokenizer.
import { readFileSync } from "node:fs";
import { createTokenizer } from "@doge-lm/core";
import { createFastTokenizer } from "@doge-lm/tokenizer-fast";
import { describe, expect, test } from "vitest";
import { letters, numbers, spaces } from "../../core/src/unicode.ts";
import { around, glued, hashOfIds, hashOfTexts, idList, line } from "./lines.ts";

const read = (address: string): string => readFileSync(new URL(address, import.meta.url), "utf8");
const json = JSON.parse(read("../../demo-model/tokenizer.json"));
const fast = await createFastTokenizer(json);
const goldens = JSON.parse(read("fixtures/goldens.json")) as {
  readonly [kind in "encoded" | "special" | "decoded"]: readonly string[];
};
const lines = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => line(from + index));

describe("the Rust library", () => {
  test.each(goldens.encoded.map((golden, block) => [block, golden]))("lines, block %i", (block, golden) => {
    const texts = lines(block * 100, 100);
    expect(hashOfIds(texts.map((text) => fast.encode(text)))).toBe(golden);
  });

  test("special tokens glued together, cut, one inside another, beside lone surrogates", () => {
    const hashes = goldens.special.map((_, block) => {
      const texts = Array.from({ length: 100 }, (_, index) => glued(block * 100 + index));
      const { ids, ends } = fast.encodeBatch(texts);
      return hashOfIds(texts.map((_, index) => ids.subarray(ends[index - 1] ?? 0, ends[index])));
    });
    expect(hashes).toEqual(goldens.special);
  });

  const streamed = (ids: readonly number[], skipSpecial: boolean): string => {
    const stream = fast.stream({ skipSpecial });
    return ids.map((id) => stream.push([id])).join("") + stream.end();
  };
  test.each([
    ["whole", (ids: readonly number[], skipSpecial: boolean) => fast.decode(ids, { skipSpecial })],
    ["as streams", streamed],
  ])("id lists that are broken UTF-8 decode alike %s, with and without special tokens", (_, decode) => {
    const hashes = goldens.decoded.map((_, block) => {
      const lists = Array.from({ length: 100 }, (_, index) => idList(block * 100 + index, fast.size));
      return hashOfTexts(lists.flatMap((ids) => [decode(ids, false), decode(ids, true)]));
    });
    expect(hashes).toEqual(goldens.decoded);
  });
});

describe("core's tokenizer", () => {
  const slow = createTokenizer(json);

  test("lines, special strings parsed or not", () => {
    for (const text of lines(1_000_000, 300)) {
      for (const parseSpecial of [true, false]) {
        const options = { parseSpecial, addSpecial: parseSpecial };
        expect([...fast.encode(text, options)], JSON.stringify(text)).toEqual([...slow.encode(text, options)]);
      }
    }
  });

  test("characters at the edges of letters, numbers and spaces", () => {
    const edges = new Set<number>();
    for (const [, code] of `${letters}${numbers}`.matchAll(/\\u\{([0-9a-f]+)\}/g)) {
      for (const near of [-1, 0, 1]) edges.add(Number.parseInt(code!, 16) + near);
    }
    for (let code = 0; code < 0x3100; code++)
      if (new RegExp(`[${spaces}]`, "u").test(String.fromCodePoint(code))) edges.add(code);
    expect(edges.size).toBeGreaterThan(2000);
    const texts = [...edges].filter((code) => code < 0xd800 || code > 0xdfff).map(around);
    const { ids, ends } = fast.encodeBatch(texts);
    texts.forEach((text, index) => {
      const found = ids.subarray(ends[index - 1] ?? 0, ends[index]);
      expect(found.join(), JSON.stringify(text)).toBe(slow.encode(text).join());
    });
  });
});
