// T1: everything in a tokenizer.json that is not known to be right is refused by name.
import { describe, expect, test } from "vitest";
import { createTokenizer, isDogeError } from "../../src/index.ts";
import { tokenizer, tokenizerConfig, tokenizerJson } from "./support.ts";

// biome-ignore lint/suspicious/noExplicitAny: the cases break the file in every way
type Break = (json: any) => void;

const cases: [what: string, spoil: Break, says: RegExp][] = [
  ["another model type", (j) => (j.model.type = "WordPiece"), /model\.type is "WordPiece".*"BPE"/],
  ["no model", (j) => delete j.model, /model is undefined/],
  ["an unknown entry of the file", (j) => (j.magic = 1), /the entry "magic"/],
  ["an unknown entry of the model", (j) => (j.model.fudge = 1), /model has the entry "fudge"/],
  ["dropout", (j) => (j.model.dropout = 0.1), /model\.dropout is 0\.1/],
  ["byte fallback", (j) => (j.model.byte_fallback = true), /model\.byte_fallback is true/],
  ["a word prefix", (j) => (j.model.continuing_subword_prefix = "##"), /continuing_subword_prefix is "##"/],
  ["an unknown token", (j) => (j.model.unk_token = "<unk>"), /unk_token is "<unk>"/],
  ["a normalizer", (j) => (j.normalizer = { type: "Lowercase" }), /normalizer is \{"type":"Lowercase"\}/],
  [
    "an unknown pre-tokenizer",
    (j) => (j.pre_tokenizer = { type: "Whitespace" }),
    /pre_tokenizer\.type is "Whitespace"/,
  ],
  [
    "an unknown pre-tokenizer in the list",
    (j) => (j.pre_tokenizer.pretokenizers[0] = { type: "Digits" }),
    /pre_tokenizer\.pretokenizers\[0\]\.type is "Digits"/,
  ],
  ["an empty list of pre-tokenizers", (j) => (j.pre_tokenizer.pretokenizers = []), /pre_tokenizer has no component/],
  ["no pre-tokenizer", (j) => (j.pre_tokenizer = null), /pre_tokenizer is null/],
  [
    "T2: a pattern of exponential time, or any other unknown one",
    (j) => (j.pre_tokenizer.pretokenizers[0].pattern.Regex = "(a+)+$"),
    /pattern is "\(a\+\)\+\$".*not a known one/,
  ],
  [
    "T2: a pattern of exponential time in a normalizer",
    (j) => (j.normalizer = { type: "Replace", pattern: { Regex: "(a+)+$" }, content: "" }),
    /normalizer is .*"\(a\+\)\+\$".*not supported/,
  ],
  ["a pattern that is a string", (j) => (j.pre_tokenizer.pretokenizers[0].pattern = { String: " " }), /"String":" "/],
  ["another behaviour", (j) => (j.pre_tokenizer.pretokenizers[0].behavior = "Removed"), /behavior is "Removed"/],
  ["an inverted pattern", (j) => (j.pre_tokenizer.pretokenizers[0].invert = true), /invert is true/],
  ["a prefix space", (j) => (j.pre_tokenizer.pretokenizers[1].add_prefix_space = true), /add_prefix_space is true/],
  [
    "an unknown post-processor",
    (j) => (j.post_processor = { type: "BertProcessing" }),
    /post_processor\.type is "BertP/,
  ],
  [
    "a post-processor with an id that is none",
    (j) => (j.post_processor.processors[1].special_tokens["<|begin_of_text|>"].ids = [480]),
    /"<\|begin_of_text\|>" the ids \[480\].*0 to 479/,
  ],
  [
    "a post-processor that names no known token",
    (j) => (j.post_processor.processors[1].special_tokens = {}),
    /"<\|begin_of_text\|>" the ids undefined/,
  ],
  ["a post-processor that loses the text", (j) => j.post_processor.processors[1].single.pop(), /has no sequence A/],
  ["another decoder", (j) => (j.decoder = { type: "Metaspace" }), /decoder\.type is "Metaspace"/],
  ["no decoder", (j) => (j.decoder = null), /decoder is null/],
  ["a merge without a space", (j) => (j.model.merges[3] = "ab"), /model\.merges\[3\] is "ab"/],
  ["a merge of three", (j) => (j.model.merges[3] = ["a", "b", "c"]), /model\.merges\[3\] is \["a","b","c"\]/],
  ["a merge of numbers", (j) => (j.model.merges[3] = [1, 2]), /model\.merges\[3\] is \[1,2\]/],
  [
    "a merge of unknown tokens",
    (j) => (j.model.merges[3] = ["a", "zzz"]),
    /merges\[3\] joins "a" and "zzz".*no "azzz"/,
  ],
  ["a merge that stands twice", (j) => j.model.merges.push(j.model.merges[0]), /a second time/],
  [
    "a merge that makes a special token",
    (j) => j.added_tokens.push({ id: j.model.vocab.in, content: "in", special: true }),
    /makes "in", an added token/,
  ],
  ["no merges", (j) => delete j.model.merges, /model\.merges is undefined/],
  ["a missing byte", (j) => delete j.model.vocab.Ģ, /model\.vocab has no "Ģ"/],
  ["a hole in the ids", (j) => (j.model.vocab.in = 480), /id of "in" is 480, but there are 480 tokens/],
  ["an id beyond all others", (j) => (j.model.vocab.in = 1e9), /id of "in" is 1000000000/],
  ["the same id twice", (j) => (j.model.vocab.in = 300), /is 300, which is also the id of/],
  ["a negative id", (j) => (j.model.vocab.in = -1), /id of "in" is -1/],
  ["a broken id", (j) => (j.model.vocab.in = 1.5), /id of "in" is 1\.5/],
  ["an id that is a string", (j) => (j.model.vocab.in = "7"), /id of "in" is "7"/],
  [
    "a byte token out of range",
    (j) => (j.model.vocab["<0x-1>"] = 480),
    /model\.vocab\["<0x-1>"\] looks like a byte token/,
  ],
  ["a byte token too long", (j) => (j.model.vocab["<0x100>"] = 480), /<0x100>.*looks like a byte token/],
  ["a token outside the alphabet", (j) => (j.model.vocab["a b"] = 480), /"a b"\] has " ".*byte alphabet/],
  ["an added token beyond the ids", (j) => j.added_tokens.push({ id: 999, content: "<x>" }), /id of "<x>" is 999/],
  ["an added token twice", (j) => j.added_tokens.push(j.added_tokens[0]), /added_tokens\[16\] is .* a second time/],
  [
    "an added token with two ids",
    (j) => (j.added_tokens[1].id = 5),
    /added_tokens\[1\] gives .* the id 5, model\.vocab 1/,
  ],
  ["an added token without text", (j) => (j.added_tokens[1].content = ""), /added_tokens\[1\]\.content is ""/],
  ["an added token with a space", (j) => (j.added_tokens[1].content = "<x> "), /content is "<x> "/],
  ["an added token that is a byte", (j) => j.added_tokens.push({ id: 480, content: "!" }), /added_tokens\[16\]/],
  ["an added token that strips", (j) => (j.added_tokens[1].lstrip = true), /added_tokens\[1\]\.lstrip is true/],
  ["normalized and not", (j) => (j.added_tokens[1].normalized = true), /added_tokens\[1\]\.normalized differs/],
];

