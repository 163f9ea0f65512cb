// What the suite's kernel ring does not ask of matmul: q8, and bits that do not depend on how many rows there are.
import { dequantizeQ8, quantizeQ8 } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import type { Binary } from "../src/index.ts";
import { openKernels } from "../src/kernels.ts";

const numbers = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, index) => Math.sin((index + 1) * 12.9898 * seed) * 2);

describe.each(["simd", "relaxed"] satisfies Binary[])("matmul of %s", async (binary) => {
  const kernels = await openKernels({ binary });

  test.each([1, 3, 4, 31, 32, 33, 64, 100])("q8 is the product with core's numbers, inner %i", (inner) => {
    const [rows, outer] = [3, 37];
    const [x, weight, bias] = [numbers(rows * inner, 1), numbers(outer * inner, 2), numbers(outer, 3)];
    const held = dequantizeQ8(quantizeQ8(weight, inner), inner);
    const found = kernels.matmulQ8(x, weight, bias, rows, inner, outer);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < outer; column++) {
        let expected = bias[column]!;
        for (let index = 0; index < inner; index++) expected += x[row * inner + index]! * held[column * inner + index]!;
        // Inputs are rounded to 1 / 32767 of the largest of their block of 32, at most 2 here, with weights of at most 2.
        expect(Math.abs(found[row * outer + column]! - expected)).toBeLessThan(1e-4 * Math.sqrt(inner) + 1e-5);
      }
    }
  });

  test.each(["matmul", "matmulQ8"] as const)("%s gives each row the same bits, alone and in company", (name) => {
    const [inner, outer] = [75, 70];
    const [x, weight, bias] = [numbers(9 * inner, 4), numbers(outer * inner, 5), numbers(outer, 6)];
    const rowOf = (row: number) => x.slice(row * inner, (row + 1) * inner);
    const alone = Array.from({ length: 9 }, (_, row) => kernels[name](rowOf(row), weight, bias, 1, inner, outer));
    for (let rows = 1; rows <= 9; rows++) {
      const together = kernels[name](x.slice(0, rows * inner), weight, bias, rows, inner, outer);
      for (let row = 0; row < rows; row++) {
        expect(together.slice(row * outer, (row + 1) * outer)).toEqual(alone[row]);
      }
    }
  });
});
