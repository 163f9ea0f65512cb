// Draws every head's biases over the tokens of a conversation: a row for each head, a column for each token.
import type { Look } from "../engine/protocol.ts";
import { droppedAt, standing, strengths } from "./kept.ts";

export interface Heads {
  readonly strengths: readonly Float32Array<ArrayBuffer>[];
  readonly dropped: readonly Int32Array<ArrayBuffer>[];
}

/** The biases of one head, (tokens). */
export function biasesOf({ biases, heads, tokens }: Look, layer: number, head: number): Float32Array<ArrayBuffer> {
  const at = (layer * heads + head) * tokens.length;
  return biases.subarray(at, at + tokens.length);
}

export function headsOf(look: Look): Heads {
  const rows = Array.from({ length: look.layers * look.heads }, (_, row) =>
    biasesOf(look, Math.floor(row / look.heads), row % look.heads),
  );
  return { strengths: rows.map(strengths), dropped: rows.map((row) => droppedAt(row, look.window)) };
}

/** Sizes in CSS pixels. */
export const ROW = 14;
const LAYER_GAP = 6;

export interface Grid {
  readonly layers: number;
  readonly heads: number;
  readonly columns: number;
  /** Of a column. */
  readonly width: number;
}

const heightOf = ({ layers, heads }: Grid): number => layers * heads * ROW + (layers - 1) * LAYER_GAP;
const top = ({ heads }: Grid, row: number): number => row * ROW + Math.floor(row / heads) * LAYER_GAP;

/** The cell under a point, or null between the layers. */
export function cellAt(grid: Grid, x: number, y: number): { row: number; column: number } | null {
  const column = Math.floor(x / grid.width);
  if (column < 0 || column >= grid.columns) return null;
  for (let row = 0; row < grid.layers * grid.heads; row++) {
    if (y >= top(grid, row) && y < top(grid, row) + ROW) return { row, column };
  }
  return null;
}

export interface Colours {
  readonly weak: string;
  readonly strong: string;
  readonly mark: string;
}

export interface Marks {
  readonly row: number;
  readonly column: number;
  readonly position: number;
}

export function drawHeads(canvas: HTMLCanvasElement, grid: Grid, heads: Heads, marks: Marks, colours: Colours): void {
  const scale = devicePixelRatio || 1;
  const width = grid.columns * grid.width;
  const height = heightOf(grid);
  canvas.width = Math.ceil(width * scale);
  canvas.height = Math.ceil(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  if (context === null) return;
  context.scale(scale, scale);
  const gap = grid.width >= 5 ? 1 : 0;
  for (let row = 0; row < grid.layers * grid.heads; row++) {
    const y = top(grid, row);
    const strength = heads.strengths[row]!;
    const dropped = heads.dropped[row]!;
    for (let column = 0; column < grid.columns; column++) {
      const x = column * grid.width;
      const how = standing(column, marks.position, dropped);
      context.globalAlpha = how === "not yet" ? 0.25 : 1;
      context.fillStyle = colours.weak;
      context.fillRect(x, y, grid.width - gap, ROW - 1);
      if (how === "dropped") {
        context.fillStyle = colours.mark;
        context.globalAlpha = 0.55;
        context.fillRect(x + grid.width / 2 - 1, y + ROW / 2 - 1.5, 2, 2);
        continue;
      }
      context.globalAlpha *= 0.08 + 0.92 * strength[column]!;
      context.fillStyle = colours.strong;
      context.fillRect(x, y, grid.width - gap, ROW - 1);
    }
  }
  context.globalAlpha = 1;
  context.strokeStyle = colours.mark;
  context.lineWidth = 1;
  context.strokeRect(0.5, top(grid, marks.row) - 0.5, width - 1, ROW);
  context.strokeRect(marks.column * grid.width - 0.5, 0.5, grid.width, height - 1);
}
