// T6: chat templates that fail, and those that would not end; a good one works after each.
import { describe, expect, test, vi } from "vitest";
import { type DogeError, encodeChat, isDogeError, type Message, renderChat } from "../../src/index.ts";
import { TemplateBudget } from "../../src/text/jinja-limits.ts";
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
    [
      "loops too long",
      "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
      /more than 500000 steps/,
    ],
    ["loops over much at once", "{% for i in range(90000) %}{% endfor %}", /more than 500000 steps/],
    ["counts too far", "{% for i in range(3000000) %}{% endfor %}", /range\(\) of 3000000; at most 100000/],
    ["calls itself for ever", "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", /more than 400 levels/],
    [
      "calls itself twice each time",
      "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
      /more than 500000 steps/,
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
      /more than 500000 steps/,
    ],
    [
      "searches long lists",
      "{% set a = range(99999) %}{% for i in range(20000) %}{{ -1 in a }}{% endfor %}",
      /more than 500000 steps/,
    ],
    [
      "changes a long text often",
      `${text}{% for i in range(20000) %}{{ (ns.x | upper)[0:1] }}{% endfor %}`,
      /more than 500000 steps/,
    ],
    [
      "defines a macro often",
      `{% for i in range(20000) %}{% macro m() %}${"{{ x }}".repeat(6000)}{% endmacro %}{% endfor %}`,
      /more than 500000 steps/,
    ],
    ["is too long", "x".repeat(49153), /has 49153 characters/],
    ["has white space without end", " ".repeat(40000), /white space/],
  ])("one that %s is stopped", (_what, source, says) => fails(source, "template-limit", says));

  test.each<[what: string, source: string]>([
    ["makes a long list", "{% set x = range(99999) %}"],
    ["cuts a long list", "{{ long[1:] | length }}"],
    ["makes a long list unique", "{{ long | unique | length }}"],
    ["makes a long text", "{% set x = wide ~ i %}"],
    ["turns a long text round", "{{ wide[::-1] | length }}"],
    ["writes a long text as JSON", "{{ wide | tojson | length }}"],
  ])("one that %s again and again is stopped soon", (_what, source) => {
    // A hundred of them take 20 ms or less; what is stopped by its steps takes no more than a few hundred.
    const start = `{% set long = range(99999) %}{% set wide = 'doge ' | replace('doge', ${JSON.stringify("doge".repeat(9000))}) %}`;
    const times = (count: number) => `${start}{% for i in range(${count}) %}${source}{% endfor %}`;
    expect(renderChat(times(40), [user("x")])).toMatch(/^(\d*)$/);
    expect(failure(() => renderChat(times(1000), [user("x")])).message).toMatch(/more than 500000 steps/);
  });

  test("no clock is read: a template ends at the same step on every machine", () => {
    const clock = vi.spyOn(performance, "now");
    const date = vi.spyOn(Date, "now");
    try {
      for (const source of [template, "{% for i in range(90000) %}{{ i }}{% endfor %}"]) {
        const outcome = () => {
          try {
            return renderChat(source, [user("x")], { now: new Date(0) });
          } catch (error) {
            return (error as DogeError).message;
          }
        };
        expect(outcome()).toBe(outcome());
      }
      expect(clock).not.toHaveBeenCalled();
      expect(date).not.toHaveBeenCalled();
    } finally {
      clock.mockRestore();
      date.mockRestore();
    }
  });

  test("a long value costs when it is made, and a sixteenth of that each time it is used", () => {
    const budget = new TemplateBudget();
    const value = { type: "ArrayValue", value: new Array(16_000), __bool__: () => ({ value: true }) };
    budget.charge(value);
    expect(budget.steps).toBe(1000);
    budget.charge(value);
    expect(budget.steps).toBe(1062);
    budget.charge({ ...value, value: "x".repeat(6400) });
    expect(budget.steps).toBe(1162);
  });

  test("long honest conversations are far from the limits", () => {
    const turns = Array.from({ length: 1000 }, (_, index) => [
      user(`${index} ${"What does Doge say? ".repeat(20)}`),
      { role: "assistant", content: "wow\n".repeat(30) },
    ]).flat();
    expect(renderChat(template, turns)).toContain("999 What does Doge say?");
    // A million characters in one message are no more trouble.
    expect(renderChat(template, [user("Doge ".repeat(200_000))]).length).toBeGreaterThan(1e6);
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
