// rope: rotary positions in the half-split form (pairs i, i + headDim / 2). It has no dispatch of its own: attention begins
// with it, from a table of cosines and sines that the host has made (angles.ts).

/** x of a pair turned: the number at `index` of a head, from its own and its partner's value. */
export const ROPE = /* wgsl */ `
fn rope(own: f32, other: f32, index: u32, position: u32, headDim: u32) -> f32 {
  let half = headDim >> 1u;
  let at = position * headDim + select(index - half, index, index < half);
  let cosine = angles[at];
  let sine = angles[at + half];
  return fma(own, cosine, select(other, -other, index < half) * sine);
}
`;
