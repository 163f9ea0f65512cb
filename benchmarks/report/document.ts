// A report is blocks of text, charts and tables: written as Markdown for the documentation, and as one HTML file that needs nothing else.
import { type Chart, chartStyle, escaped } from "./charts.ts";

export interface Table {
  readonly head: readonly string[];
  /** Cells in a little Markdown: `code` and **bold**. */
  readonly rows: readonly (readonly string[])[];
}
export interface Block {
  /** 2: a machine; 3: a part of its report. */
  readonly level: 2 | 3;
  readonly title: string;
  /** Paragraphs in a little Markdown: `code`, **bold** and [links](address). */
  readonly text?: readonly string[];
  readonly charts?: readonly Chart[];
  readonly tables?: readonly Table[];
}

/** Angle brackets would be HTML on the documentation's pages, but for those in code. */
const cell = (content: string): string =>
  content
    .replaceAll("|", "\\|")
    .replaceAll("\n", " ")
    .split(/(`[^`]*`)/)
    .map((part) => (part.startsWith("`") ? part : part.replaceAll("<", "&lt;").replaceAll(">", "&gt;")))
    .join("");
const row = (cells: readonly string[]): string => `| ${cells.map(cell).join(" | ")} |`;

/** `images`: the folder of the charts, as the page reaches it; null: none are shown. */
export function markdown(blocks: readonly Block[], images: string | null): string {
  const lines: string[] = [];
  for (const { level, title, text = [], charts = [], tables = [] } of blocks) {
    lines.push(`${"#".repeat(level)} ${title}`, "");
    for (const paragraph of text) lines.push(paragraph, "");
    if (images !== null && charts.length > 0) {
      for (const { name, svg } of charts) lines.push(`![${titleOf(svg)}](${images}/${name}.svg)`);
      lines.push("");
    }
    for (const { head, rows } of tables) lines.push(row(head), row(head.map(() => "---")), ...rows.map(row), "");
  }
  return `${lines.join("\n").trimEnd()}\n`;
}

const titleOf = (svg: string): string => /<title[^>]*>([^<]*)</.exec(svg)![1]!.replaceAll(/[[\]]/g, "");

/** Inline Markdown as HTML; a link into the documentation is its text alone, since the file may be anywhere. */
const inline = (content: string): string =>
  escaped(content)
    .replaceAll(/`([^`]+)`/g, "<code>$1</code>")
    .replaceAll(/\*\*([^*]+)\*\*/g, "<strong>$1</strong>")
    .replaceAll(/\[([^\]]+)\]\((https:[^)\s]+)\)/g, '<a href="$2">$1</a>')
    .replaceAll(/\[([^\]]+)\]\([^)\s]+\)/g, "$1");

const anchor = (title: string): string =>
  title
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");

const STYLE = `
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #59636e; --page: #f6f8fa; --card: #ffffff; --line: #d1d9e0; --link: #0a5cc0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --quiet: #9aa6b2; --page: #0d1117; --card: #161b22; --line: #3d444d; --link: #6cb6ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1440px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.7rem; margin: 8px 0; } h2 { font-size: 1.35rem; margin: 40px 0 8px; } h3 { font-size: 1.1rem; margin: 32px 0 8px; }
p { max-width: 75ch; margin: 8px 0; } .quiet { color: var(--quiet); }
a { color: var(--link); } nav { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 12px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 14px; align-items: start; margin: 14px 0; }
.charts svg { width: 100%; height: auto; max-width: 420px; display: block; }
.table { overflow-x: auto; margin: 14px 0; background: linear-gradient(to right, var(--card) 30%, transparent) left / 40px 100% no-repeat local, linear-gradient(to left, var(--card) 30%, transparent) right / 40px 100% no-repeat local, linear-gradient(to right, var(--line), transparent) left / 12px 100% no-repeat, linear-gradient(to left, var(--line), transparent) right / 12px 100% no-repeat, var(--card); border: 1px solid var(--line); border-radius: 8px; }
.table:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: 0.85rem; width: 100%; }
th, td { padding: 5px 8px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
.figure { text-align: right; } td { white-space: nowrap; } td.long { white-space: normal; min-width: 24em; } tbody tr:last-child td { border-bottom: 0; } th { white-space: nowrap; color: var(--quiet); font-weight: 600; }
code { font-size: 0.85em; overflow-wrap: anywhere; }`;

/** One page that opens by a double click: no scripts, nothing fetched. The first block is about the whole. */
export function html(title: string, lead: string, [about, ...blocks]: readonly Block[]): string {
  const parts = blocks.map(({ level, title, text = [], charts = [], tables = [] }) =>
    [
      `<section aria-labelledby="${anchor(title)}">`,
      `<h${level} id="${anchor(title)}">${inline(title)}</h${level}>`,
      ...text.map((paragraph) => `<p>${inline(paragraph)}</p>`),
      ...(charts.length === 0 ? [] : [`<div class="charts">`, ...charts.map(({ svg }) => svg), "</div>"]),
      ...tables.map(({ head, rows }) => tableHtml(title, head, rows)),
      "</section>",
    ].join("\n"),
  );
  const links = blocks
    .filter(({ level }) => level === 3)
    .map(({ title }) => `<a href="#${anchor(title)}">${inline(title)}</a>`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${STYLE}
${chartStyle}
</style>
</head>
<body>
<main>
<h1>${escaped(title)}</h1>
<p class="quiet">${inline(lead)}</p>
${(about?.text ?? []).map((paragraph) => `<p>${inline(paragraph)}</p>`).join("\n")}
<nav aria-label="Parts of this report">${links.join(" ")}</nav>
${parts.join("\n")}
</main>
</body>
</html>
`;
}

/** A number with its unit and a share in brackets; or that there is none. */
const FIGURE = /^(–|[\d.,]+( (%|ms|MB|GB|µs))?( \([\d.,]+ %\))?)$/;

function tableHtml(title: string, head: readonly string[], rows: Table["rows"]): string {
  // Figures stand one below the other and stay on their line; sentences do not.
  const figures = head.map((_, column) => rows.every((cells) => FIGURE.test(cells[column] ?? "")));
  const cell = (content: string, column: number): string => {
    const kind = figures[column] ? "figure" : content.length > 48 ? "long" : "";
    return `<td${kind === "" ? "" : ` class="${kind}"`}>${inline(content)}</td>`;
  };
  const name = (content: string, column: number): string =>
    `<th scope="col"${figures[column] ? ' class="figure"' : ""}>${inline(content)}</th>`;
  return [
    `<div class="table" role="region" aria-label="${escaped(title)}" tabindex="0"><table>`,
    `<thead><tr>${head.map(name).join("")}</tr></thead>`,
    `<tbody>${rows.map((one) => `<tr>${one.map(cell).join("")}</tr>`).join("\n")}</tbody>`,
    "</table></div>",
  ].join("\n");
}
