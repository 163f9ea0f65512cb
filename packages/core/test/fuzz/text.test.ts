// tokenizer.json and chat templates under random damage.
import fc from "fast-check";
import { expect } from "vitest";
import { createTokenizer, encodeChat, type Message, type Tokenizer } from "../../src/index.ts";
import { template, tokenizer, tokenizerConfig, tokenizerJson } from "../text/support.ts";
import { changed, cut, cuts, fuzz, jsonChanges, worksOrRefuses } from "./fuzz.ts";

const goodJson = tokenizerJson();
const sample = "Hi, how are you doing today? 你好 <|begin_of_text|>";
const goodIds = [...tokenizer.encode(sample)];

/** Whatever a tokenizer is made of: ids lie in its vocabulary, and the text comes back. */
function checkTokenizer(made: Tokenizer, text: string): void {
  const ids = made.encode(text, { addSpecial: false, parseSpecial: false });
  for (const id of ids) expect(id >= 0 && id < made.size).toBe(true);
  expect(made.decode(ids, { skipSpecial: false })).toBe(text.toWellFormed());
  made.encode(text);
}

fuzz(
  "tokenizer.json",
  150,
  fc.tuple(jsonChanges, fc.string({ unit: "binary", maxLength: 40 })),
  async ([changes, text]) => {
    const made = await worksOrRefuses(["tokenizer-invalid"], () =>
      createTokenizer(changed(goodJson, changes), tokenizerConfig()),
    );
    if (made === undefined) return;
    checkTokenizer(made, text);
    checkTokenizer(made, sample);
  },
  () => expect([...tokenizer.encode(sample)]).toEqual(goodIds),
);

fuzz(
  "tokenizer_config.json",
  200,
  jsonChanges,
  async (changes) => {
    const config = changed(tokenizerConfig(), changes);
    const made = await worksOrRefuses(["tokenizer-invalid"], () => createTokenizer(tokenizerJson(), config));
    if (made !== undefined) checkTokenizer(made, sample);
  },
  () => expect([...tokenizer.encode(sample)]).toEqual(goodIds),
);

fuzz(
  "text",
  300,
  fc.string({ unit: "binary", maxLength: 200 }),
  (text) => checkTokenizer(tokenizer, text),
  () => expect([...tokenizer.encode(sample)]).toEqual(goodIds),
);

const messages: Message[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Hi <|end_of_text|>" },
  { role: "assistant", content: null, tool_calls: [{ function: { name: "f", arguments: { x: [1, 2] } } }] },
  { role: "tool", content: "3" },
];
const goodChat = [...encodeChat(tokenizer, template, messages)];
/** Pieces of templates, good and bad. */
const pieces = [
  "{{",
  "}}",
  "{%",
  "%}",
  "{#",
  "#}",
  "-%}",
  "{%- ",
  "{% for i in range(9999) %}",
  "{% for m in messages %}",
  "{% endfor %}",
  "{% if loop.last %}",
  "{% else %}",
  "{% elif x %}",
  "{% endif %}",
  "{% set x = [x, x] %}",
  "{% set x = x ~ x %}",
  "{% set x = messages %}",
  "{% macro f(a) %}",
  "{% endmacro %}",
  "{{ f(f) }}",
  "{{ x }}",
  "{{ x | tojson(indent=99) }}",
  " | join(x)",
  " | sort",
  " | replace('', x)",
  " | trim",
  " | list",
  "[::-1]",
  ".split('')",
  "(",
  ")",
  "[",
  "]",
  "{",
  "}",
  "'",
  '"',
  "\\",
  "~",
  "+",
  "**",
  " not ",
  " in ",
  " is defined",
  "{% break %}",
  "{% continue %}",
  "{% set ns = namespace(x=1) %}",
  "{% set ns.x = ns %}",
  "{{ ns }}",
  "{% call f(1) %}",
  "{% endcall %}",
  "{% generation %}",
  "{% filter upper %}",
  "{% endfilter %}",
  "{{ raise_exception(messages) }}",
  "{{ strftime_now(x) }}",
  "\n",
  "        ",
  "messages[0]",
  "9".repeat(30),
  "\0",
  "\ud800",
  "x",
];
const user: Message[] = [{ role: "user", content: "Hi" }];
const runs = (source: string) =>
  worksOrRefuses(["template-error", "template-limit"], () => encodeChat(tokenizer, source, messages));
const chatsGood = () => {
  expect([...encodeChat(tokenizer, template, messages)]).toEqual(goodChat);
  expect(encodeChat(tokenizer, template, user).length).toBeGreaterThan(0);
};

fuzz(
  "the Doge template, damaged",
  300,
  cuts,
  (places) => runs(cut([...template], places, (number) => [...pieces[number % pieces.length]!]).join("")),
  chatsGood,
);

fuzz(
  "templates made of pieces",
  300,
  fc.array(fc.constantFrom(...pieces), { maxLength: 20 }),
  (parts) => runs(parts.join("")),
  chatsGood,
);

const expression = fc.letrec<{ expression: string }>((tie) => ({
  expression: fc.oneof(
    { maxDepth: 5 },
    fc.constantFrom(
      "x",
      "ns.x",
      "messages",
      "1",
      "'doge'",
      "none",
      "true",
      "[]",
      "{}",
      "range(50)",
      "loop.index",
      "ns",
    ),
    fc
      .tuple(
        tie("expression"),
        fc.constantFrom("~", "+", "-", "*", "/", "%", "//", "**", "==", "!=", "<", "in", "and", "or"),
        tie("expression"),
      )
      .map(([left, operator, right]) => `(${left} ${operator} ${right})`),
    fc
      .tuple(
        tie("expression"),
        fc.constantFrom(
          "tojson",
          "tojson(indent=2)",
          "string",
          "join",
          "sort",
          "list",
          "upper",
          "trim",
          "length",
          "first",
          "last",
          "reverse",
          "unique",
          "items",
          "int",
          "indent(8)",
        ),
      )
      .map(([operand, filter]) => `(${operand} | ${filter})`),
    fc.tuple(tie("expression"), tie("expression")).map(([a, b]) => `[${a}, ${b}]`),
    fc.tuple(tie("expression"), tie("expression")).map(([a, b]) => `(${a})[${b}]`),
    fc
      .tuple(tie("expression"), tie("expression"), tie("expression"))
      .map(([a, b, c]) => `(${a} | string).replace(${b} | string, ${c} | string)`),
    fc.tuple(tie("expression"), tie("expression")).map(([a, b]) => `(${a} | join(${b}))`),
    fc.tuple(tie("expression"), tie("expression")).map(([a, b]) => `f(${a}, ${b})`),
  ),
})).expression;

fuzz(
  "templates that compute in loops",
  200,
  fc.tuple(expression, expression, expression),
  ([first, second, third]) =>
    runs(
      `{% set ns = namespace(x='doge') %}{% set x = [1, 2] %}{% macro f(x, y) %}{{ ${first} }}{% endmacro %}` +
        `{% for i in range(60) %}{% set ns.x = ${second} %}{% endfor %}{{ ${third} }}`,
    ),
  chatsGood,
);
