// rope: rotary positions in the half-split form (pairs i, i + headDim / 2). It has no dispatch of its own: attention begins
// with it, from a table of cosines and sines that the host has made (angles.ts): of each position its cosines, then its sines.

/** Where a kernel finds a number: of a head, of the table of angles, of the layer's small tensors. */
export interface Numbers {
  readonly head: (at: string) => string;
  readonly angle: (at: string) => string;
  readonly vector: (at: string) => string;
}

const four = (statement: (c: number) => string, separator = "\n  ") => [0, 1, 2, 3].map(statement).join(separator);

/** For kernels with shape.headDim and shape.normed. Four numbers at a time and straight on, so that all their loads are on their way at
 *  once; what stands behind a head is 0. */
export const ROPE = ({ head, angle, vector }: Numbers) => /* wgsl */ `
/** Cosines and sines for four numbers of a head, of those of a position that stand at \`base\`. */
fn anglesOf(base: u32, quad: u32) -> mat4x2f {
  let D = shape.headDim;
  let half = D >> 1u;
  ${four(
    (c) => `let i${c} = min(quad * 4u + ${c}u, D - 1u);
  let at${c} = base + select(i${c} - half, i${c}, i${c} < half);`,
  )}
  return mat4x2f(${four((c) => `${angle(`at${c}`)}, ${angle(`at${c} + half`)}`, ", ")});
}
/** One of a pair, turned. */
fn rope(own: f32, other: f32, index: u32, angle: vec2f) -> f32 {
  return fma(own, angle.x, select(other, -other, index < (shape.headDim >> 1u)) * angle.y);
}
/** Four numbers of the head at a place, normalised where the model does that, turned. */
fn turned(headAt: u32, quad: u32, normAt: u32, scale: f32, angles: mat4x2f) -> vec4f {
  let D = shape.headDim;
  let half = D >> 1u;
  let first = quad * 4u;
  ${four(
    (c) => `let i${c} = min(first + ${c}u, D - 1u);
  let j${c} = select(i${c} - half, i${c} + half, i${c} < half);
  var a${c} = ${head(`headAt + i${c}`)};
  var b${c} = ${head(`headAt + j${c}`)};`,
  )}
  if (shape.normed != 0u) {
    ${four(
      (c) => `a${c} = ${vector(`normAt + i${c}`)} * (a${c} * scale);
    b${c} = ${vector(`normAt + j${c}`)} * (b${c} * scale);`,
      "\n    ",
    )}
  }
  return vec4f(${four((c) => `select(0.0, rope(a${c}, b${c}, i${c}, angles[${c}]), first + ${c}u < D)`, ", ")});
}
`;
