// Charts as SVG, by hand: bars and lines, 360 wide so that they are read on a phone too, on a card of their own so that they are read
// on light and on dark pages. Colours are told apart by those who see few of them, and by their marks.

export interface Chart {
  /** A file name without its ending. */
  readonly name: string;
  readonly svg: string;
}

interface Bar {
  readonly label: string;
  readonly value: number;
  /** Ours are coloured, others are grey. */
  readonly ours?: boolean;
}

export interface Series {
  readonly name: string;
  /** Of the palette: the same thing has the same one in every chart. */
  readonly colour: number;
  /** In order of x. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

const WIDTH = 360;
const MARGIN = 14;
/** What a letter or a digit takes, on the average of fonts. */
const LETTER = 6.6;

/** Three figures, and thousands set apart. */
export function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export const escaped = (content: string): string =>
  content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

/** Colours and marks of series: at least 3 : 1 against both cards. After Okabe and Ito, darker where theirs are too light. */
const MARKS = ["circle", "square", "triangle", "diamond", "ring", "cross", "bar"] as const;
const COLOURS = ["#d55e00", "#0072b2", "#009e73", "#b0568c", "#c77f00", "#2a8fd0", "#7a7a7a"] as const;
export const PALETTE: number = COLOURS.length;

/** What every chart looks like; a page that holds several has it once. */
export const chartStyle: string = [
  ".chart text { font: 12px system-ui, sans-serif; fill: #1f2328; }",
  ".chart .title { font-size: 14px; font-weight: 600; }",
  ".chart .quiet { fill: #59636e; font-size: 11px; }",
  ".chart .number { font-variant-numeric: tabular-nums; }",
  ".chart .card { fill: #ffffff; stroke: #d1d9e0; }",
  ".chart .grid { stroke: #d1d9e0; }",
  ".chart .ours { fill: #d55e00; }",
  ".chart .other { fill: #7a8490; }",
  ".chart .line { fill: none; stroke-width: 2; }",
  ...COLOURS.map(
    (colour, index) =>
      `.chart .c${index} { fill: ${colour}; } .chart .line.c${index} { fill: none; stroke: ${colour}; }`,
  ),
  "@media (prefers-color-scheme: dark) {",
  "  .chart text { fill: #e6edf3; } .chart .quiet { fill: #9aa6b2; }",
  "  .chart .card { fill: #161b22; stroke: #3d444d; } .chart .grid { stroke: #3d444d; }",
  ...COLOURS.map((colour, index) =>
    colour === "#0072b2"
      ? `  .chart .c${index} { fill: #3b9bdc; } .chart .line.c${index} { fill: none; stroke: #3b9bdc; }`
      : "",
  ).filter((line) => line !== ""),
  "}",
].join("\n");

const text = (x: number, y: number, content: string, kind = "", anchor = "start"): string =>
  `<text x="${round(x)}" y="${round(y)}"${kind === "" ? "" : ` class="${kind}"`}${anchor === "start" ? "" : ` text-anchor="${anchor}"`}>${escaped(content)}</text>`;
const round = (value: number): string => String(Math.round(value * 10) / 10);

function frame(name: string, title: string, description: string, height: number, parts: readonly string[]): Chart {
  const svg = [
    `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="${name}-title ${name}-description">`,
    `<title id="${name}-title">${escaped(title)}</title>`,
    `<desc id="${name}-description">${escaped(description)}</desc>`,
    `<rect class="card" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>`,
    ...parts,
    "</svg>",
  ];
  return { name, svg: svg.join("\n") };
}

/** A chart as a file of its own. */
export const standalone = ({ svg }: Chart): string =>
  `${svg.replace("</desc>\n", `</desc>\n<style>\n${chartStyle}\n</style>\n`)}\n`;

/** Words of a title on as many lines as they need. */
function wrapped(content: string, most: number): string[] {
  const found: string[] = [];
  for (const word of content.split(" ")) {
    const last = found.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= most) found[found.length - 1] = `${last} ${word}`;
    else found.push(word);
  }
  return found;
}

function heading(title: string, unit: string): { parts: string[]; y: number } {
  const lines = wrapped(title, 42);
  const parts = lines.map((line, index) => text(MARGIN, 24 + 17 * index, line, "title"));
  const y = 24 + 17 * lines.length;
  parts.push(text(MARGIN, y, unit, "quiet"));
  return { parts, y: y + 8 };
}