describe("T1: createTokenizer refuses", () => {
  test.each(cases)("%s", (_what, spoil, says) => {
    const json = tokenizerJson();
    spoil(json);
    let error: unknown;
    try {
      createTokenizer(json, tokenizerConfig());
    } catch (caught) {
      error = caught;
    }
    expect(isDogeError(error, "tokenizer-invalid")).toBe(true);
    expect((error as Error).message).toMatch(/^\[doge:core\] tokenizer\.json: /);
    expect((error as Error).message).toMatch(says);
  });

  test.each([null, [], "x", 3])("a file that is %s", (file) => {
    expect(() => createTokenizer(file)).toThrow(/tokenizer\.json: the file is/);
  });

  test("a bos token that the tokenizer does not have", () => {
    expect(() => createTokenizer(tokenizerJson(), { bos_token: "<s>" })).toThrow(
      /tokenizer_config\.json: bos_token is "<s>"/,
    );
  });
});

describe("createTokenizer accepts", () => {
  test("merges as strings, with the same ids", () => {
    const json = tokenizerJson();
    json.model.merges = json.model.merges.map((pair: string[]) => pair.join(" "));
    const text = "Hi, how are you doing today? 你好";
    expect([...createTokenizer(json).encode(text)]).toEqual([...tokenizer.encode(text)]);
  });

  test("special tokens above the vocabulary, as in Llama 3's file", () => {
    const json = tokenizerJson();
    json.added_tokens.push({ id: 480, content: "<extra>", special: true });
    const extra = createTokenizer(json);
    expect(extra.size).toBe(481);
    expect([...extra.encode("a<extra>")].at(-1)).toBe(480);
    expect(extra.decode([480], { skipSpecial: false })).toBe("<extra>");
  });

  test("no post-processor: nothing is added", () => {
    const json = tokenizerJson();
    json.post_processor = null;
    expect([...createTokenizer(json).encode("")]).toEqual([]);
  });

  test("names of the special tokens, as strings or objects", () => {
    expect([tokenizer.size, tokenizer.bosId, tokenizer.eosId]).toEqual([480, 0, 1]);
    const older = createTokenizer(tokenizerJson(), { eos_token: { content: "<|eot_id|>" } });
    expect([older.bosId, older.eosId]).toEqual([null, 6]);
    expect(createTokenizer(tokenizerJson()).eosId).toBe(null);
  });

  test("names that every object has are ordinary tokens or absent", () => {
    expect(tokenizer.special.get("constructor")).toBeUndefined();
    const ids = tokenizer.encode("constructor __proto__ toString");
    expect(tokenizer.decode(ids)).toBe("constructor __proto__ toString");
  });
});
