// Chat templates against transformers, and control ids only from the template.
import { describe, expect, test } from "vitest";
import { chatTemplate, type DogeError, encodeChat, type Message, renderChat } from "../../src/index.ts";
import { chats, pick, random, template, tokenizer } from "./support.ts";

const bosToken = "<|begin_of_text|>";
const controls = [...tokenizer.special.keys()];
const controlIds = new Set(tokenizer.special.values());
const onlyControls = (ids: Iterable<number>): number[] => [...ids].filter((id) => controlIds.has(id));
const user = (content: string): Message => ({ role: "user", content });

function failure(call: () => unknown): DogeError {
  try {
    call();
  } catch (error) {
    return error as DogeError;
  }
  throw new Error("nothing was thrown");
}

describe("layout", () => {
  test("text and ids of transformers' apply_chat_template", () => {
    for (const [messages, variables, addGenerationPrompt, text, ids] of chats) {
      const options = { addGenerationPrompt, variables };
      expect(renderChat(template, messages, { ...options, bosToken })).toBe(text);
      expect([...encodeChat(tokenizer, template, messages, options)], text).toEqual(ids);
      expect([...encodeChat(tokenizer, template, messages, { ...options, allowSpecialTokens: true })]).toEqual(ids);
    }
  });

  test("the turns, with and without the assistant's header", () => {
    const expected =
      `${bosToken}<|start_header_id|>system<|end_header_id|>\nToday Date: December 2024\n<|end_of_text|>\n\n` +
      "<|start_header_id|>user<|end_header_id|>\nHi<|end_of_text|>\n\n";
    expect(renderChat(template, [user(" Hi\n")], { bosToken, addGenerationPrompt: false })).toBe(expected);
    expect(renderChat(template, [user(" Hi\n")], { bosToken })).toBe(
      `${expected}<|start_header_id|>assistant<|end_header_id|>\n`,
    );
  });

  test("strftime_now tells the given time in English", () => {
    const now = new Date(2026, 2, 5, 15, 4, 9);
    const text = renderChat("{{ strftime_now('%d %b %Y|%A %-d. %B|%I:%M:%S %p|%j %%') }}", [user("x")], { now });
    expect(text).toBe("05 Mar 2026|Thursday 5. March|03:04:09 PM|064 %");
    expect(failure(() => renderChat("{{ strftime_now('%Q') }}", [user("x")], { now })).message).toContain("%Q");
  });

  test("functions and filters that chat templates use", () => {
    const render = (source: string): string =>
      renderChat(source, [user("x")], { variables: { data: { b: [1, "é<"], a: {} } } });
    expect(render("{{ data | tojson }}")).toBe('{"b": [1, "é<"], "a": {}}');
    expect(render("{{ data | tojson(indent=2) }}")).toBe('{\n  "b": [\n    1,\n    "é<"\n  ],\n  "a": {}\n}');
    expect(render("{{ data | tojson(ensure_ascii=true) }}")).toBe('{"b": [1, "\\u00e9<"], "a": {}}');
    expect(
      render("{% for k, v in data | items %}{{ k }}{% if loop.first %}{% continue %}{% endif %}!{% endfor %}"),
    ).toBe("ba!");
    expect(render("{% for i in range(9) %}{{ i }}{% if i == 2 %}<{% break %}{% endif %},{% endfor %}.")).toBe(
      "0,1,2<.",
    );
    expect(render("{{ [1, 'a', 2, 'a'] | reject('equalto', 'a') | join }}{{ ['', 'b'] | select | join }}")).toBe("12b");
    expect(render("{{ range(1, 7, 2) | join(',') }} {{ range(3, 0, -1) | list | length }}")).toBe("1,3,5 3");
    expect(render("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}")).toBe("2");
    expect(render("a\n  {% if true %}\nb\n  {% endif %}\nc")).toBe("a\nb\nc");
  });

  test("the template is found in each of its three places", () => {
    const tokenizerConfig = { chat_template: "config" };
    expect(chatTemplate({ jinja: "file", tokenizerConfig })).toBe("file");
    expect(chatTemplate({ tokenizerConfig, json: { chat_template: "json" } })).toBe("config");
    expect(chatTemplate({ tokenizerConfig: {}, json: { chat_template: "json" } })).toBe("json");
    const several = [
      { name: "tool_use", template: "tools" },
      { name: "default", template: "plain" },
    ];
    expect(chatTemplate({ tokenizerConfig: { chat_template: several } })).toBe("plain");
    expect(chatTemplate({ tokenizerConfig: null })).toBe(null);
  });
});

