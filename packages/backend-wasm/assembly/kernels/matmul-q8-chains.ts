// matmul of q8 weights by chains in 16 bits: a tile of two rows, for all pairs of rows of a panel.
//
// A dot in 32 bits multiplies twice: bytes by bytes, and then pairs by 1 to add them up. Here eight products, of the first and of the
// second half of a block, are added up in 16 bits first, where that is safe, and three of four multiplications by 1 fall away. Eight
// products of |w| <= 127 and |x| <= 63 may need 17 bits, but hardly ever do: by Cauchy and Schwarz they fit wherever the squares of the
// weights times those of the inputs are at most 32767². Inputs bring their largest sum of squares with them, and a block of weights the
// largest that it can bear; where one is too large, that block of the tile is left to the dots. A sum that passes 16 bits on its way goes
// round and comes back: it is its end that counts. So both ways give the same integers.
//
// A block is one piece of code without loops. What limits it is the number of instructions, and a loop over its steps would count,
// check the stack and copy eight sums. The order here is that of the machine code: the same four variables hold the inputs and
// weights of every step, so that no compiler can put off a step until the sums of another are done and run out of registers.
import { PANEL } from "../../src/descriptor";
import { finish, INPUT_HALF, INPUT_Q8_BYTES, INPUT_SCALE, INPUT_SQUARES, ONES, Q8_BLOCK_BYTES } from "./bytes";
import { q8Tile1x16 } from "./matmul-q8-dots";
import { start } from "./start";

const PANEL_BYTES = PANEL * 4;
const SCALES: usize = 8 * PANEL_BYTES;

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

/** out (rows, 16) = bias (16), or 0, + x (rows, blocks) · w (blocks, 16), for an even number of rows: by chains, but for the blocks that do
 *  not bear it. */
export function q8Rows2x16(out: usize, outStride: usize, x: usize, xStride: usize, w: usize, blocks: i32, rows: i32, bias: usize): void {
  const bounds = w + <usize>blocks * Q8_BLOCK_BYTES;
  let pairsLeft = rows >> 1;
  do {
    const left = q8Tile2x16(out, outStride, x, xStride, w, bounds, blocks, pairsLeft, bias, true);
    if (left == 0) return;
    const others = (left - 1) / blocks;
    const done = <usize>(pairsLeft - 1 - others);
    out += 2 * done * outStride;
    x += 2 * done * xStride;
    q8Rest2x16(out, outStride, x, xStride, w, bounds, blocks, left - others * blocks);
    out += 2 * outStride;
    x += 2 * xStride;
    pairsLeft = others;
  } while (pairsLeft);
}

/** The last `left` blocks of two rows, of which the first does not bear chains. */
function q8Rest2x16(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, bounds: usize, blocks: i32, left: i32,
): void {
  do {
    const xAt = x + <usize>(blocks - left) * INPUT_Q8_BYTES;
    const wAt = w + <usize>(blocks - left) * Q8_BLOCK_BYTES;
    q8Tile1x16(out, xAt, wAt, 1);
    q8Tile1x16(out + outStride, xAt + xStride, wAt, 1);
    if (--left == 0) return;
    const boundAt = bounds + <usize>(blocks - left) * 4;
    left = q8Tile2x16(out, outStride, xAt + INPUT_Q8_BYTES, xStride, wAt + Q8_BLOCK_BYTES, boundAt, left, 1, 0, false);
  } while (left);
}

/** Pairs of rows, a panel: 8 sums for a pair, 4 of 256 bits where the engine joins neighbouring vectors. `begin`: sums begin at `bias`, or 0.
 *  Ends before a block that does not bear it, and gives how many blocks are left, those of further pairs too: what is to be done there stands
 *  elsewhere, so that V8 keeps all pointers of the loop in registers. */
