// rope: rotary positions in the half-split form (pairs i, i + headDim / 2), and the tables of angles they take.
//
// Source: Su et al., RoFormer; transformers `modeling_rope_utils` for the scaled forms.
import type { Rope } from "@doge-lm/core";

/**
 * Turns each pair (x[i], x[i + half]) of every head by the angle of its row, in place.
 *
 * @param x (rows, heads, headDim)
 * @param cosine (rows, headDim / 2)
 * @param sine (rows, headDim / 2)
 */
export function rope(
  x: Float32Array,
  cosine: Float32Array,
  sine: Float32Array,
  rows: number,
  heads: number,
  headDim: number,
): void {
  const half = headDim / 2;
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const base = (row * heads + head) * headDim;
      for (let index = 0; index < half; index++) {
        const cos = cosine[row * half + index]!;
        const sin = sine[row * half + index]!;
        const first = x[base + index]!;
        const second = x[base + half + index]!;
        x[base + index] = first * cos - second * sin;
        x[base + half + index] = second * cos + first * sin;
      }
    }
  }
}

/**
 * The angles of `rows` positions from `position` on, as cosines and sines.
 *
 * Frequencies and angles are rounded to f32 as in transformers: at position 2000 an f32 angle is off by 6e-5, so a more
 * exact one would give other logits than the model was trained with.
 *
 * @param cosine (rows, headDim / 2), written
 * @param sine (rows, headDim / 2), written
 * @param maxPositions under "dynamic", where the base begins to grow
 */
export function angles(
  cosine: Float32Array,
  sine: Float32Array,
  position: number,
  rows: number,
  headDim: number,
  scaling: Rope,
  maxPositions: number,
): void {
  const half = headDim / 2;
  for (let row = 0; row < rows; row++) {
    const base = rotaryBase(scaling, headDim, maxPositions, position + row);
    for (let index = 0; index < half; index++) {
      const power = Math.fround(base ** Math.fround((2 * index) / headDim));
      const frequency = Math.fround(Math.fround(1 / power) / (scaling.type === "linear" ? scaling.factor : 1));
      const angle = Math.fround((position + row) * frequency);
      cosine[row * half + index] = Math.cos(angle);
      sine[row * half + index] = Math.sin(angle);
    }
  }
}

/** θ, or under "dynamic" beyond the trained length θ · (F·s/M − (F − 1))^(D / (D − 2)) with s the token's own position + 1:
 *  the value transformers arrives at token by token, and the only one that does not depend on how a text is split. */
export function rotaryBase(scaling: Rope, headDim: number, maxPositions: number, position: number): number {
  const seen = position + 1;
  if (scaling.type !== "dynamic" || seen <= maxPositions) return scaling.theta;
  const stretch = (scaling.factor * seen) / maxPositions - (scaling.factor - 1);
  return Math.fround(scaling.theta * stretch ** (headDim / (headDim - 2)));
}
