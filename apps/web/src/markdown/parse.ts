// Markdown to a tree of plain data. A lexer reads it; what comes out are elements from a short list, with text inside. HTML in the text
// stays text, pictures become links (nothing is fetched that nobody asked for), and links lead to the web or to a mailbox alone: what a
// model writes cannot become a program.
import { lexer, type Token, type Tokens } from "marked";

type Tag =
  | "p"
  | "br"
  | "hr"
  | "strong"
  | "em"
  | "del"
  | "code"
  | "pre"
  | "blockquote"
  | "ul"
  | "ol"
  | "li"
  | "h3"
  | "h4"
  | "h5"
  | "h6"
  | "a"
  | "table"
  | "thead"
  | "tbody"
  | "tr"
  | "th"
  | "td";

export interface Element {
  readonly tag: Tag;
  readonly children: readonly Node[];
  /** Of links; always http, https or mailto. */
  readonly href?: string;
  /** Of code blocks: what the fence names. */
  readonly language?: string;
  /** Of ordered lists. */
  readonly start?: number;
  /** Of task lists. */
  readonly checked?: boolean;
  readonly align?: "left" | "right" | "center";
}
export type Node = string | Element;

/** A text deeper than this in lists and quotes is shown flat: nobody reads it, and it could exhaust the stack. */
const DEEPEST = 12;

/** The blocks of a text, each with its own source: what has not changed need not be drawn again. */
export function parse(text: string): { readonly source: string; readonly node: Node }[] {
  let tokens: Token[];
  try {
    tokens = lexer(text, { gfm: true, breaks: true });
  } catch {
    // Such depth or length that the lexer gives up: the text as it stands.
    return [{ source: text, node: element("p", [text]) }];
  }
  return tokens.flatMap((token) => block(token, 0).map((node) => ({ source: token.raw, node })));
}

const element = (tag: Tag, children: readonly Node[], more: Partial<Element> = {}): Element => ({
  tag,
  children,
  ...more,
});

function block(token: Token, depth: number): Node[] {
  if (depth > DEEPEST) return [element("p", [token.raw])];
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "hr":
      return [element("hr", [])];
    case "heading": {
      const { depth: level, tokens } = token as Tokens.Heading;
      // The page has the levels above for itself.
      return [element((["h3", "h4", "h5", "h6"] as const)[Math.min(3, level - 1)]!, inlines(tokens, depth))];
    }
    case "code": {
      const { text, lang } = token as Tokens.Code;
      const language = /^[\w+#.-]{1,30}/.exec(lang ?? "")?.[0];
      return [element("pre", [element("code", [text])], language === undefined ? {} : { language })];
    }
    case "blockquote":
      return [element("blockquote", blocks((token as Tokens.Blockquote).tokens, depth + 1))];
    case "list": {
      const { ordered, start, items } = token as Tokens.List;
      const children = items.map(({ tokens, task, checked }) =>
        element("li", blocks(tokens, depth + 1), task ? { checked: checked === true } : {}),
      );
      return [element(ordered ? "ol" : "ul", children, ordered && typeof start === "number" ? { start } : {})];
    }
    case "table": {
      const { header, rows, align } = token as Tokens.Table;
      const row = (cells: Tokens.TableCell[], tag: "th" | "td") =>
        element(
          "tr",
          cells.map(({ tokens }, at) => {
            const side = align[at];
            return element(tag, inlines(tokens, depth), side ? { align: side } : {});
          }),
        );
      const body = rows.map((cells) => row(cells, "td"));
      return [element("table", [element("thead", [row(header, "th")]), element("tbody", body)])];
    }
    case "paragraph":
      return [element("p", inlines((token as Tokens.Paragraph).tokens, depth))];
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return tokens === undefined ? [characters(text)] : inlines(tokens, depth);
    }
    case "checkbox":
      return [];
    default:
      // HTML, and whatever else there may be.
      return token.raw.trim() === "" ? [] : [element("p", [token.raw.trimEnd()])];
  }
}

const blocks = (tokens: readonly Token[], depth: number): Node[] => tokens.flatMap((token) => block(token, depth));

function inlines(tokens: readonly Token[] | undefined, depth: number): Node[] {
  return (tokens ?? []).flatMap((token) => inline(token, depth + 1));
}

function inline(token: Token, depth: number): Node[] {
  if (depth > 2 * DEEPEST) return [token.raw];
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return [element(token.type, inlines((token as Tokens.Strong).tokens, depth))];
    case "codespan":
      return [element("code", [(token as Tokens.Codespan).text])];
    case "br":
      return [element("br", [])];
    case "link": {
      const { href, tokens } = token as Tokens.Link;
      const children = inlines(tokens, depth);
      const safe = safeAddress(href);
      return safe === null ? children : [element("a", children, { href: safe })];
    }
    case "image": {
      const { href, text } = token as Tokens.Image;
      const safe = safeAddress(href);
      const shown = text === "" ? "picture" : text;
      return safe === null ? [shown] : [element("a", [shown], { href: safe })];
    }
    case "escape":
      return [(token as Tokens.Escape).text];
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return tokens === undefined ? [characters(text)] : inlines(tokens, depth);
    }
    case "checkbox":
      return [];
    default:
      return [token.raw];
  }
}

const NAMED: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  "#39": "'",
  nbsp: "\u00a0",
};

/** Text with the commonest of HTML's names for characters replaced by them; it goes into text, where they do nothing. */
const characters = (text: string): string =>
  text.replaceAll(/&(amp|lt|gt|quot|apos|#39|nbsp);/g, (_, name: string) => NAMED[name]!);

/** The address of a link that does nothing but lead somewhere, or null. */
export function safeAddress(address: string): string | null {
  let url: URL;
  try {
    url = new URL(characters(address.trim()));
  } catch {
    return null; // relative to this page, where nothing is
  }
  return ["https:", "http:", "mailto:"].includes(url.protocol) ? url.href : null;
}
