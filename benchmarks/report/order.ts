// How results are ordered, coloured and written in every chart and table.
import type { ModelResult } from "../results.ts";
import { PALETTE } from "./charts.ts";

export const percent = (share: number | null | undefined): string =>
  share === null || share === undefined ? "–" : `${(100 * share).toFixed(0)} %`;
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0)} MB`;
export const small = (value: number): string => (value === 0 ? "0" : value.toExponential(1));
export const shapeOf = ({ shape, moe }: ModelResult): string => (moe ? `${shape} with experts` : shape);
const SHAPES = ["tiny", "20m", "60m", "160m", "320m"];
export const DTYPES = ["f32", "bf16", "q8", "q4"];
const ENGINES = /^(wasm|webgpu|cuda|reference)( simd)?( x\d+)?( revectorized)?$/;

/** Smaller models first, then dtypes, engines and rows. */
export function sorted(models: readonly ModelResult[]): ModelResult[] {
  const rank = (one: ModelResult): number[] => [
    ...[SHAPES.indexOf(one.shape), Number(one.moe), DTYPES.indexOf(one.dtype), colourOf(one.engine), one.rows],
  ];
  return [...models].sort((a, b) => {
    const [left, right] = [rank(a), rank(b)];
    const at = left.findIndex((value, index) => value !== right[index]);
    return at < 0 ? 0 : left[at]! - right[at]!;
  });
}

/** The place of an engine in every chart and table, and its colour. */
export function colourOf(engine: string): number {
  const found = ENGINES.exec(engine);
  if (found === null) return PALETTE - 1;
  const [, backend, , threads, wide] = found;
  if (backend === "webgpu") return 4;
  if (backend === "cuda") return 5;
  if (backend === "reference") return 6;
  return (threads === undefined ? 0 : 2) + (wide === undefined ? 0 : 1);
}
