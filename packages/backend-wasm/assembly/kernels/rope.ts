// rope: rotary positions in the half-split form: pairs (i, i + headDim / 2). The angles' table is TypeScript's (rope.ts).

/** x: f32 (heads, headDim), rotated in place. angles: f32 (2, headDim / 2), the cosines, then the sines of one position. */
export function rope(x: usize, angles: usize, heads: i32, headDim: i32): void {
  const half = headDim >> 1;
  const bytes = (<usize>half) << 2;
  const whole = bytes & ~15;
  for (let head = 0; head < heads; head++) {
    let at: usize = 0;
    for (; at < whole; at += 16) {
      const cos = v128.load(angles + at);
      const sin = v128.load(angles + at + bytes);
      const first = v128.load(x + at);
      const second = v128.load(x + at + bytes);
      v128.store(x + at, f32x4.sub(f32x4.mul(first, cos), f32x4.mul(second, sin)));
      v128.store(x + at + bytes, f32x4.add(f32x4.mul(second, cos), f32x4.mul(first, sin)));
    }
    for (; at < bytes; at += 4) {
      const cos = load<f32>(angles + at);
      const sin = load<f32>(angles + at + bytes);
      const first = load<f32>(x + at);
      const second = load<f32>(x + at + bytes);
      store<f32>(x + at, first * cos - second * sin);
      store<f32>(x + at + bytes, second * cos + first * sin);
    }
    x += (<usize>headDim) << 2;
  }
}
