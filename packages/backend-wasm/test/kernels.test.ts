// What the suite's kernel ring does not ask of matmul: every dtype, and bits that do not depend on how many rows there are.
import { type DType, dequantizeQ4, dequantizeQ8, fromBf16, quantizeQ4, quantizeQ8, toBf16 } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import type { Binary } from "../src/index.ts";
import { openKernels } from "../src/kernels.ts";

const numbers = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, index) => Math.sin((index + 1) * 12.9898 * seed) * 2);

/** What core holds of weights (outer, inner), as f32. */
const held: Record<DType, (weight: Float32Array, inner: number) => Float32Array> = {
  f32: (weight) => weight,
  bf16: (weight) => fromBf16(toBf16(weight)),
  q8: (weight, inner) => dequantizeQ8(quantizeQ8(weight, inner), inner),
  q4: (weight, inner) => dequantizeQ4(quantizeQ4(weight, inner), inner),
};
const dtypes = ["f32", "bf16", "q8", "q4"] satisfies DType[];

describe.each(["simd", "relaxed"] satisfies Binary[])("matmul of %s", async (binary) => {
  const kernels = await openKernels({ binary });
  // Rounding of the inputs, at most 2 here, with weights of at most 2: to 1 / 32767 of the largest of a block of 32 under q8,
  // to 1 / 127 under q4 where bytes are multiplied.
  const step = {
    f32: 1e-6,
    bf16: 1e-6,
    q8: binary === "relaxed" ? 4e-2 : 1e-4,
    q4: binary === "relaxed" ? 2e-2 : 1e-4,
  };

  describe.each(dtypes)("%s", (dtype) => {
    test.each([1, 3, 4, 8, 31, 32, 33, 64, 100])("is the product with core's numbers, inner %i", (inner) => {
      const [rows, outer] = [7, 37];
      const [x, weight, bias] = [numbers(rows * inner, 1), numbers(outer * inner, 2), numbers(outer, 3)];
      const exact = held[dtype](weight, inner);
      const found = kernels.matmulAs(dtype, false)(x, weight, bias, rows, inner, outer);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < outer; column++) {
          let expected = bias[column]!;
          for (let index = 0; index < inner; index++) {
            expected += x[row * inner + index]! * exact[column * inner + index]!;
          }
          const apart = Math.abs(found[row * outer + column]! - expected);
          expect(apart).toBeLessThan(step[dtype] * Math.sqrt(inner) + 1e-5);
        }
      }
    });

    test.each([1, 5, 32, 45, 64])("holds core's numbers to the bit, inner %i", (inner) => {
      const outer = 35;
      // Ordinary numbers, ties of the rounding, blocks of zeros, of two extremes, and of what underflows.
      const weight = numbers(outer * inner, 7);
      for (let column = 0; column < inner; column++) {
        weight[inner + column] = 0;
        weight[2 * inner + column] = (column % 2 === 0 ? 8 : -8) * (column % 3 === 0 ? 1 : 1 / 16);
        weight[3 * inner + column] = (column - 3.5) / 127;
        weight[4 * inner + column] = 1e-45 * (column % 5);
      }
      const exact = held[dtype](weight, inner);
      // A unit vector reads one column. Its input rounds to the largest code of its scale, 1 over that code: their product may
      // differ from 1 in the last bit, once for the plain binary's two roundings more.
      for (let column = 0; column < inner; column++) {
        const unit = new Float32Array(inner);
        unit[column] = 1;
        const found = kernels.matmulAs(dtype, false)(unit, weight, null, 1, inner, outer);
        for (let row = 0; row < outer; row++) {
          const expected = exact[row * inner + column]!;
          expect(Math.abs(found[row]! - expected)).toBeLessThanOrEqual(Math.abs(expected) * 2.4e-7);
        }
      }
    });

    test("gives each row the same bits, alone and in company, in narrow, wide and fused tiles", () => {
      const [inner, outer] = [75, 70];
      const [x, weight, bias] = [numbers(13 * inner, 4), numbers(outer * inner, 5), numbers(outer, 6)];
      const rowOf = (row: number) => x.slice(row * inner, (row + 1) * inner);
      const narrow = kernels.matmulAs(dtype, false);
      const alone = Array.from({ length: 13 }, (_, row) => narrow(rowOf(row), weight, bias, 1, inner, outer));
      for (const matmul of [narrow, kernels.matmulAs(dtype, true), kernels.matmulAs(dtype, false, true)]) {
        for (let rows = 1; rows <= 13; rows++) {
          const together = matmul(x.slice(0, rows * inner), weight, bias, rows, inner, outer);
          for (let row = 0; row < rows; row++) {
            expect(together.slice(row * outer, (row + 1) * outer)).toEqual(alone[row]);
          }
        }
      }
    });
  });
});

describe("q8 of relaxed", async () => {
  const kernels = await openKernels({ binary: "relaxed" });
  // Codes that need no rounding: 63 of the inputs, 127 of the weights. Eight products of the largest add up to 64008, beyond 16 bits.
  const [inner, outer, rows] = [96, 32, 7];
  const x = new Float32Array(rows * inner);
  const weight = new Float32Array(outer * inner);
  const fill = (numbers: Float32Array, most: number, alike: (row: number, block: number) => boolean) => {
    for (let index = 0; index < numbers.length; index++) {
      const [row, column] = [Math.floor(index / inner), index % inner];
      const small = column % 32 === 0 ? most : (index % 13) - 6;
      numbers[index] = alike(row, column >> 5) ? (row % 2 === 0 ? most : -most) : small;
    }
  };

  test.each([
    ["small", 0],
    ["as large as can be", 1],
    ["of both kinds, block by block", 2],
  ])("adds up products that are %s to the exact integer, in every tile", (_, kind) => {
    const alike = (row: number, block: number) => kind === 1 || (kind === 2 && (row + block) % 3 === 0);
    fill(x, 63, alike);
    fill(weight, 127, alike);
    for (const matmul of [
      kernels.matmulAs("q8", false),
      kernels.matmulAs("q8", true),
      kernels.matmulAs("q8", false, true),
    ]) {
      for (let count = 1; count <= rows; count++) {
        const found = matmul(x.slice(0, count * inner), weight, null, count, inner, outer);
        for (let row = 0; row < count; row++) {
          for (let column = 0; column < outer; column++) {
            let expected = 0;
            for (let index = 0; index < inner; index++)
              expected += x[row * inner + index]! * weight[column * inner + index]!;
            expect(found[row * outer + column], `row ${row} of ${count}, output ${column}`).toBe(expected);
          }
        }
      }
    }
  });
});
