// bytes: blocks of weights and of inputs under q8 (matmul-q8.ts), and what the relaxed dots of bytes need to know about them.
//
// They multiply a signed byte by one of 0 to 127; what a second factor beyond 127 counts is the engine's choice, 128 to 255 or -128 to
// -1. Weights are second factors, so both must be right: where such a byte counts as unsigned, weights are stored with 128 added, and
// the sums of the inputs times 128 are taken off again.
import { BLOCK, PANEL } from "../../src/descriptor";
import { madd, storeFour } from "../simd";

const PANEL_BYTES = PANEL * 4;

/** A block of a panel. */
export const Q8_BLOCK_BYTES: usize = BLOCK * PANEL + PANEL_BYTES;
/** The largest sum that eight products of these squares may have: LIMIT / squares is what a block of weights can bear. */
export const Q8_LIMIT: u32 = 32767 * 32767;
/** A block of rounded inputs (inputs.ts): where the sums of each half begin, the sum of all, the squares and the scale. */
export const INPUT_HALF: usize = BLOCK;
export const INPUT_SUM: usize = BLOCK + 8;
export const INPUT_SQUARES: usize = BLOCK + 12;
export const INPUT_SCALE: usize = BLOCK + 16;
export const INPUT_Q8_BYTES: usize = BLOCK + 20;

// In memory, since V8 would rebuild a constant at each use.
export const ONES = memory.data<u32>([0x00010001]);
const ONE = memory.data<u32>([1]);
const HIGH = memory.data<u32>([0x80]);

/** What this engine adds to the byte of a weight: 128 or 0. `fused`: in the dot of four bytes, which may be another instruction. */
export function offset(fused: bool): i32 {
  // From memory, so that no compiler knows the answer.
  const one = v128.load32_splat(ONE);
  const high = v128.load32_splat(HIGH);
  const product = fused
    ? i32x4.relaxed_dot_i8x16_i7x16_add_s(one, high, i32x4.splat(0))
    : i16x8.relaxed_dot_i8x16_i7x16_s(one, high);
  return <i16>i16x8.extract_lane_s(product, 0) > 0 ? 128 : 0;
}

/** Of the two halves of a block, in the order of inputs: the sum of the eight that meet in the even lanes of 16 bits, 0 1 4 5 8 9 12 13,
 *  and that of the others, as two i16: of the first half in lanes 0 and 1 of 32 bits, of the second in lanes 2 and 3. */
// @ts-ignore: decorator
@inline
export function eights(first: v128, second: v128): v128 {
  const a = i16x8.extadd_pairwise_i8x16_s(first);
  const b = i16x8.extadd_pairwise_i8x16_s(second);
  const sums = i16x8.add(v128.shuffle<i64>(a, b, 0, 2), v128.shuffle<i64>(a, b, 1, 3));
  return i16x8.add(sums, v128.shuffle<i32>(sums, sums, 1, 0, 3, 2));
}

/** The largest sum of squares of the four eights. */
// @ts-ignore: decorator
@inline
export function largestSquares(first: v128, second: v128): i32 {
  const a = squares(first);
  const b = squares(second);
  let most = i32x4.add(v128.shuffle<i64>(a, b, 0, 2), v128.shuffle<i64>(a, b, 1, 3));
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
  return i32x4.extract_lane(most, 0);
}

/** Of 16 bytes: sums of the squares of 0 1 8 9, 2 3 10 11, 4 5 12 13 and 6 7 14 15. */
// @ts-ignore: decorator
@inline
function squares(codes: v128): v128 {
  const low = i16x8.extend_low_i8x16_s(codes);
  const high = i16x8.extend_high_i8x16_s(codes);
  return i32x4.add(i32x4.dot_i16x8_s(low, low), i32x4.dot_i16x8_s(high, high));
}

/** out (16) += a block's dots · the scale of its inputs · those of its weights. */
// @ts-ignore: decorator
@inline
export function finish(
  out: usize, s0: v128, s1: v128, s2: v128, s3: v128, factor: v128, scale0: v128, scale1: v128, scale2: v128, scale3: v128,
): void {
  const o0 = madd(f32x4.convert_i32x4_s(s0), f32x4.mul(factor, scale0), v128.load(out));
  const o1 = madd(f32x4.convert_i32x4_s(s1), f32x4.mul(factor, scale1), v128.load(out, 16));
  const o2 = madd(f32x4.convert_i32x4_s(s2), f32x4.mul(factor, scale2), v128.load(out, 32));
  const o3 = madd(f32x4.convert_i32x4_s(s3), f32x4.mul(factor, scale3), v128.load(out, 48));
  storeFour(out, o0, o1, o2, o3);
}
