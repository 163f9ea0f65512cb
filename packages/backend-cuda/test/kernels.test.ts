// Kernels beyond what the suite asks of every backend: matmul under each weight format against the numbers that core makes of the
// weights, attention over whole texts, and the tensor cores' fragments against the tables of the PTX ISA. Widths fill no tile.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { dequantizeQ8, fromBf16, quantizeQ8, toBf16 } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { errorsOf, shimBinding, withoutShim } from "./shim.ts";

const numbers = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, index) => Math.sin(index * 12.9898 + seed) * 2);
const formats = [
  { name: "f32", dtype: 0, held: (weight: Float32Array) => weight },
  { name: "bf16", dtype: 1, held: (weight: Float32Array) => fromBf16(toBf16(weight)) },
  {
    name: "q8",
    dtype: 2,
    held: (weight: Float32Array, inner: number) => dequantizeQ8(quantizeQ8(weight, inner), inner),
  },
];
/** What pages hold of a key or value (kept.cuh): under f32 itself, else the nearest half, of ties the even one, and none beyond the greatest. */
function kept(value: number, dtype: number): number {
  if (dtype === 0) return value;
  const step = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(value))), -14) - 10);
  const [whole, rest] = [Math.floor(value / step), value / step - Math.floor(value / step)];
  const nearest = step * (whole + (rest > 0.5 || (rest === 0.5 && whole % 2 !== 0) ? 1 : 0));
  return Math.max(-65504, Math.min(65504, nearest));
}
/** Rows from which bf16 and q8 go through tensor cores (TILES_LEAST). */
const TILES = 9;