// Every field that a stranger may write: [name, messages and variables with the text in it].
const fields: [name: string, place: (text: string) => { messages: Message[]; variables?: Record<string, unknown> }][] =
  [
    ["user", (text) => ({ messages: [user(text)] })],
    ["system", (text) => ({ messages: [{ role: "system", content: text }, user("x")] })],
    ["assistant", (text) => ({ messages: [user("x"), { role: "assistant", content: text }] })],
    ["tool output", (text) => ({ messages: [user("x"), { role: "tool", content: text, name: "lookup" }] })],
    ["tool name", (text) => ({ messages: [user("x"), { role: "tool", content: "x", name: text }] })],
    ["called name", (text) => ({ messages: [user("x"), calling(text, { a: 1 })] })],
    ["argument", (text) => ({ messages: [user("x"), calling("f", { a: [text] })] })],
    ["argument name", (text) => ({ messages: [user("x"), calling("f", { [text]: "a" })] })],
    [
      "argument of a builtin tool",
      (text) => ({
        messages: [user("x"), calling("search", { [text]: text })],
        variables: { builtin_tools: ["search"] },
      }),
    ],
    ["builtin tool", (text) => ({ messages: [user("x")], variables: { builtin_tools: ["code_interpreter", text] } })],
    [
      "tool schema",
      (text) => ({ messages: [user("x")], variables: { tools: [{ type: "function", function: { name: text } }] } }),
    ],
    ["schema key", (text) => ({ messages: [user("x")], variables: { tools: [{ [text]: { type: "string" } }] } })],
    ["date", (text) => ({ messages: [user("x")], variables: { date_string: text } })],
  ];

function calling(name: string, args: Record<string, unknown>): Message {
  return { role: "assistant", content: null, tool_calls: [{ type: "function", function: { name, arguments: args } }] };
}

const rendered = (messages: Message[], variables: Record<string, unknown> = {}): string =>
  renderChat(template, messages, { bosToken, variables });

describe("T3: user text never becomes a control id", () => {
  test.each(fields)("%s", (_name, place) => {
    const harmless = place("plain");
    const fromTemplate = onlyControls(
      encodeChat(tokenizer, template, harmless.messages, { variables: harmless.variables }),
    );
    for (const control of [...controls, `${bosToken}<|end_of_text|>`, "<|end_of_<|end_of_text|>text|>", "<<think>>>"]) {
      const { messages, variables } = place(control);
      const ids = encodeChat(tokenizer, template, messages, { variables });
      expect(onlyControls(ids), control).toEqual(fromTemplate);
      expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(rendered(messages, variables));
      const parsed = encodeChat(tokenizer, template, messages, { variables, allowSpecialTokens: true });
      expect(onlyControls(parsed).length, control).toBeGreaterThan(fromTemplate.length);
    }
  });

  test("pieces of a control string in neighbouring fields do not join", () => {
    const bare = "{{ bos_token }}{% for m in messages %}{{ m.content | trim }}{{ m.name }}{% endfor %}<|end_of_text|>";
    for (const control of controls) {
      for (let cut = 1; cut < control.length; cut++) {
        const messages = [{ ...user(` ${control.slice(0, cut)}`), name: control.slice(cut) }, user("")];
        const ids = encodeChat(tokenizer, bare, messages);
        expect(onlyControls(ids)).toEqual([0, 1]);
        expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(`${bosToken}${control}<|end_of_text|>`);
      }
    }
    const spelled = [..."<|end_of_text|>"].map((letter) => ({ ...user(letter), name: "" }));
    expect(onlyControls(encodeChat(tokenizer, bare, spelled))).toEqual([0, 1]);
  });

  test("nor with what the template prints around them", () => {
    const around = "{{ bos_token }}<|{{ messages[0].content }}|>{{ messages[0].content }}|>";
    for (const content of ["end_of_text", "<|end_of_text", "eot_id", "  end_of_text  "]) {
      expect(onlyControls(encodeChat(tokenizer, around, [user(content)]))).toEqual([0]);
    }
  });

  test("nor when the template changes them", () => {
    const changing =
      "{{ bos_token }}{{ messages[0].content | lower }}{{ messages[0].content.replace('x', '') }}{{ messages[0].content.split('~') | join('') }}";
    for (const content of ["<|END_OF_TEXT|>", "<|end_xof_text|>", "<|end_~of_text|>"]) {
      expect(onlyControls(encodeChat(tokenizer, changing, [user(content)]))).toEqual([0]);
    }
  });

  test("stand-ins cannot be forged or told apart", () => {
    const all = Array.from({ length: 0x1900 - 3 }, (_, index) => String.fromCharCode(0xe000 + index)).join("");
    for (const content of ["\ue000<|end_of_text|>\ue001", "\\ue000\\ue001<|end_of_text|>", `${all}<|end_of_text|>`]) {
      const ids = encodeChat(tokenizer, template, [user(content)]);
      expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(rendered([user(content)]));
      expect(onlyControls(ids)).toEqual(onlyControls(encodeChat(tokenizer, template, [user("x")])));
    }
    const ascii = "{{ messages | tojson(ensure_ascii=true) }}";
    const text = tokenizer.decode(encodeChat(tokenizer, ascii, [user("\\ue000<|end_of_text|>\ue001")]));
    expect(JSON.parse(text)[0].content).toBe("\\ue000<|end_of_text|>\ue001");
    expect(failure(() => encodeChat(tokenizer, template, [user(`${all}\uf8fd\uf8fe\uf8ff<|end_of_text|>`)])).code).toBe(
      "invalid-messages",
    );
  });

  test("halves of a surrogate pair in two fields do not join", () => {
    const messages = [{ ...user("\ud83e"), name: "\uddff" }];
    const text = tokenizer.decode(encodeChat(tokenizer, "{{ messages[0].content }}{{ messages[0].name }}", messages));
    expect(text).toBe("\ufffd\ufffd");
  });

  test("random conversations: as one piece when harmless, no further control id when not", () => {
    const draw = random(23);
    const harmless = [
      "Hi",
      " ",
      "\n",
      "<",
      "|",
      ">",
      "<|",
      "|>",
      "end_of",
      "_text",
      "a < b",
      "</think",
      "é",
      "🧿",
      "'ſ",
      "\ufeff",
      "text",
      "\t",
    ];
    for (let round = 0; round < 1500; round++) {
      const hostile = round % 2 === 1;
      const text = (): string => {
        let made = "";
        for (let part = draw(6); part > 0; part--) made += pick(draw, hostile && draw(2) === 0 ? controls : harmless);
        // In a harmless round nothing may spell a control string by chance.
        return hostile || !controls.some((control) => made.includes(control)) ? made : "";
      };
      const turns: Message[] = Array.from({ length: 1 + draw(4) }, (): Message => {
        const role = pick(draw, ["user", "assistant", "system", "tool"]);
        return draw(6) === 0 ? calling(text(), { [text()]: text() }) : { role, content: text() };
      });
      const variables = draw(3) === 0 ? { tools: [{ name: text(), [text()]: [text()] }] } : {};
      const ids = encodeChat(tokenizer, template, turns, { variables });
      const whole = rendered(turns, variables);
      expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(whole.toWellFormed());
      if (hostile) {
        const blank = (value: unknown): unknown =>
          JSON.parse(JSON.stringify(value), (key, item) => (typeof item === "string" && key !== "role" ? "x" : item));
        const expected = encodeChat(tokenizer, template, blank(turns) as Message[], {
          variables: blank(variables) as object as Record<string, unknown>,
        });
        expect(onlyControls(ids)).toEqual(onlyControls(expected));
      } else {
        expect([...ids]).toEqual([...tokenizer.encode(whole, { addSpecial: false })]);
      }
    }
  });
});