/** Horizontal bars from 0, each with its label above and its number behind. */
export function bars(name: string, title: string, unit: string, list: readonly Bar[]): Chart {
  const longest = Math.max(...list.map(({ value }) => value), Number.MIN_VALUE);
  const { parts, y: top } = heading(title, unit);
  let y = top;
  const space = WIDTH - 2 * MARGIN - 66;
  for (const { label, value, ours = true } of list) {
    const length = Math.max(1, (value / longest) * space);
    parts.push(text(MARGIN, y + 14, label));
    parts.push(
      `<rect class="${ours ? "ours" : "other"}" x="${MARGIN}" y="${y + 19}" width="${round(length)}" height="10" rx="2"/>`,
    );
    parts.push(text(MARGIN + length + 6, y + 28, number(value), "number"));
    y += 34;
  }
  const told = list.map(({ label, value }) => `${label} ${number(value)}`).join("; ");
  return frame(name, title, `${unit}: ${told}.`, y + 10, parts);
}

/** A round number of which some make the axis. */
function stepOf(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => most / step <= 5)!;
}

function mark(index: number, x: number, y: number): string {
  const colour = `c${index % PALETTE}`;
  const path = (d: string): string => `<path class="${colour}" d="${d}"/>`;
  const [left, top] = [round(x), round(y)];
  switch (MARKS[index % MARKS.length]) {
    case "circle":
      return `<circle class="${colour}" cx="${left}" cy="${top}" r="4"/>`;
    case "square":
      return `<rect class="${colour}" x="${round(x - 3.5)}" y="${round(y - 3.5)}" width="7" height="7"/>`;
    case "triangle":
      return path(`M${left} ${round(y - 5)}l4.6 8h-9.2z`);
    case "diamond":
      return path(`M${left} ${round(y - 5)}l5 5-5 5-5-5z`);
    case "ring":
      return `<circle class="line ${colour}" cx="${left}" cy="${top}" r="3.5"/>`;
    case "cross":
      return `<path class="line ${colour}" d="M${round(x - 3.5)} ${round(y - 3.5)}l7 7m0-7l-7 7"/>`;
    default:
      return `<rect class="${colour}" x="${round(x - 5)}" y="${round(y - 1.5)}" width="10" height="3"/>`;
  }
}

/** Lines over x, whose axis doubles from tick to tick; y begins at 0. */
export function lines(name: string, title: string, unit: string, over: string, list: readonly Series[]): Chart {
  const ticks = [...new Set(list.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  const most = Math.max(...list.flatMap(({ points }) => points.map(([, y]) => y)));
  const step = stepOf(most);
  const { parts, y: top } = heading(title, unit);
  const [left, right, height] = [MARGIN + 40, WIDTH - MARGIN - 8, 150];
  const [first, last] = [Math.log2(ticks[0]!), Math.log2(ticks.at(-1)!)];
  const at = (x: number): number =>
    first === last ? (left + right) / 2 : left + ((Math.log2(x) - first) / (last - first)) * (right - left);
  const highest = Math.ceil(most / step) * step;
  const up = (y: number): number => top + 10 + height - (y / highest) * height;
  for (let value = 0; value <= highest + step / 2; value += step) {
    const y = round(up(value));
    parts.push(`<path class="grid" d="M${left} ${y}H${right}"/>`);
    parts.push(text(left - 6, up(value) + 4, value.toLocaleString("en-US"), "quiet number", "end"));
  }
  for (const tick of ticks) parts.push(text(at(tick), top + 10 + height + 16, String(tick), "quiet number", "middle"));
  let y = top + height + 44;
  parts.push(text((left + right) / 2, y, over, "quiet", "middle"));
  for (const { colour, points } of list) {
    const d = points
      .map(([x, value], index) => `${index === 0 ? "M" : "L"}${round(at(x))} ${round(up(value))}`)
      .join("");
    parts.push(`<path class="line c${colour % PALETTE}" d="${d}"/>`);
    for (const [x, value] of points) parts.push(mark(colour, at(x), up(value)));
  }
  y += 8;
  for (const { name: label, colour, points } of list) {
    const figures = points.map(([, value]) => number(value)).join("\u2002");
    parts.push(mark(colour, MARGIN + 6, y + 10), text(MARGIN + 18, y + 14, label));
    // Below the name where they would run into it.
    if (LETTER * (label.length + figures.length) > WIDTH - 2 * MARGIN - 24) y += 16;
    parts.push(text(WIDTH - MARGIN, y + 14, figures, "quiet number", "end"));
    y += 20;
  }
  const told = list.map(
    (one) => `${one.name}: ${one.points.map(([x, value]) => `${number(value)} at ${x}`).join(", ")}`,
  );
  return frame(name, title, `${unit} over ${over}. ${told.join("; ")}.`, y + 10, parts);
}
