// T6: chat templates that fail, and those that would not end; a good one works after each.
import { describe, expect, test, vi } from "vitest";
import { type DogeError, encodeChat, isDogeError, type Message, renderChat } from "../../src/index.ts";
import { template, tokenizer } from "./support.ts";

const user = (content: string): Message => ({ role: "user", content });

function failure(call: () => unknown): DogeError {
  try {
    call();
  } catch (error) {
    if (isDogeError(error)) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

function fails(source: string, code: string, says: RegExp): void {
  const error = failure(() => encodeChat(tokenizer, source, [user("x")]));
  expect(error.message).toMatch(says);
  expect(error.code).toBe(code);
  expect(encodeChat(tokenizer, template, [user("x")]).length).toBeGreaterThan(0);
}

describe("T6: templates that fail", () => {
  test.each<[what: string, source: string, says: RegExp]>([
    ["raises", "{{ raise_exception('Only one ' + messages[0].role) }}", /The chat template failed: Only one user$/],
    ["raises a list", "{{ raise_exception(messages) }}", /a text is expected/],
    ["is broken", "{% if %}", /The chat template failed: /],
    ["never ends its block", "{% for m in messages %}", /The chat template failed: /],
    ["uses an unknown filter", "{{ messages | sparkle }}", /sparkle/],
    ["uses an unknown test", "{{ messages is sparkling }}", /sparkling/],
    ["calls what is not there", "{{ nothing(1) }}", /not a function/],
    ["is nested too deep to be read", `{{ ${"(".repeat(20000)}1${")".repeat(20000)} }}`, /The chat template failed: /],
    ["breaks outside of a loop", "{% break %}", /break outside of a loop/],
  ])("one that %s", (_what, source, says) => fails(source, "template-error", says));

  const doubled = (start: string, step: string, end: string): string =>
    `{% set ns = namespace(x=${start}) %}{% for i in range(40) %}{% set ns.x = ${step} %}{% endfor %}${end}`;
  const lists = (end: string): string => doubled("['doge']", "[ns.x, ns.x]", end);
  const text = doubled("'doge '", "ns.x ~ ns.x if ns.x | length < 500000 else ns.x", "");

  test.each<[what: string, source: string, says: RegExp]>([
    ["loops too long", "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", /steps|250 ms/],
    ["loops over much at once", "{% for i in range(90000) %}{% endfor %}", /more than 500000 steps/],
    ["counts too far", "{% for i in range(3000000) %}{% endfor %}", /range\(\) of 3000000; at most 100000/],
    ["calls itself for ever", "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", /more than 400 levels/],
    [
      "calls itself twice each time",
      "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
      /steps|250 ms/,
    ],
    ["nests its operators too deep", `{{ ${"- ".repeat(500)}1 }}`, /more than 400 levels/],
    [
      "nests filters in filters",
      `{{ ${"1 | default(".repeat(300)}1${")".repeat(300)} ${"~ 1".repeat(401)} }}`,
      /more than 400 levels/,
    ],
    [
      "prints too much",
      `{% for i in range(1000) %}${"doge, ".repeat(500)}{% endfor %}`,
      /text of more than 2097152 characters/,
    ],
    ["prints 100 MB", `${text}{% for i in range(200) %}{{ ns.x }}{% endfor %}`, /text of more than 2097152/],
    ["doubles a text", doubled("'doge'", "ns.x ~ ns.x", ""), /text of more than 2097152/],
    ["doubles a list", doubled("['doge']", "ns.x + ns.x", ""), /list of 131072 items/],
    ["prints a list of doubled lists", lists("{{ ns.x }}"), /text of more than 2097152/],
    ["turns one into JSON", lists("{{ ns.x | tojson }}"), /text of more than 2097152/],
    ["turns one into a text", lists("{{ ns.x | string }}"), /text of more than 2097152/],
    ["joins one", lists("{{ ns.x | join(', ') }}"), /text of more than 2097152/],
    ["compares one with a text", lists("{{ ns.x == 'x' }}"), /text of more than 2097152/],
    ["appends one to a text", lists("{{ 'x' + ns.x }}{{ 'x' ~ ns.x }}"), /text of more than 2097152/],
    [
      "prints a namespace in itself",
      "{% set ns = namespace() %}{% set ns.x = [ns, ns] %}{{ ns }}",
      /levels|characters/,
    ],
    ["joins with a long text", `${text}{{ range(2000) | join(ns.x) }}`, /text of more than 2097152/],
    ["replaces letters by a long text", `${text}{{ ns.x | replace('d', ns.x) }}`, /text of more than 2097152/],
    ["does so by a method", `${text}{{ ns.x['re' ~ 'place']('d', ns.x) }}`, /text of more than 2097152/],
    ["splits a text into letters' ends", `${text}{{ ns.x.split('e') | length }}`, /list of \d+ items/],
    ["indents JSON far", "{{ [[[1]]] | tojson(indent=500000000) }}", /indents by 500000000/],
    ["indents lines far", "{{ 'a\\nb' | indent(500000000) }}", /indents by 500000000/],
    [
      "sorts long texts",
      `${text}{% for i in range(900) %}{{ [ns.x ~ 1, ns.x ~ 2, ns.x ~ 3] | sort | length }}{% endfor %}`,
      /steps|250 ms/,
    ],
    [
      "searches long lists",
      "{% set a = range(99999) %}{% for i in range(20000) %}{{ -1 in a }}{% endfor %}",
      /steps|250 ms/,
    ],
    [
      "changes a long text often",
      `${text}{% for i in range(20000) %}{{ (ns.x | upper)[0:1] }}{% endfor %}`,
      /steps|250 ms/,
    ],
    [
      "defines a macro often",
      `{% for i in range(20000) %}{% macro m() %}${"{{ x }}".repeat(6000)}{% endmacro %}{% endfor %}`,
      /steps|250 ms/,
    ],
    ["is too long", "x".repeat(49153), /has 49153 characters/],
    ["has white space without end", " ".repeat(40000), /white space/],
  ])("one that %s is stopped", (_what, source, says) => fails(source, "template-limit", says));

  test("one whose steps are slow is stopped by the clock, but not an honest one on a slow machine", () => {
    let now = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => (now += 200));
    try {
      const slow = "{% for i in range(2000) %}{{ i }}{% endfor %}";
      expect(failure(() => renderChat(slow, [user("x")])).message).toMatch(/takes longer than 250 ms/);
      expect(renderChat(template, [user("x")])).toContain("x");
    } finally {
      clock.mockRestore();
    }
  });

  test("long honest conversations are far from the limits", () => {
    const turns = Array.from({ length: 500 }, (_, index) => [
      user(`${index} ${"What does Doge say? ".repeat(20)}`),
      { role: "assistant", content: "wow\n".repeat(30) },
    ]).flat();
    const ids = encodeChat(tokenizer, template, turns);
    expect(tokenizer.decode(ids)).toContain("499 What does Doge say?");
    let now = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => (now += 1e6));
    try {
      // Fifty turns do not even look at the clock.
      expect(encodeChat(tokenizer, template, turns.slice(0, 100)).length).toBeGreaterThan(1000);
    } finally {
      clock.mockRestore();
    }
  });

  test("two tool calls: the template's own words", () => {
    const two = { role: "assistant", content: null, tool_calls: [{}, {}] };
    expect(failure(() => encodeChat(tokenizer, template, [user("x"), two])).message).toContain(
      "This model only supports single tool-calls at once!",
    );
  });

  test("none at all", () => {
    expect(failure(() => encodeChat(tokenizer, null, [user("x")])).code).toBe("template-missing");
    expect(failure(() => renderChat(null, [user("x")])).code).toBe("template-missing");
  });

  test("a template sees nothing of the engine", () => {
    const prying =
      "{{ messages.constructor }}|{{ messages.__proto__ }}|{{ process }}|{{ globalThis }}|{{ range.constructor }}";
    expect(renderChat(prying, [user("x")])).toBe("||||");
  });
});
