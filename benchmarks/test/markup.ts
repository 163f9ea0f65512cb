// What the tests ask of a page, a picture or a table of figures: that it is well-formed.

const VOID = new Set(["meta", "link", "br", "img", "hr"]);

/** What is wrong with a text of tags, or undefined: every element is closed in its order, every attribute quoted. */
export function malformed(text: string): string | undefined {
  const open: string[] = [];
  const rest = text.replace(/^<!doctype html>/, "").replaceAll(/<style>[\s\S]*?<\/style>/g, "<style></style>");
  const tag = /<(\/?)([a-z][a-z0-9]*)(?:\s+[a-zA-Z0-9:-]+="[^"<]*")*\s*(\/?)>/g;
  let at = 0;
  for (const match of rest.matchAll(tag)) {
    const between = rest.slice(at, match.index);
    if (/[<>]/.test(between) || /&(?!(amp|lt|gt|quot);)/.test(between)) {
      return `stray markup in ${JSON.stringify(between.slice(0, 80))}`;
    }
    at = match.index + match[0].length;
    const [, closes, name, empty] = match as unknown as [string, string, string, string];
    if (closes === "/") {
      if (open.pop() !== name) return `</${name}> closes nothing`;
    } else if (empty === "" && !VOID.has(name)) open.push(name);
  }
  if (/[<>]/.test(rest.slice(at))) return `stray markup at the end: ${rest.slice(at, at + 80)}`;
  return open.length === 0 ? undefined : `<${open.at(-1)}> is not closed`;
}

/** Fields of CSV (RFC 4180), line by line. */
export function parseCsv(text: string): string[][] {
  const lines: string[][] = [];
  let [line, field, quoted]: [string[], string, boolean] = [[], "", false];
  for (let at = 0; at < text.length; at++) {
    const c = text[at]!;
    if (quoted) {
      if (c !== '"') field += c;
      else if (text[at + 1] === '"') {
        field += c;
        at++;
      } else quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === "," || c === "\n") {
      line.push(field);
      field = "";
      if (c === "\n") {
        lines.push(line);
        line = [];
      }
    } else if (c !== "\r") field += c;
  }
  return lines;
}
