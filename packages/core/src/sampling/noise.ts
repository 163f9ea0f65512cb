// The noise of a draw (contract S3): a hash of the token's id, the position it would take and the seed, turned into a Gumbel
// variable. It has no state, so chunking, company and speculation cannot change what is drawn.

/** First word of pcg3d, a hash of three unsigned 32-bit integers to as many.
 *  Source: Jarzynski and Olano, "Hash Functions for GPU Rendering", Journal of Computer Graphics Techniques 9(3), 2020. */
export function pcg3d(x: number, y: number, z: number): number {
  x = (Math.imul(x, 1664525) + 1013904223) | 0;
  y = (Math.imul(y, 1664525) + 1013904223) | 0;
  z = (Math.imul(z, 1664525) + 1013904223) | 0;
  x = (x + Math.imul(y, z)) | 0;
  y = (y + Math.imul(z, x)) | 0;
  z = (z + Math.imul(x, y)) | 0;
  x ^= x >>> 16;
  y ^= y >>> 16;
  z ^= z >>> 16;
  return (x + Math.imul(y, z)) >>> 0;
}

/** The Gumbel noise that belongs to a hash: g = -ln E with E = -ln(1 - v), v = (hash + 1/2) / 2^32. Near v = 0, where the
 *  winners are, the logarithm of 1 - v would cancel in 32-bit arithmetic: the series is the definition there, and elsewhere
 *  1 - v is taken from the inverted bits, so that a device with f32 alone gets the same number. */
export function gumbel(hash: number): number {
  const v = (hash + 0.5) / 4294967296;
  const exponential =
    v < 1 / 16
      ? v * (1 + v * (1 / 2 + v * (1 / 3 + v * (1 / 4 + v / 5))))
      : -Math.log(((~hash >>> 0) + 0.5) / 4294967296);
  return -Math.log(exponential);
}

/** What S3 adds to the score of `id` when the token at `position` (how many stand before it) is drawn with `seed`. */
export function noise(id: number, position: number, seed: number): number {
  return gumbel(pcg3d(id, position, seed));
}