function q8Tile2x16(
  out: usize, outStride: usize, x: usize, xStride: usize, w: usize, bounds: usize, blocks: i32, pairsLeft: i32, bias: usize, begin: bool,
): i32 {
  const ones = v128.load32_splat(ONES);
  do {
    if (begin) start(out, outStride, 2, bias);
    let x1 = x + xStride;
    const out1 = out + outStride;
    let left = blocks;
    let at = w;
    let bound = bounds;
    do {
      // All three stay below 2^31: one sign tells whether one of the inputs has too much.
      const most = load<i32>(bound);
      if (((most - load<i32>(x, INPUT_SQUARES)) | (most - load<i32>(x1, INPUT_SQUARES))) < 0) return left + (pairsLeft - 1) * blocks;
      let t00 = v128.load32_splat(x, INPUT_HALF);
      let t01 = t00;
      let t02 = t00;
      let t03 = t00;
      let t10 = v128.load32_splat(x1, INPUT_HALF);
      let t11 = t10;
      let t12 = t10;
      let t13 = t10;

      let a = v128.load32_splat(x);
      let b = v128.load32_splat(x1);
      let u = v128.load(at);
      let v = v128.load(at, 16);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 32);
      v = v128.load(at, 48);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      a = v128.load32_splat(x, 4);
      b = v128.load32_splat(x1, 4);
      u = v128.load(at, 64);
      v = v128.load(at, 80);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 96);
      v = v128.load(at, 112);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      a = v128.load32_splat(x, 8);
      b = v128.load32_splat(x1, 8);
      u = v128.load(at, 128);
      v = v128.load(at, 144);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 160);
      v = v128.load(at, 176);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      a = v128.load32_splat(x, 12);
      b = v128.load32_splat(x1, 12);
      u = v128.load(at, 192);
      v = v128.load(at, 208);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 224);
      v = v128.load(at, 240);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      const s00 = i32x4.dot_i16x8_s(t00, ones);
      const s01 = i32x4.dot_i16x8_s(t01, ones);
      const s02 = i32x4.dot_i16x8_s(t02, ones);
      const s03 = i32x4.dot_i16x8_s(t03, ones);
      const s10 = i32x4.dot_i16x8_s(t10, ones);
      const s11 = i32x4.dot_i16x8_s(t11, ones);
      const s12 = i32x4.dot_i16x8_s(t12, ones);
      const s13 = i32x4.dot_i16x8_s(t13, ones);
      t00 = v128.load32_splat(x, INPUT_HALF + 4);
      t01 = t00;
      t02 = t00;
      t03 = t00;
      t10 = v128.load32_splat(x1, INPUT_HALF + 4);
      t11 = t10;
      t12 = t10;
      t13 = t10;

      a = v128.load32_splat(x, 16);
      b = v128.load32_splat(x1, 16);
      u = v128.load(at, 256);
      v = v128.load(at, 272);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 288);
      v = v128.load(at, 304);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      a = v128.load32_splat(x, 20);
      b = v128.load32_splat(x1, 20);
      u = v128.load(at, 320);
      v = v128.load(at, 336);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 352);
      v = v128.load(at, 368);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      a = v128.load32_splat(x, 24);
      b = v128.load32_splat(x1, 24);
      u = v128.load(at, 384);
      v = v128.load(at, 400);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 416);
      v = v128.load(at, 432);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      a = v128.load32_splat(x, 28);
      b = v128.load32_splat(x1, 28);
      u = v128.load(at, 448);
      v = v128.load(at, 464);
      t00 = pairs(t00, a, u);
      t01 = pairs(t01, a, v);
      t10 = pairs(t10, b, u);
      t11 = pairs(t11, b, v);
      u = v128.load(at, 480);
      v = v128.load(at, 496);
      t02 = pairs(t02, a, u);
      t03 = pairs(t03, a, v);
      t12 = pairs(t12, b, u);
      t13 = pairs(t13, b, v);

      const scale0 = v128.load(at, SCALES);
      const scale1 = v128.load(at, SCALES + 16);
      const scale2 = v128.load(at, SCALES + 32);
      const scale3 = v128.load(at, SCALES + 48);
      finish(
        out, both(s00, t00, ones), both(s01, t01, ones), both(s02, t02, ones), both(s03, t03, ones),
        v128.load32_splat(x, INPUT_SCALE), scale0, scale1, scale2, scale3,
      );
      finish(
        out1, both(s10, t10, ones), both(s11, t11, ones), both(s12, t12, ones), both(s13, t13, ones),
        v128.load32_splat(x1, INPUT_SCALE), scale0, scale1, scale2, scale3,
      );
      x += INPUT_Q8_BYTES;
      x1 += INPUT_Q8_BYTES;
      at += Q8_BLOCK_BYTES;
      bound += 4;
    } while (--left);
    out += 2 * outStride;
    x = x1 + xStride - <usize>blocks * INPUT_Q8_BYTES;
  } while (--pairsLeft);
  return 0;
}
