// What every Tokenizer must do: encoding and decoding against the Rust library, and the odd inputs of every day. A tokenizer
// of another package is held to it by the same call.
import { describe, expect, test } from "vitest";
import { isDogeError, type TokenizerFactory } from "../../src/index.ts";
import { decodings, encodings, pick, random, tokenizerConfig, tokenizerJson } from "./support.ts";

/** Registers the tests for the tokenizers that `create` makes. */
export async function tokenizerSuite(create: TokenizerFactory): Promise<void> {
  const gpt2Json = tokenizerJson();
  gpt2Json.pre_tokenizer = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = await create(tokenizerJson(), tokenizerConfig());
  const byPattern = { llama3: tokenizer, gpt2: await create(gpt2Json, tokenizerConfig()) };

  describe("encode", () => {
    test("gives the ids of the Rust library, special strings parsed or not", () => {
      for (const [pattern, text, ids, plain] of encodings) {
        expect([...byPattern[pattern].encode(text)], JSON.stringify(text)).toEqual(ids);
        expect([...byPattern[pattern].encode(text, { parseSpecial: false })], JSON.stringify(text)).toEqual(plain);
      }
    });

    test("puts the begin-of-text id in front only when asked", () => {
      expect([...tokenizer.encode("")]).toEqual([0]);
      expect([...tokenizer.encode("", { addSpecial: false })]).toEqual([]);
      const ids = [...tokenizer.encode("Hi there")];
      expect(ids[0]).toBe(0);
      expect([...tokenizer.encode("Hi there", { addSpecial: false })]).toEqual(ids.slice(1));
    });

    test("takes the longest of two special strings", () => {
      const ids = tokenizer.encode("<think>><think>", { addSpecial: false });
      expect([...ids]).toEqual([tokenizer.special.get("<think>>"), tokenizer.special.get("<think>")]);
    });

    test("T3: with parseSpecial false no text gives a special id", () => {
      const controls = [...tokenizer.special.keys()];
      const ids = new Set(tokenizer.special.values());
      const draw = random(5);
      for (let round = 0; round < 300; round++) {
        let text = "";
        for (let part = draw(8); part >= 0; part--) {
          const control = pick(draw, controls);
          text += draw(2) === 0 ? control : control.slice(draw(control.length), draw(control.length) + 1);
        }
        const plain = tokenizer.encode(text, { addSpecial: false, parseSpecial: false });
        expect(plain.filter((id) => ids.has(id))).toHaveLength(0);
        expect(tokenizer.decode(plain)).toBe(text);
      }
    });

    test("T3: an added token that is a word of the vocabulary stays out of plain text", async () => {
      // With ignore_merges the Rust library would take this word whole from the vocabulary.
      const json = tokenizerJson();
      const id = Object.keys(json.model.vocab).length;
      json.model.vocab.dogecoin = id;
      json.added_tokens.push({ id, content: "dogecoin", special: true });
      const doge = await create(json);
      expect([...doge.encode("dogecoin", { addSpecial: false })]).toEqual([id]);
      const plain = doge.encode("dogecoin", { addSpecial: false, parseSpecial: false });
      expect(plain).not.toContain(id);
      expect(doge.decode(plain)).toBe("dogecoin");
    });

    test("T4: a lone surrogate counts as U+FFFD, NUL and U+FEFF stay", () => {
      expect([...tokenizer.encode("a\ud800b\udc00")]).toEqual([...tokenizer.encode("a\ufffdb\ufffd")]);
      for (const text of ["\0", "a\0b", "\ufeff", "\ufeffa\ufeff", "\u202eabc\u200f", "👨‍👩‍👧‍👦"]) {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }
    });

    test("T4: one megabyte without a space", () => {
      const draw = random(7);
      const letters = Array.from({ length: 1 << 20 }, () => String.fromCharCode(97 + draw(26))).join("");
      expect(tokenizer.decode(tokenizer.encode(letters)) === letters).toBe(true);
    });

    test("T4: long runs that a word pattern could go through again and again", () => {
      const length = 1 << 17;
      for (const text of [" ".repeat(length), `${" ".repeat(length)}x`, "\n ".repeat(length), "<|".repeat(length)]) {
        expect(tokenizer.decode(tokenizer.encode(text)) === text).toBe(true);
      }
    });

    test("what is not a string is refused", () => {
      expect(() => tokenizer.encode(undefined as unknown as string)).toThrow(/text to encode is undefined/);
    });
  });

  describe("decode", () => {
    test("gives the text of the Rust library, broken UTF-8 included", () => {
      for (const [ids, text, withoutSpecial] of decodings) {
        expect(tokenizer.decode(ids, { skipSpecial: false }), ids.join(" ")).toBe(text);
        expect(tokenizer.decode(ids), ids.join(" ")).toBe(withoutSpecial);
      }
    });

    test("no clean-up: spaces before punctuation stay", () => {
      const text = "Hello , world ! I 'm here . do n't ?";
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    });

    test("an id out of range is named with the size", () => {
      for (const id of [-1, 480, 1.5, Number.NaN]) {
        let error: unknown;
        try {
          tokenizer.decode([300, id]);
        } catch (caught) {
          error = caught;
        }
        expect(isDogeError(error, "invalid-token")).toBe(true);
        expect((error as Error).message).toContain(`Id ${id} at place 1 is not in the vocabulary of 480.`);
      }
      expect(tokenizer.decode(tokenizer.encode("and on we go"))).toBe("and on we go");
    });
  });

  describe("stream", () => {
    test("T4: only whole code points leave, and the pieces are the whole", () => {
      const draw = random(11);
      for (let round = 0; round < 400; round++) {
        const ids = Array.from({ length: draw(40) }, () => (draw(3) === 0 ? draw(tokenizer.size) : 16 + draw(256)));
        const skipSpecial = draw(2) === 0;
        const stream = tokenizer.stream({ skipSpecial });
        let text = "";
        for (let at = 0; at < ids.length; ) {
          const count = draw(4);
          const piece = stream.push(ids.slice(at, at + count));
          expect(piece.isWellFormed()).toBe(true);
          text += piece;
          at += count;
        }
        text += stream.end();
        expect(text).toBe(tokenizer.decode(ids, { skipSpecial }));
      }
    });

    test("T4: a character of four bytes cut between tokens waits for its last byte", () => {
      const ids = tokenizer.encode("𐅀", { addSpecial: false });
      expect(ids).toHaveLength(4);
      const stream = tokenizer.stream();
      expect([...ids].map((id) => stream.push([id]))).toEqual(["", "", "", "𐅀"]);
      expect(stream.end()).toBe("");
    });

    test("what never becomes whole comes out at the end, and a bad id changes nothing", () => {
      const ids = [...tokenizer.encode("a𐅀", { addSpecial: false })];
      const stream = tokenizer.stream();
      expect(stream.push(ids.slice(0, 3))).toBe("a");
      expect(() => stream.push([ids[3]!, 480])).toThrow(/480/);
      expect(stream.push(ids.slice(3))).toBe("𐅀");
      expect(stream.push(ids.slice(1, 3))).toBe("");
      expect(stream.end()).toBe("\ufffd");
      expect(stream.push(ids.slice(0, 1))).toBe("a");
    });
  });

  describe("create", () => {
    test("a file that is wrong is refused with the entry named", async () => {
      const json = tokenizerJson();
      json.model.merges.push(["no", "such"]);
      let error: unknown;
      try {
        await create(json);
      } catch (caught) {
        error = caught;
      }
      expect(isDogeError(error, "tokenizer-invalid")).toBe(true);
      expect((error as Error).message).toContain("model.merges[");
    });

    test("patterns one after the other, and none at all", async () => {
      const json = tokenizerJson();
      const [split, bytes] = json.pre_tokenizer.pretokenizers;
      json.pre_tokenizer = { type: "Sequence", pretokenizers: [split, { ...bytes, use_regex: true }] };
      const both = await create(json);
      json.pre_tokenizer = bytes;
      const none = await create(json);
      for (const [, text] of encodings) {
        expect(both.decode(both.encode(text), { skipSpecial: false })).toBe(`<|begin_of_text|>${text.toWellFormed()}`);
        expect(none.decode(none.encode(text, { parseSpecial: false }))).toBe(text.toWellFormed());
      }
    });
  });
}