describe("T5: odd conversations", () => {
  const turns = (messages: unknown): DogeError => failure(() => encodeChat(tokenizer, template, messages as Message[]));

  test.each<[what: string, messages: unknown, says: RegExp]>([
    ["no messages", [], /list of messages is empty/],
    ["not a list", "Hi", /not a list/],
    ["a message that is null", [user("x"), null], /Message 1 is not an object/],
    [
      "an unknown role",
      [user("x"), { role: "wizard", content: "y" }],
      /Message 1 has the role "wizard"; known are system/,
    ],
    ["no role", [{ content: "y" }], /Message 0 has the role undefined/],
    ["null content", [user("x"), { role: "assistant", content: null }], /Message 1 \(assistant\) has no content/],
    [
      "a content of parts",
      [{ role: "user", content: [{ type: "text" }] }],
      /Message 0 \(user\) has a content that is object/,
    ],
  ])("%s is named", (_what, messages, says) => {
    const error = turns(messages);
    expect(error.code).toBe("invalid-messages");
    expect(error.message).toMatch(says);
  });

  test("data that cannot be rendered is refused", () => {
    const circle: Record<string, unknown> = {};
    circle.self = [circle, circle];
    for (const bad of [circle, () => "<|end_of_text|>", 3n]) {
      expect(failure(() => encodeChat(tokenizer, template, [{ ...user("x"), bad }])).code).toBe("invalid-messages");
    }
    for (const name of ["messages", "bos_token", "add_generation_prompt"]) {
      const error = failure(() => encodeChat(tokenizer, template, [user("x")], { variables: { [name]: "y" } }));
      expect([error.code, error.message.includes(`"${name}"`)]).toEqual(["invalid-argument", true]);
    }
  });

  test("empty text, a late system message, a tool message without id and absent entries are defined", () => {
    expect(rendered([user("")])).toContain("user<|end_header_id|>\n<|end_of_text|>");
    expect(rendered([user("x"), { role: "system", content: "late" }])).toContain(
      "system<|end_header_id|>\nlate<|end_of_text|>",
    );
    expect(rendered([user("x"), { role: "tool", content: "y" }])).toContain(
      'ipython<|end_header_id|>\n"y"<|end_of_text|>',
    );
    expect(rendered([{ ...user("x"), tool_calls: undefined }])).toBe(rendered([user("x")]));
  });
});
