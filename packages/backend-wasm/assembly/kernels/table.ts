// Tables whose rows are read one at a time: the experts. Rows stand close together, in the dtype they are held in:
//
//   f32   (columns)                               padded to 16 numbers
//   bf16  (columns)                               padded to 16 numbers
//   q8    blocks of 32: i8 (32), f32 scale
//   q4    blocks of 32: nibbles (16 bytes), f32 scale; byte b holds columns b (low half) and b + 16, as code + 8
import { BLOCK, DTYPE_BF16, DTYPE_F32, DTYPE_Q8 } from "../../src/descriptor";

export const TABLE_Q8_BYTES: usize = BLOCK + 4;
export const TABLE_Q4_BYTES: usize = BLOCK / 2 + 4;

/** Bytes of a row. */
export function rowBytes(dtype: i32, columns: i32): usize {
  if (dtype == DTYPE_F32) return <usize>((columns + 15) & ~15) << 2;
  if (dtype == DTYPE_BF16) return <usize>((columns + 15) & ~15) << 1;
  return <usize>((columns + BLOCK - 1) / BLOCK) * (dtype == DTYPE_Q8 ? TABLE_Q8_BYTES : TABLE_Q4_BYTES);
}

/** A row as f32: its own address, or `out` with the row widened there, up to the next multiple of 32 numbers. */
export function rowF32(out: usize, table: usize, dtype: i32, columns: i32, index: i32): usize {
  let row = table + <usize>index * rowBytes(dtype, columns);
  if (dtype == DTYPE_F32) return row;
  let to = out;
  if (dtype == DTYPE_BF16) {
    for (let left = (columns + 15) & ~15; left > 0; left -= 8) {
      const half = v128.load(row);
      const zero = i16x8.splat(0);
      v128.store(to, v128.shuffle<i16>(zero, half, 0, 8, 0, 9, 0, 10, 0, 11));
      v128.store(to, v128.shuffle<i16>(zero, half, 0, 12, 0, 13, 0, 14, 0, 15), 16);
      row += 16;
      to += 32;
    }
    return out;
  }
  for (let left = columns; left > 0; left -= BLOCK) {
    if (dtype == DTYPE_Q8) {
      const scale = v128.load32_splat(row, BLOCK);
      sixteen(to, v128.load(row), scale);
      sixteen(to + 64, v128.load(row, 16), scale);
      row += TABLE_Q8_BYTES;
    } else {
      const scale = v128.load32_splat(row, BLOCK / 2);
      const bytes = v128.load(row);
      sixteen(to, i8x16.sub(v128.and(bytes, i8x16.splat(15)), i8x16.splat(8)), scale);
      sixteen(to + 64, i8x16.sub(i8x16.shr_u(bytes, 4), i8x16.splat(8)), scale);
      row += TABLE_Q4_BYTES;
    }
    to += BLOCK * 4;
  }
  return out;
}

/** 16 codes times their scale. */
// @ts-ignore: decorator
@inline
function sixteen(out: usize, codes: v128, scale: v128): void {
  const low = i16x8.extend_low_i8x16_s(codes);
  const high = i16x8.extend_high_i8x16_s(codes);
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low)), scale));
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low)), scale), 16);
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high)), scale), 32);
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high)), scale), 48);
}
