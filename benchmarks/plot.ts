// Bar charts as SVG, by hand: bars in groups, each with its number, readable on light and on dark pages.

interface Bar {
  readonly label: string;
  readonly value: number;
  /** Ours are filled, others are grey. */
  readonly ours: boolean;
}
export interface Group {
  readonly title: string;
  readonly bars: readonly Bar[];
}

const [width, labels, numbers] = [720, 190, 70];
const [rowHeight, barHeight, titleHeight, gap, top] = [20, 14, 26, 12, 40];

/** Horizontal bars; every group has a scale of its own, from 0 to its longest bar. */
export function bars(title: string, groups: readonly Group[]): string {
  const parts: string[] = [text(0, 18, title, "title")];
  let y = top;
  for (const group of groups) {
    const longest = Math.max(...group.bars.map(({ value }) => value));
    parts.push(text(0, y + 12, group.title, "group"));
    y += titleHeight;
    for (const { label, value, ours } of group.bars) {
      const length = Math.max(1, (value / longest) * (width - labels - numbers));
      const kind = ours ? "ours" : "other";
      parts.push(text(labels - 8, y + 11, label, `label ${kind}`, "end"));
      parts.push(
        `<rect class="${kind}" x="${labels}" y="${y}" width="${length.toFixed(1)}" height="${barHeight}" rx="2"/>`,
      );
      parts.push(text(labels + length + 6, y + 11, number(value), "number"));
      y += rowHeight;
    }
    y += gap;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y}" width="${width}" height="${y}" role="img" aria-label="${escaped(title)}">
<style>
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; }
  .group { font-weight: 600; }
  rect.ours { fill: #d9822b; }
  rect.other { fill: #9aa4ae; }
  text.other { fill: #57606a; }
  .number { font-variant-numeric: tabular-nums; }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } text.other { fill: #9aa4ae; } rect.other { fill: #57606a; } }
</style>
${parts.join("\n")}
</svg>
`;
}

const text = (x: number, y: number, content: string, kind: string, anchor = "start"): string =>
  `<text x="${x.toFixed(1)}" y="${y}" class="${kind}" text-anchor="${anchor}">${escaped(content)}</text>`;

/** Three figures, and thousands set apart. */
export function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

const escaped = (content: string): string =>
  content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
