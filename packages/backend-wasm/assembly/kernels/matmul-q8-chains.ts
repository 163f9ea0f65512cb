// matmul of q8 weights by chains in 16 bits: tiles of two and of four rows.
//
// A dot in 32 bits multiplies twice: bytes by bytes, and then pairs by 1 to add them up. Here eight products, of the first and of the
// second half of a block, are added up in 16 bits first, where that is safe, and three of four multiplications by 1 fall away. Eight
// products of |w| <= 127 and |x| <= 63 may need 17 bits, but hardly ever do: by Cauchy and Schwarz they fit wherever the squares of the
// weights times those of the inputs are at most 32767². Inputs bring their largest sum of squares with them, and a block of weights the
// largest that it can bear; where one is too large, that block of the tile is left to the dots. A sum that passes 16 bits on its way goes
// round and comes back: it is its end that counts. So both ways give the same integers.
import { BLOCK, PANEL } from "../../src/descriptor";
import { finish, INPUT_HALF, INPUT_Q8_BYTES, INPUT_SCALE, INPUT_SQUARES, ONES, Q8_BLOCK_BYTES } from "./bytes";
import { q8Tile1x16 } from "./matmul-q8-dots";

const PANEL_BYTES = PANEL * 4;

/** sum + the products of four inputs with four weights, added up in pairs of 16 bits. */
// @ts-ignore: decorator
@inline
function pairs(sum: v128, x: v128, w: v128): v128 {
  return i16x8.add(sum, i16x8.relaxed_dot_i8x16_i7x16_s(x, w));
}

/** Of a block, the dots of its first half and the pairs of its second. */
// @ts-ignore: decorator
@inline
function both(first: v128, second: v128, ones: v128): v128 {
  return i32x4.add(first, i32x4.dot_i16x8_s(second, ones));
}

/** Two rows, a panel. */
export function q8Tile2x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  const ones = v128.load32_splat(ONES);
  let x1 = x + xStride;
  const out1 = out + outStride;
  let bound = w + <usize>blocks * Q8_BLOCK_BYTES;
  do {
    const most = load<u32>(bound);
    if (load<u32>(x, INPUT_SQUARES) > most || load<u32>(x1, INPUT_SQUARES) > most) {
      q8Tile1x16(out, x, w, 1);
      q8Tile1x16(out1, x1, w, 1);
      x += INPUT_Q8_BYTES;
      x1 += INPUT_Q8_BYTES;
      w += Q8_BLOCK_BYTES;
    } else {
      let t00 = v128.load32_splat(x, INPUT_HALF);
      let t01 = t00;
      let t02 = t00;
      let t03 = t00;
      let t10 = v128.load32_splat(x1, INPUT_HALF);
      let t11 = t10;
      let t12 = t10;
      let t13 = t10;
      let count = 4;
      do {
        const w0 = v128.load(w);
        const w1 = v128.load(w, 16);
        const w2 = v128.load(w, 32);
        const w3 = v128.load(w, 48);
        let a = v128.load32_splat(x);
        t00 = pairs(t00, a, w0);
        t01 = pairs(t01, a, w1);
        t02 = pairs(t02, a, w2);
        t03 = pairs(t03, a, w3);
        a = v128.load32_splat(x1);
        t10 = pairs(t10, a, w0);
        t11 = pairs(t11, a, w1);
        t12 = pairs(t12, a, w2);
        t13 = pairs(t13, a, w3);
        x += 4;
        x1 += 4;
        w += PANEL_BYTES;
      } while (--count);
      const s00 = i32x4.dot_i16x8_s(t00, ones);
      const s01 = i32x4.dot_i16x8_s(t01, ones);
      const s02 = i32x4.dot_i16x8_s(t02, ones);
      const s03 = i32x4.dot_i16x8_s(t03, ones);
      const s10 = i32x4.dot_i16x8_s(t10, ones);
      const s11 = i32x4.dot_i16x8_s(t11, ones);
      const s12 = i32x4.dot_i16x8_s(t12, ones);
      const s13 = i32x4.dot_i16x8_s(t13, ones);
      t00 = v128.load32_splat(x, INPUT_HALF + 4 - BLOCK / 2);
      t01 = t00;
      t02 = t00;
      t03 = t00;
      t10 = v128.load32_splat(x1, INPUT_HALF + 4 - BLOCK / 2);
      t11 = t10;
      t12 = t10;
      t13 = t10;
      count = 4;
      do {
        const w0 = v128.load(w);
        const w1 = v128.load(w, 16);
        const w2 = v128.load(w, 32);
        const w3 = v128.load(w, 48);
        let a = v128.load32_splat(x);
        t00 = pairs(t00, a, w0);
        t01 = pairs(t01, a, w1);
        t02 = pairs(t02, a, w2);
        t03 = pairs(t03, a, w3);
        a = v128.load32_splat(x1);
        t10 = pairs(t10, a, w0);
        t11 = pairs(t11, a, w1);
        t12 = pairs(t12, a, w2);
        t13 = pairs(t13, a, w3);
        x += 4;
        x1 += 4;
        w += PANEL_BYTES;
      } while (--count);
      const scale0 = v128.load(w);
      const scale1 = v128.load(w, 16);
      const scale2 = v128.load(w, 32);
      const scale3 = v128.load(w, 48);
      let factor = v128.load32_splat(x, INPUT_SCALE - BLOCK);
      finish(
        out, both(s00, t00, ones), both(s01, t01, ones), both(s02, t02, ones), both(s03, t03, ones),
        factor, scale0, scale1, scale2, scale3,
      );
      factor = v128.load32_splat(x1, INPUT_SCALE - BLOCK);
      finish(
        out1, both(s10, t10, ones), both(s11, t11, ones), both(s12, t12, ones), both(s13, t13, ones),
        factor, scale0, scale1, scale2, scale3,
      );
      x += INPUT_Q8_BYTES - BLOCK;
      x1 += INPUT_Q8_BYTES - BLOCK;
      w += PANEL_BYTES;
    }
    bound += 4;
  } while (--blocks);
}

