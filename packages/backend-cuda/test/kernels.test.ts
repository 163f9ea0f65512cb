// matmul under each weight format, against the numbers that core makes of the weights: widths that fill no chunk and no warp, and
// sums that do not depend on the rows beside them.
import { dequantizeQ8, fromBf16, quantizeQ8, toBf16 } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { shimBinding, withoutShim } from "./shim.ts";

describe.skipIf(withoutShim !== undefined)(`matmul${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  const binding = withoutShim === undefined ? shimBinding() : (undefined as never);
  const device = withoutShim === undefined ? binding.open(0) : (undefined as never);
  const numbers = (count: number, seed: number) =>
    Float32Array.from({ length: count }, (_, index) => Math.sin(index * 12.9898 + seed) * 2);
  const formats = [
    { name: "f32", held: (weight: Float32Array) => weight },
    { name: "bf16", held: (weight: Float32Array) => fromBf16(toBf16(weight)) },
    { name: "q8", held: (weight: Float32Array, inner: number) => dequantizeQ8(quantizeQ8(weight, inner), inner) },
  ];

  test.each(formats.map((format, dtype) => ({ ...format, dtype })))("$name holds core's numbers", ({ held, dtype }) => {
    for (const inner of [1, 3, 31, 32, 33, 64, 100, 257]) {
      for (const [rows, outer] of [
        [1, 1],
        [2, 5],
        [4, 17],
        [9, 33],
      ] as const) {
        const [x, weight] = [numbers(rows * inner, inner), numbers(outer * inner, rows)];
        const exact = held(weight, inner);
        const out = new Float32Array(rows * outer).fill(Number.NaN);
        binding.kernelMatmul(device, out, x, weight, null, rows, inner, outer, dtype);
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < outer; column++) {
            let sum = 0;
            for (let at = 0; at < inner; at++) sum += x[row * inner + at]! * exact[column * inner + at]!;
            expect(Math.abs(out[row * outer + column]! - sum)).toBeLessThan(2e-5 * Math.sqrt(inner));
          }
        }
      }
    }
  });

  test.each(formats.map((format, dtype) => ({ ...format, dtype })))(
    "$name sums a row alike in any company",
    ({ dtype }) => {
      const [inner, outer, rows] = [100, 13, 21];
      const [x, weight] = [numbers(rows * inner, 1), numbers(outer * inner, 2)];
      const all = new Float32Array(rows * outer);
      binding.kernelMatmul(device, all, x, weight, null, rows, inner, outer, dtype);
      for (const count of [1, 2, 4, 5, 8, 9]) {
        const some = new Float32Array(count * outer);
        binding.kernelMatmul(device, some, x.subarray(0, count * inner), weight, null, count, inner, outer, dtype);
        expect(some).toEqual(all.slice(0, count * outer));
      }
    },
  );
});
