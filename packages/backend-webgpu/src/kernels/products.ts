// What a lane multiplies: four columns of a row at a time in f32, or a block of 32 columns as integers (the packed form).
import { BLOCK_QUADS, type Format } from "./formats.ts";

/** Four products added to a sum, in one order, each rounded once. */
export const SUMMED =
  "fn added(w: vec4f, h: vec4f, sum: f32) -> f32 { return fma(w.w, h.w, fma(w.z, h.z, fma(w.y, h.y, fma(w.x, h.x, sum)))); }";
/** Four squares likewise. */
export const SQUARED =
  "fn squared(x: vec4f, sum: f32) -> f32 { return fma(x.w, x.w, fma(x.z, x.z, fma(x.y, x.y, fma(x.x, x.x, sum)))); }";
/** The same as four sums side by side, which is what a software adapter does at once. */
export const SUMMED_APART = "fn added(w: vec4f, h: vec4f, sum: vec4f) -> vec4f { return fma(w, h, sum); }";
export const SQUARED_APART = "fn squared(x: vec4f, sum: vec4f) -> vec4f { return fma(x, x, sum); }";

const each = (statement: (index: number) => string) =>
  Array.from({ length: BLOCK_QUADS }, (_, index) => statement(index)).join("\n  ");

interface Rounding {
  /** Where the numbers stand: an array of vec4f. */
  readonly source: string;
  /** Numbers are multiplied with the norm's weights first, and their squares added to those before. */
  readonly norm: boolean;
  /** Type of a sum of squares. */
  readonly square: string;
}

/** A function `name`: a block of a token's numbers rounded to 8 bits, in the order of the weights' bytes (decodeBlock), with its scale. */
export function ROUNDED(format: Format, { source, norm, square }: Rounding, name: string): string {
  const type = name[0]!.toUpperCase() + name.slice(1);
  const rounding = (left: string, right: string) => `pack4xI8(vec4i(round(vec4f(${left}, ${right}) * inverse)))`;
  const inOrder = (i: number) => rounding(`h${i}.xy`, `h${i}.zw`);
  const evenAndOdd = (i: number) =>
    i % 2 === 0 ? rounding(`h${i}.xz`, `h${i + 1}.xz`) : rounding(`h${i - 1}.yw`, `h${i}.yw`);
  const four = (from: number) =>
    Array.from({ length: 4 }, (_, i) => (format.name === "q4" ? evenAndOdd : inOrder)(from + i)).join(", ");
  return /* wgsl */ `
struct ${type} { left: vec4u, right: vec4u, scale: f32, ${norm ? `squares: ${square},` : ""} }
fn ${name}(at: u32, column: u32${norm ? `, before: ${square}` : ""}) -> ${type} {
  var most = vec4f();
  ${norm ? "var squares = before;" : ""}
  ${each(
    (i) => `${
      norm
        ? `let x${i} = ${source}[at + ${i}u]; squares = squared(x${i}, squares); let h${i} = x${i} * vectors[(shape.normAt >> 2u) + column + ${i}u];`
        : `let h${i} = ${source}[at + ${i}u];`
    }
  most = max(most, abs(h${i}));`,
  )}
  let largest = max(max(most.x, most.y), max(most.z, most.w));
  let inverse = select(0.0, 127.0 / largest, largest > 1e-30);
  return ${type}(vec4u(${four(0)}), vec4u(${four(4)}), largest / 127.0${norm ? ", squares" : ""});
}`;
}

/** Blocks rounded, and their products with blocks of weights; `kept`: type of what weights are multiplied with, Rounded or what is kept of it
 *  for other lanes. */
export const INTEGERS = (
  format: Format,
  { kept, ...rounding }: Rounding & { readonly kept: "Rounded" | "Shelved" },
) => /* wgsl */ `
${ROUNDED(format, rounding, "rounded")}
${kept === "Shelved" ? "struct Shelved { left: vec4u, right: vec4u, scale: f32 }" : ""}
fn multiplied(w: Block, p: ${kept}) -> f32 {
  return f32(${Array.from({ length: BLOCK_QUADS }, (_, i) => {
    const part = `${i < 4 ? "left" : "right"}.${"xyzw"[i % 4]}`;
    return `dot4I8Packed(w.${part}, p.${part})`;
  }).join(" + ")});
}`;
