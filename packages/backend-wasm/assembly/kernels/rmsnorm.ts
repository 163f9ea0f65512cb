// rmsnorm: the gated residual, then the normalisation that always follows it; also the norm of each query and key head.
import { madd, storeFour, storeTwo, sum } from "../simd";

/**
 * x ← gate ⊙ x + update where there is a gate, then out = weight ⊙ x / sqrt(mean(x²) + epsilon).
 *
 * Rows of x, update and out stand `stride` bytes apart and are padded with zeros to 16 numbers, as are gate and weight.
 *
 * @param out f32 (rows, width); may be x
 * @param x f32 (rows, width)
 * @param gate f32 (width), or 0: no residual
 */
export function rmsnorm(
  out: usize,
  x: usize,
  gate: usize,
  update: usize,
  weight: usize,
  rows: i32,
  width: i32,
  stride: usize,
  epsilon: f32,
): void {
  const bytes = (<usize>((width + 15) & ~15)) << 2;
  for (let row = 0; row < rows; row++) {
    let squares0 = f32x4.splat(0);
    let squares1 = f32x4.splat(0);
    let squares2 = f32x4.splat(0);
    let squares3 = f32x4.splat(0);
    if (gate) {
      for (let at: usize = 0; at < bytes; at += 64) {
        const a = madd(v128.load(gate + at), v128.load(x + at), v128.load(update + at));
        const b = madd(v128.load(gate + at, 16), v128.load(x + at, 16), v128.load(update + at, 16));
        const c = madd(v128.load(gate + at, 32), v128.load(x + at, 32), v128.load(update + at, 32));
        const d = madd(v128.load(gate + at, 48), v128.load(x + at, 48), v128.load(update + at, 48));
        storeFour(x + at, a, b, c, d);
        squares0 = madd(a, a, squares0);
        squares1 = madd(b, b, squares1);
        squares2 = madd(c, c, squares2);
        squares3 = madd(d, d, squares3);
      }
    } else {
      for (let at: usize = 0; at < bytes; at += 64) {
        const a = v128.load(x + at);
        const b = v128.load(x + at, 16);
        const c = v128.load(x + at, 32);
        const d = v128.load(x + at, 48);
        squares0 = madd(a, a, squares0);
        squares1 = madd(b, b, squares1);
        squares2 = madd(c, c, squares2);
        squares3 = madd(d, d, squares3);
      }
    }
    const squares = sum(f32x4.add(f32x4.add(squares0, squares1), f32x4.add(squares2, squares3)));
    const scale = f32x4.splat(<f32>1 / sqrt<f32>(squares / <f32>width + epsilon));
    // Two vectors at once, which become one of 256 bits where the engine joins neighbours.
    for (let at: usize = 0; at < bytes; at += 32) {
      const low = f32x4.mul(v128.load(weight + at), f32x4.mul(v128.load(x + at), scale));
      const high = f32x4.mul(v128.load(weight + at, 16), f32x4.mul(v128.load(x + at, 16), scale));
      storeTwo(out + at, low, high);
    }
    x += stride;
    update += stride;
    out += stride;
  }
}

/** The norm of one head in place: heads stand close together, so nothing past `width` may be touched. */
export function rmsnormHead(x: usize, weight: usize, width: i32, epsilon: f32): void {
  let squares: f32 = 0;
  for (let index = 0; index < width; index++) {
    const value = load<f32>(x + (index << 2));
    squares += value * value;
  }
  const scale = <f32>1 / sqrt<f32>(squares / <f32>width + epsilon);
  for (let index = 0; index < width; index++) {
    const at = x + (index << 2);
    store<f32>(at, load<f32>(weight + (index << 2)) * (load<f32>(at) * scale));
  }
}
