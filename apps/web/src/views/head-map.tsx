// The picture of all heads over all tokens. What it shows is said by the strip and the table beside it, too; a click chooses a cell.
import { useEffect, useRef, useState } from "preact/hooks";
import { cellAt, drawHeads, type Grid, type Heads, type Marks, ROW } from "../attention/draw.ts";
import type { Look } from "../engine/protocol.ts";
import { useApp, useMedia } from "./context.ts";
import { quoted } from "./token-strip.tsx";

export function HeadMap({
  look,
  heads,
  marks,
  onChoose,
}: {
  readonly look: Look;
  readonly heads: Heads;
  readonly marks: Marks;
  readonly onChoose: (cell: { row: number; column: number }) => void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const theme = useApp(({ settings }) => settings.theme);
  const dark = useMedia("(prefers-color-scheme: dark)");
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry!.contentRect.width));
    observer.observe(frame.current!);
    return () => observer.disconnect();
  }, []);
  const columns = look.tokens.length;
  const grid: Grid = {
    layers: look.layers,
    heads: look.heads,
    columns,
    width: Math.min(18, Math.max(6, width / columns)),
  };
  useEffect(() => {
    if (canvas.current === null || width === 0) return;
    const style = getComputedStyle(canvas.current);
    const colour = (name: string) => style.getPropertyValue(name);
    drawHeads(canvas.current, grid, heads, marks, {
      weak: colour("--cell"),
      strong: style.color,
      mark: colour("--mark"),
    });
  });
  const best = heads.strengths.map((row) => row.indexOf(Math.max(...row)));
  const favourite = mode(best);
  const lost = heads.dropped.reduce((sum, row) => sum + row.filter((at) => at <= marks.position).length, 0);
  const summary = `Biases of ${look.layers * look.heads} heads over ${columns} tokens. ${quoted(look.tokens[favourite]!)}, token ${favourite + 1}, is the strongest in ${best.filter((at) => at === favourite).length} of them. ${lost === 0 ? "No key is dropped." : `${lost} keys are dropped.`}`;
  return (
    <figure class="head-map">
      <div class="head-map-body">
        <ol class="rows" aria-hidden="true" style={{ "--row": `${ROW}px` }}>
          {Array.from({ length: look.layers }, (_, layer) => (
            <li key={layer} style={{ height: `${look.heads * ROW}px` }}>
              {layer + 1}
            </li>
          ))}
        </ol>
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, also by keyboard */}
        <section ref={frame} class="scroll" tabIndex={0} aria-label="Picture of all heads">
          <canvas
            ref={canvas}
            data-theme={`${theme}${dark}`}
            role="img"
            aria-label={summary}
            onClick={({ offsetX, offsetY }) => {
              const cell = cellAt(grid, offsetX, offsetY);
              if (cell !== null) onChoose(cell);
            }}
          />
        </section>
      </div>
      <figcaption>
        <span class="legend-item">
          <span class="swatch weak" aria-hidden="true" /> weak
        </span>
        <span class="legend-item">
          <span class="swatch strong" aria-hidden="true" /> strong, within its head
        </span>
        <span class="legend-item">
          <span class="swatch gone" aria-hidden="true" /> dropped
        </span>
        <span class="quiet">Rows are heads, grouped by layer; columns are tokens. {summary}</span>
      </figcaption>
    </figure>
  );
}

/** The value that comes most often, the first of several. */
function mode(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best), [0, 0] as [number, number])[0];
}
