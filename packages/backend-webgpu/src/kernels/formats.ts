// How weights stand in a buffer, four columns at a time: rows one after the other, each padded with zeros to a whole block.
import { type DType, QUANTIZATION_BLOCK } from "@doge-lm/core";

/** Quads of columns that share a scale. */
export const BLOCK_QUADS = QUANTIZATION_BLOCK / 4;

export interface Format {
  readonly name: DType;
  /** WGSL type of one element of the buffer. */
  readonly type: string;
  /** Bytes of four columns. */
  readonly quadBytes: number;
  /** Whether each block of 32 columns has a scale in a second buffer. */
  readonly scaled: boolean;
  /** Columns of a row are padded to a multiple of this. */
  readonly block: number;
}

export const formats: { readonly [name in DType]: Format } = {
  f32: { name: "f32", type: "vec4f", quadBytes: 16, scaled: false, block: 4 },
  bf16: { name: "bf16", type: "vec2u", quadBytes: 8, scaled: false, block: 4 },
  q8: { name: "q8", type: "u32", quadBytes: 4, scaled: true, block: 32 },
  q4: { name: "q4", type: "u32", quadBytes: 2, scaled: true, block: 32 },
};

const QUADS: { readonly [name in DType]: (weights: string) => string } = {
  f32: (weights) => `return ${weights}[row * quads + quad];`,
  bf16: (weights) => `let two = ${weights}[row * quads + quad];
  return bitcast<vec4f>(vec4u(two.x << 16u, two.x & 0xffff0000u, two.y << 16u, two.y & 0xffff0000u));`,
  q8: (weights) => `let four = bitcast<i32>(${weights}[row * quads + quad]);
  return vec4f(vec4i(extractBits(four, 0u, 8u), extractBits(four, 8u, 8u), extractBits(four, 16u, 8u), four >> 24u))`,
  q4: (weights) => `let half = ${weights}[(row * quads + quad) >> 1u] >> ((quad & 1u) * 16u);
  return (vec4f(vec4u(half & 15u, (half >> 4u) & 15u, (half >> 8u) & 15u, (half >> 12u) & 15u)) - 8.0)`,
};

/** A function `name(row, quad, quads) -> vec4f`: four weights of a row, from its buffer; `scale`: that of a block. */
export function decode(format: Format, weights: string, scale: (block: string) => string, name: string): string {
  const body = QUADS[format.name](weights);
  const scaled = format.scaled ? ` * ${scale("row * (quads >> 3u) + (quad >> 3u)")};` : "";
  return `fn ${name}(row: u32, quad: u32, quads: u32) -> vec4f {
  ${body}${scaled}
}`;
}

const BLOCKS: { readonly [name in DType]?: (weights: string) => string } = {
  q8: (weights) => `let at = row * (quads >> 2u) + block * 2u;
  return Block(${weights}[at], ${weights}[at + 1u]);`,
  // A code of 4 bits stands for itself less 8. The high bit of each byte keeps the subtraction within it.
  q4: (weights) => `let codes = ${weights}[row * (quads >> 3u) + block];
  let even = (((codes & vec4u(0x0f0f0f0fu)) | vec4u(0x80808080u)) - vec4u(0x08080808u)) ^ vec4u(0x80808080u);
  let odd = ((((codes >> vec4u(4u)) & vec4u(0x0f0f0f0fu)) | vec4u(0x80808080u)) - vec4u(0x08080808u)) ^ vec4u(0x80808080u);
  return Block(vec4u(even.x, odd.x, even.y, odd.y), vec4u(even.z, odd.z, even.w, odd.w));`,
};

/** The 32 integers of a block, in bytes. */
export const BLOCK = "struct Block { left: vec4u, right: vec4u }";

/** A function `name(row, block, quads) -> Block`, from a buffer of vec4u. Integers of q8 stand in order; of q4 one word has the
 *  even columns of eight, the next their odd ones. */
export const decodeBlock = (format: Format, weights: string, name: string): string =>
  `fn ${name}(row: u32, block: u32, quads: u32) -> Block {
  ${BLOCKS[format.name]!(weights)}
}`;
