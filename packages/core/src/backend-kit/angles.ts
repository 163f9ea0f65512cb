// The table of rotary angles that kernels read: one row of cosines and sines for every position of a context.
//
// Source: Su et al., RoFormer; transformers `modeling_rope_utils` for the scaled forms.
import type { Config } from "../config.ts";

/** Writes (context, 2, headDim / 2) at `out`: the cosines, then the sines of position · frequency, rounded to f32 where
 *  transformers rounds. */
export function writeRotaryAngles(out: Float32Array, config: Config, context: number): void {
  const half = config.headDim >> 1;
  const trained = frequencies(config, config.rope.theta);
  for (let position = 0; position < context; position++) {
    const beyond = config.rope.type === "dynamic" && position + 1 > config.maxPositions;
    const table = beyond ? frequencies(config, stretchedBase(config, position + 1)) : trained;
    const at = position * 2 * half;
    for (let index = 0; index < half; index++) {
      const angle = Math.fround(position * table[index]!);
      out[at + index] = Math.cos(angle);
      out[at + half + index] = Math.sin(angle);
    }
  }
}

function frequencies({ headDim, rope }: Config, base: number): Float32Array {
  const scale = rope.type === "linear" ? rope.factor : 1;
  return Float32Array.from({ length: headDim >> 1 }, (_, index) => {
    const power = Math.fround(base ** Math.fround((2 * index) / headDim));
    return Math.fround(1 / power) / scale;
  });
}

/** Dynamic NTK: the base of a text of `seen` tokens, more than the trained length. Each position takes its own (S2). */
function stretchedBase({ headDim, rope, maxPositions }: Config, seen: number): number {
  const stretch = (rope.factor * seen) / maxPositions - (rope.factor - 1);
  return Math.fround(rope.theta * stretch ** (headDim / (headDim - 2)));
}
