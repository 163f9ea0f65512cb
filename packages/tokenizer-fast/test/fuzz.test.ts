// The fast tokenizer and core's own give the same for any text, ids and pieces of a stream, and for damaged files.
import { readFileSync } from "node:fs";
import { createTokenizer } from "@doge-lm/core";
import { createFastTokenizer } from "@doge-lm/tokenizer-fast";
import fc from "fast-check";
import { expect } from "vitest";
import { changed, fuzz, jsonChanges, worksOrRefuses } from "../../core/test/fuzz/fuzz.ts";
import { tokenizerJson } from "../../core/test/text/support.ts";

const json = JSON.parse(readFileSync(new URL("../../demo-model/tokenizer.json", import.meta.url), "utf8"));
const [fast, slow] = [await createFastTokenizer(json), createTokenizer(json)];
const sample = "Hi, how're you doing <|end_of_text|> 你好\ud800 １２ \r\n";
const wanted = [...slow.encode(sample)];
const good = () => expect([...fast.encode(sample)]).toEqual(wanted);

const piece = fc.oneof(
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.constantFrom(...fast.special.keys()),
  fc.constantFrom(
    "<|",
    "|>",
    "'S",
    "'ſ",
    " ",
    "\n",
    "\r\n",
    "\u0085",
    "\ufeff",
    "\ud800",
    "\udc00",
    "a".repeat(70),
    "中".repeat(30),
    "123456",
  ),
);
const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));

fuzz(
  "texts one by one and in a batch",
  400,
  fc.tuple(fc.array(text, { maxLength: 5 }), fc.boolean(), fc.boolean()),
  ([texts, addSpecial, parseSpecial]) => {
    const options = { addSpecial, parseSpecial };
    const { ids, ends } = fast.encodeBatch(texts, options);
    expect(ends).toHaveLength(texts.length);
    texts.forEach((one, index) => {
      const all = [...slow.encode(one, options)];
      expect([...fast.encode(one, options)]).toEqual(all);
      expect([...ids.subarray(ends[index - 1] ?? 0, ends[index])]).toEqual(all);
    });
  },
  good,
);

fuzz(
  "ids, whole and in a stream",
  300,
  fc.tuple(
    fc.array(fc.oneof(fc.nat(fast.size - 1), fc.integer({ min: 256, max: 511 })), { maxLength: 40 }),
    fc.boolean(),
  ),
  ([ids, skipSpecial]) => {
    const whole = slow.decode(ids, { skipSpecial });
    expect(fast.decode(ids, { skipSpecial })).toBe(whole);
    const stream = fast.stream({ skipSpecial });
    const pieces = ids.map((id) => stream.push([id]));
    for (const one of pieces) expect(one.isWellFormed()).toBe(true);
    expect(pieces.join("") + stream.end()).toBe(whole);
  },
  good,
);

fuzz(
  "tokenizer.json",
  100,
  fc.tuple(jsonChanges, text),
  async ([changes, one]) => {
    const damaged = changed(tokenizerJson(), changes);
    const made = await worksOrRefuses(["tokenizer-invalid"], () => createFastTokenizer(damaged));
    const other = await worksOrRefuses(["tokenizer-invalid"], () => createTokenizer(damaged));
    expect(made === undefined).toBe(other === undefined);
    if (made !== undefined) expect([...made.encode(one)]).toEqual([...other!.encode(one)]);
  },
  good,
);
