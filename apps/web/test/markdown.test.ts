// Markdown becomes elements from a short list; whatever a model writes, nothing of it becomes a program.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Element, type Node, parse, safeAddress } from "../src/markdown/parse.ts";

const nodes = (text: string): Node[] => parse(text).map(({ node }) => node);

function everyElement(all: readonly Node[]): Element[] {
  return all.flatMap((node) => (typeof node === "string" ? [] : [node, ...everyElement(node.children)]));
}
const textOf = (all: readonly Node[]): string =>
  all.map((node) => (typeof node === "string" ? node : textOf(node.children))).join("");

const TAGS = "p br hr strong em del code pre blockquote ul ol li h3 h4 h5 h6 a table thead tbody tr th td".split(" ");

/** Only what the page may show. */
function expectHarmless(all: readonly Node[]): void {
  for (const element of everyElement(all)) {
    expect(TAGS).toContain(element.tag);
    for (const name of Object.keys(element))
      expect(["tag", "children", "href", "language", "start", "checked", "align"]).toContain(name);
    if (element.href !== undefined) expect(element.href).toMatch(/^(https?:|mailto:)/);
    if (element.language !== undefined) expect(element.language).toMatch(/^[\w+#.-]+$/);
  }
}

describe("markdown", () => {
  test("becomes elements", () => {
    expect(nodes("# A\n\nsome **bold** and `code`\n\n- [x] done\n- two")).toEqual([
      { tag: "h3", children: ["A"] },
      {
        tag: "p",
        children: ["some ", { tag: "strong", children: ["bold"] }, " and ", { tag: "code", children: ["code"] }],
      },
      {
        tag: "ul",
        children: [
          { tag: "li", children: ["done"], checked: true },
          { tag: "li", children: ["two"] },
        ],
      },
    ]);
    expect(nodes("```js\nlet a = '<b>';\n```")).toEqual([
      { tag: "pre", language: "js", children: [{ tag: "code", children: ["let a = '<b>';"] }] },
    ]);
    expect(nodes("3. three\n4. four")[0]).toMatchObject({ tag: "ol", start: 3 });
    expect(nodes("|a|b|\n|:-|-:|\n|1|2|")[0]).toMatchObject({ tag: "table" });
    expect(textOf(nodes("a &amp; b &lt; c"))).toBe("a & b < c");
    expect(textOf(nodes("`&amp;`"))).toBe("&amp;");
  });

  test("of a text that is still being written is what there is so far", () => {
    const whole = "Some *words*, a list:\n\n1. one\n2. two\n\n```js\nlet a = 1;\n```\n\n|a|b|\n|-|-|\n|1|2|\n";
    for (let end = 0; end <= whole.length; end++) expectHarmless(nodes(whole.slice(0, end)));
  });

  test.each([
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a <b onclick=alert(1)>b</b> <!-- c -->",
    "<svg/onload=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "<iframe srcdoc='<script>1</script>'></iframe>",
    "<style>*{display:none}</style>",
  ])("leaves HTML as text: %s", (text) => {
    const all = nodes(text);
    expectHarmless(all);
    expect(everyElement(all).every(({ tag }) => tag === "p")).toBe(true);
    expect(textOf(all).replaceAll("\n", "")).toContain(text.replaceAll("\n", ""));
  });

  test.each([
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#10;script:alert(1))",
    "[x](\u0001javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:1)",
    "[x](blob:https://a.b/c)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](./page)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
    "[x]: javascript:alert(1)\n\n[x]",
  ])("leads nowhere by %s", (text) => {
    expect(everyElement(nodes(text)).filter(({ tag }) => tag === "a")).toEqual([]);
  });

  test("keeps links to the web, and makes links of pictures", () => {
    expect(nodes("[a](https://a.example/?x=1&amp;y=2) ![b](https://b.example/c.png)")).toEqual([
      {
        tag: "p",
        children: [
          { tag: "a", href: "https://a.example/?x=1&y=2", children: ["a"] },
          " ",
          { tag: "a", href: "https://b.example/c.png", children: ["b"] },
        ],
      },
    ]);
    expect(safeAddress("mailto:a@b.example")).toBe("mailto:a@b.example");
  });

  test("survives any text", () => {
    const piece = fc.oneof(
      fc.constantFrom(
        "<",
        ">",
        "&",
        "[",
        "](",
        ")",
        "`",
        "```\n",
        "*",
        "_",
        "~~",
        "|",
        "\n",
        "- ",
        "1. ",
        "> ",
        "#",
        "javascript:",
        "<script>",
        "![",
        "\\",
        "&lt;",
      ),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        expectHarmless(nodes(pieces.join("")));
      }),
      { numRuns: 300 },
    );
  });

  test("survives depth", () => {
    for (const text of [
      "> ".repeat(5000),
      "- ".repeat(2000),
      "[".repeat(3000),
      "*".repeat(5000),
      "**a ".repeat(1000),
    ]) {
      expectHarmless(nodes(text));
    }
  });
});