/** Four rows, a panel, for an engine that joins neighbouring vectors: two rows would be four sums of 256 bits, which wait for
 *  themselves. */
export function q8Tile4x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32): void {
  const ones = v128.load32_splat(ONES);
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  const out1 = out + outStride;
  const out2 = out1 + outStride;
  const out3 = out2 + outStride;
  let bound = w + <usize>blocks * Q8_BLOCK_BYTES;
  do {
    const most = load<u32>(bound);
    if (
      load<u32>(x, INPUT_SQUARES) > most || load<u32>(x1, INPUT_SQUARES) > most ||
      load<u32>(x2, INPUT_SQUARES) > most || load<u32>(x3, INPUT_SQUARES) > most
    ) {
      q8Tile1x16(out, x, w, 1);
      q8Tile1x16(out1, x1, w, 1);
      q8Tile1x16(out2, x2, w, 1);
      q8Tile1x16(out3, x3, w, 1);
      x += INPUT_Q8_BYTES;
      x1 += INPUT_Q8_BYTES;
      x2 += INPUT_Q8_BYTES;
      x3 += INPUT_Q8_BYTES;
      w += Q8_BLOCK_BYTES;
    } else {
      let t00 = v128.load32_splat(x, INPUT_HALF);
      let t01 = t00;
      let t02 = t00;
      let t03 = t00;
      let t10 = v128.load32_splat(x1, INPUT_HALF);
      let t11 = t10;
      let t12 = t10;
      let t13 = t10;
      let t20 = v128.load32_splat(x2, INPUT_HALF);
      let t21 = t20;
      let t22 = t20;
      let t23 = t20;
      let t30 = v128.load32_splat(x3, INPUT_HALF);
      let t31 = t30;
      let t32 = t30;
      let t33 = t30;
      let count = 4;
      do {
        const w0 = v128.load(w);
        const w1 = v128.load(w, 16);
        const w2 = v128.load(w, 32);
        const w3 = v128.load(w, 48);
        let a = v128.load32_splat(x);
        t00 = pairs(t00, a, w0);
        t01 = pairs(t01, a, w1);
        t02 = pairs(t02, a, w2);
        t03 = pairs(t03, a, w3);
        a = v128.load32_splat(x1);
        t10 = pairs(t10, a, w0);
        t11 = pairs(t11, a, w1);
        t12 = pairs(t12, a, w2);
        t13 = pairs(t13, a, w3);
        a = v128.load32_splat(x2);
        t20 = pairs(t20, a, w0);
        t21 = pairs(t21, a, w1);
        t22 = pairs(t22, a, w2);
        t23 = pairs(t23, a, w3);
        a = v128.load32_splat(x3);
        t30 = pairs(t30, a, w0);
        t31 = pairs(t31, a, w1);
        t32 = pairs(t32, a, w2);
        t33 = pairs(t33, a, w3);
        x += 4;
        x1 += 4;
        x2 += 4;
        x3 += 4;
        w += PANEL_BYTES;
      } while (--count);
      const s00 = i32x4.dot_i16x8_s(t00, ones);
      const s01 = i32x4.dot_i16x8_s(t01, ones);
      const s02 = i32x4.dot_i16x8_s(t02, ones);
      const s03 = i32x4.dot_i16x8_s(t03, ones);
      const s10 = i32x4.dot_i16x8_s(t10, ones);
      const s11 = i32x4.dot_i16x8_s(t11, ones);
      const s12 = i32x4.dot_i16x8_s(t12, ones);
      const s13 = i32x4.dot_i16x8_s(t13, ones);
      const s20 = i32x4.dot_i16x8_s(t20, ones);
      const s21 = i32x4.dot_i16x8_s(t21, ones);
      const s22 = i32x4.dot_i16x8_s(t22, ones);
      const s23 = i32x4.dot_i16x8_s(t23, ones);
      const s30 = i32x4.dot_i16x8_s(t30, ones);
      const s31 = i32x4.dot_i16x8_s(t31, ones);
      const s32 = i32x4.dot_i16x8_s(t32, ones);
      const s33 = i32x4.dot_i16x8_s(t33, ones);
      t00 = v128.load32_splat(x, INPUT_HALF + 4 - BLOCK / 2);
      t01 = t00;
      t02 = t00;
      t03 = t00;
      t10 = v128.load32_splat(x1, INPUT_HALF + 4 - BLOCK / 2);
      t11 = t10;
      t12 = t10;
      t13 = t10;
      t20 = v128.load32_splat(x2, INPUT_HALF + 4 - BLOCK / 2);
      t21 = t20;
      t22 = t20;
      t23 = t20;
      t30 = v128.load32_splat(x3, INPUT_HALF + 4 - BLOCK / 2);
      t31 = t30;
      t32 = t30;
      t33 = t30;
      count = 4;
      do {
        const w0 = v128.load(w);
        const w1 = v128.load(w, 16);
        const w2 = v128.load(w, 32);
        const w3 = v128.load(w, 48);
        let a = v128.load32_splat(x);
        t00 = pairs(t00, a, w0);
        t01 = pairs(t01, a, w1);
        t02 = pairs(t02, a, w2);
        t03 = pairs(t03, a, w3);
        a = v128.load32_splat(x1);
        t10 = pairs(t10, a, w0);
        t11 = pairs(t11, a, w1);
        t12 = pairs(t12, a, w2);
        t13 = pairs(t13, a, w3);
        a = v128.load32_splat(x2);
        t20 = pairs(t20, a, w0);
        t21 = pairs(t21, a, w1);
        t22 = pairs(t22, a, w2);
        t23 = pairs(t23, a, w3);
        a = v128.load32_splat(x3);
        t30 = pairs(t30, a, w0);
        t31 = pairs(t31, a, w1);
        t32 = pairs(t32, a, w2);
        t33 = pairs(t33, a, w3);
        x += 4;
        x1 += 4;
        x2 += 4;
        x3 += 4;
        w += PANEL_BYTES;
      } while (--count);
      const scale0 = v128.load(w);
      const scale1 = v128.load(w, 16);
      const scale2 = v128.load(w, 32);
      const scale3 = v128.load(w, 48);
      let factor = v128.load32_splat(x, INPUT_SCALE - BLOCK);
      finish(
        out, both(s00, t00, ones), both(s01, t01, ones), both(s02, t02, ones), both(s03, t03, ones),
        factor, scale0, scale1, scale2, scale3,
      );
      factor = v128.load32_splat(x1, INPUT_SCALE - BLOCK);
      finish(
        out1, both(s10, t10, ones), both(s11, t11, ones), both(s12, t12, ones), both(s13, t13, ones),
        factor, scale0, scale1, scale2, scale3,
      );
      factor = v128.load32_splat(x2, INPUT_SCALE - BLOCK);
      finish(
        out2, both(s20, t20, ones), both(s21, t21, ones), both(s22, t22, ones), both(s23, t23, ones),
        factor, scale0, scale1, scale2, scale3,
      );
      factor = v128.load32_splat(x3, INPUT_SCALE - BLOCK);
      finish(
        out3, both(s30, t30, ones), both(s31, t31, ones), both(s32, t32, ones), both(s33, t33, ones),
        factor, scale0, scale1, scale2, scale3,
      );
      x += INPUT_Q8_BYTES - BLOCK;
      x1 += INPUT_Q8_BYTES - BLOCK;
      x2 += INPUT_Q8_BYTES - BLOCK;
      x3 += INPUT_Q8_BYTES - BLOCK;
      w += PANEL_BYTES;
    }
    bound += 4;
  } while (--blocks);
}