describe.skipIf(withoutShim !== undefined)(`kernels${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  const binding = withoutShim === undefined ? shimBinding() : (undefined as never);
  // With tensor cores and without.
  const devices = withoutShim === undefined ? [binding.open(0), binding.open(1)] : [];

  test.each(formats)("matmul: $name holds core's numbers, and 16 bits of x at least", ({ held, dtype }) => {
    for (const inner of [1, 3, 31, 32, 33, 64, 100, 257]) {
      for (const [rows, outer] of [
        [1, 1],
        [2, 5],
        [4, 17],
        [9, 33],
        [16, 1],
        [17, 66],
        [45, 65],
        [131, 260],
      ] as const) {
        const [x, weight, bias] = [numbers(rows * inner, inner), numbers(outer * inner, rows), numbers(outer, 7)];
        const exact = held(weight, inner);
        for (const device of devices) {
          const out = new Float32Array(rows * outer).fill(Number.NaN);
          binding.kernelMatmul(device, out, x, weight, bias, rows, inner, outer, dtype);
          let worst = 0;
          for (let row = 0; row < rows; row++) {
            for (let column = 0; column < outer; column++) {
              let sum = bias[column]!;
              for (let at = 0; at < inner; at++) sum += x[row * inner + at]! * exact[column * inner + at]!;
              const error = Math.abs(out[row * outer + column]! - sum);
              worst = Math.max(error, worst); // NaN stays
            }
          }
          expect(worst, `${rows} x ${inner} x ${outer}`).toBeLessThan(4e-5 * Math.sqrt(inner));
        }
      }
    }
  });

  test.each(formats)("matmul: $name sums a row alike in any company that goes the same way", ({ dtype }) => {
    const [inner, outer, rows] = [100, 260, 140];
    const [x, weight] = [numbers(rows * inner, 1), numbers(outer * inner, 2)];
    const product = (count: number): Float32Array => {
      const out = new Float32Array(count * outer);
      binding.kernelMatmul(devices[0]!, out, x.subarray(0, count * inner), weight, null, count, inner, outer, dtype);
      return out;
    };
    for (const counts of dtype === 0
      ? [[1, 2, 4, 5, 8, 9, 16, 40, 140]]
      : [
          [1, 2, 4, 5, 8],
          [9, 16, 17, 40, 140],
        ]) {
      const all = product(counts.at(-1)!);
      for (const count of counts) expect(product(count)).toEqual(all.slice(0, count * outer));
    }
    const [few, many] = [product(TILES - 1), product(TILES).slice(0, (TILES - 1) * outer)];
    // Tensor cores keep 16 bits of x, so the two ways differ; f32 has one.
    if (dtype === 0) expect(few).toEqual(many);
    else expect(few).not.toEqual(many);
  });

  test.each(formats)("matmul: $name without tensor cores sums a row alike in any company, to the bit", ({ dtype }) => {
    // One chunk for a few of a warp's lanes, one for each, and several, not all alike.
    for (const inner of [31, 100, 257, 1100]) {
      const [outer, rows] = [70, 50];
      const [x, weight] = [numbers(rows * inner, 1), numbers(outer * inner, 2)];
      const product = (count: number): Float32Array => {
        const out = new Float32Array(count * outer).fill(Number.NaN);
        binding.kernelMatmul(devices[1]!, out, x.subarray(0, count * inner), weight, null, count, inner, outer, dtype);
        return out;
      };
      const all = product(rows);
      for (const count of [1, 3, 8, 15, 16, 33]) expect(product(count)).toEqual(all.slice(0, count * outer));
    }
  });

  test("swiglu: rows stand where a grid may have more than 65,535 blocks, which the double refuses elsewhere as devices do", () => {
    const said = errorsOf(
      `#include <cmath>
#include <string>
#include <vector>
#include "${join(fileURLToPath(new URL("../native", import.meta.url)), "kernels", "swiglu.cuh")}"
int main(int, char** a) {
  using namespace doge;
  const std::string what = a[1];
  if (what == "y") shim::launch(dim3(1, 65536), 32, [] {});
  if (what == "z") shim::launch(dim3(1, 1, 65536), 32, [] {});
  const unsigned rows = 3;
  std::vector<float> gate_up(rows * 64, 1.0f);
  shim::launch(dim3(rows, 1), 32, [&] { swiglu_kernel(gate_up.data(), 64, 3, 32); });
  for (unsigned row = 0; row < rows; row++)
    for (int column = 0; column < 64; column++)
      if (std::fabs(gate_up[row * 64 + column] - (column < 3 ? 0.7310586f : 1.0f)) > 1e-6f) shim::broken("a row is not what it is to be.");
}
`,
      ["x", "y", "z"],
    );
    expect(said.x).toBe("");
    expect(said.y).toContain("at most 65,535 blocks in y and in z");
    expect(said.z).toContain("at most 65,535 blocks in y and in z");
  });

  test.each(formats)(
    "attention over a text, $name: every token sees itself and all before it, as they are kept",
    ({ dtype }) => {
      for (const [dim, count] of [
        [2, 20],
        [4, 1],
        [12, 65],
        [64, 130],
        [100, 33],
        [128, 70],
        [200, 18],
      ] as const) {
        const [queries, keys, values, bias] = [
          numbers(count * dim, 1),
          numbers(count * dim, 2),
          numbers(count * dim, 3),
          numbers(count, 4),
        ];
        const [itsKeys, itsValues] = [keys, values].map((each) => each.map((value) => kept(value, dtype)));
        const expected = new Float32Array(count * dim);
        for (let query = 0; query < count; query++) {
          const scores = Array.from({ length: query + 1 }, (_, key) => {
            let dot = 0;
            for (let at = 0; at < dim; at++) dot += queries[query * dim + at]! * itsKeys![key * dim + at]!;
            return dot / Math.sqrt(dim) + bias[key]!;
          });
          const top = Math.max(...scores);
          const weights = scores.map((score) => Math.exp(score - top));
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          for (let at = 0; at < dim; at++) {
            expected[query * dim + at] =
              weights.reduce((sum, weight, key) => sum + weight * itsValues![key * dim + at]!, 0) / total;
          }
        }
        for (const device of devices) {
          const out = new Float32Array(count * dim).fill(Number.NaN);
          binding.kernelAttentionText(device, out, queries, keys, values, bias, dtype);
          const worst = out.reduce((most, found, index) => {
            const error = Math.abs(found - expected[index]!);
            return Math.max(error, most);
          }, 0);
          // Scores reach 4 sqrt(dim) here, of which f32 keeps 24 bits and a pair of halves 22. Numbers that were not kept would be off by 5e-4.
          expect(worst, `${count} tokens, heads of ${dim}`).toBeLessThan(2e-5);
        }
      }
    },
  );

  test.each(formats)("a token alone reads its own value as it is kept, $name, and halves stay finite", ({ dtype }) => {
    const values = Float32Array.of(
      0.1,
      -3.3,
      1e-6,
      3e-8,
      2049,
      2051,
      65519,
      -1e9,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      0,
      7,
    );
    const out = new Float32Array(values.length).fill(Number.NaN);
    for (const device of devices) {
      binding.kernelAttentionText(device, out, numbers(12, 1), numbers(12, 2), values, Float32Array.of(0.5), dtype);
      expect(out).toEqual(values.map((value) => kept(value, dtype)));
    }
  });

  test("attention of one query over many keys is the same from slices as from one", () => {
    const dim = 32;
    for (const count of [1, 128, 129, 300, 1500]) {
      const [query, keys, values, bias] = [
        numbers(dim, 1),
        numbers(count * dim, 2),
        numbers(count * dim, 3),
        numbers(count, 4),
      ];
      const expected = new Float64Array(dim);
      const scores = Array.from({ length: count }, (_, key) => {
        let dot = 0;
        for (let at = 0; at < dim; at++) dot += query[at]! * keys[key * dim + at]!;
        return dot / Math.sqrt(dim) + bias[key]!;
      });
      const top = Math.max(...scores);
      const total = scores.reduce((sum, score) => sum + Math.exp(score - top), 0);
      for (let at = 0; at < dim; at++) {
        expected[at] =
          scores.reduce((sum, score, key) => sum + Math.exp(score - top) * values[key * dim + at]!, 0) / total;
      }
      const out = new Float32Array(dim).fill(Number.NaN);
      // Twice: the slices leave their meeting place as they found it.
      for (let turn = 0; turn < 2; turn++) {
        binding.kernelAttention(devices[0]!, out, query, keys, values, bias);
        for (let at = 0; at < dim; at++) expect(Math.abs(out[at]! - expected[at]!)).toBeLessThan(1e-5);
      }
    }
  });

  test("attention over one token again and again is exactly its value", () => {
    const [dim, count] = [64, 70];
    const repeated = (seed: number) =>
      Float32Array.from({ length: count * dim }, (_, index) => numbers(dim, seed)[index % dim]!);
    const out = new Float32Array(count * dim).fill(Number.NaN);
    for (const { dtype } of formats) {
      for (const [index, device] of devices.entries()) {
        binding.kernelAttentionText(
          device,
          out,
          numbers(count * dim, 1),
          repeated(2),
          repeated(3),
          numbers(count, 4),
          dtype,
        );
        const value = repeated(3).map((its) => kept(its, dtype));
        // Tensor cores attend where no window drops keys: nothing hangs on a tie there.
        const most = index === 0 && dtype > 0 ? 1e-6 : 0;
        for (const [at, its] of value.entries()) expect(Math.abs(out[at]! - its)).toBeLessThanOrEqual(most);
      }
    }
  });

  test("fragments are those of the PTX ISA's tables for mma.m16n8k16, loaded plain and turned", () => {
    // Small whole numbers: exact in bf16 and in every sum. The tables, element by element.
    const a = Float32Array.from({ length: 256 }, (_, index) => ((index * 7) % 31) - 15);
    const b = Float32Array.from({ length: 128 }, (_, index) => ((index * 5) % 23) - 11);
    const [d, registers] = [new Float32Array(128).fill(Number.NaN), new Uint32Array(32 * 8)];
    binding.kernelFragments(devices[0]!, d, registers, a, b);
    const bf16 = (value: number): number => toBf16(Float32Array.of(value))[0]!;
    const half = (lane: number, register: number, element: number): number =>
      (registers[lane * 8 + register]! >>> (16 * element)) & 0xffff;
    for (let lane = 0; lane < 32; lane++) {
      const [group, inGroup] = [lane >> 2, lane % 4];
      for (let i = 0; i < 8; i++) {
        const row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        const column = inGroup * 2 + (i & 1) + (i < 4 ? 0 : 8);
        expect(half(lane, i >> 1, i & 1)).toBe(bf16(a[row * 16 + column]!));
      }
      for (let i = 0; i < 4; i++) {
        const row = inGroup * 2 + (i & 1) + (i < 2 ? 0 : 8);
        for (const from of [4, 6]) expect(half(lane, from + (i >> 1), i & 1)).toBe(bf16(b[group * 16 + row]!));
      }
    }
    for (let row = 0; row < 16; row++) {
      for (let column = 0; column < 8; column++) {
        let sum = 0;
        for (let inner = 0; inner < 16; inner++) sum += a[row * 16 + inner]! * b[column * 16 + inner]!;
        expect(d[row * 8 + column]).toBe(sum);
      }
    }
    expect(() => binding.kernelFragments(devices[1]!, d, registers, a, b)).toThrow(
      expect.objectContaining({ code: "unsupported" }),
    );
  });
});
