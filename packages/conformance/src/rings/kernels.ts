// Ring "kernels": optional. Kernels handed over as functions over plain arrays, against their definition in f64, over a sweep
// of shapes with tails that fill no SIMD width and no tile.
import { defaultSampling, draw, type Sampling } from "@doge-lm/core";
import { same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { close } from "../compare.ts";
import type { Kernels, Numbers } from "../notes.ts";
import { someIds, stream } from "../random.ts";
import { tolerances } from "../tolerances.ts";

export const kernelChecks: Check[] = [];
const ringCheck = inRing("kernels", kernelChecks);

function check<Name extends keyof Kernels>(
  name: Name,
  run: (kernel: NonNullable<Kernels[Name]>) => Promise<void>,
): void {
  ringCheck(
    `kernel ${name}`,
    ({ stage }) => run(stage.notes.kernels![name]!),
    ({ notes }) => (notes.kernels?.[name] === undefined ? `the package hands over no kernel ${name}` : undefined),
  );
}

/** Widths around SIMD lanes, tiles and quantisation blocks. */
const widths = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 37, 63, 64, 100, 129, 256, 300];

function numbers(count: number, seed: number, scale = 1): Numbers {
  const next = stream(seed);
  return Float32Array.from({ length: count }, () => scale * (next() + next() + next() + next() - 2));
}
const rootMeanSquare = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length) || 1;
const near = (actual: Numbers, expected: Float64Array, what: string) =>
  close(actual, expected, tolerances.kernel, what, rootMeanSquare(expected));

check("rmsnorm", async (rmsnorm) => {
  for (const width of widths) {
    for (const rows of [1, 3]) {
      const [x, weight] = [numbers(rows * width, width, 3), numbers(width, width + 1)];
      const expected = new Float64Array(x.length);
      for (let row = 0; row < rows; row++) {
        const part = x.subarray(row * width, (row + 1) * width);
        const scale = 1 / Math.sqrt(part.reduce((sum, value) => sum + value * value, 0) / width + 1e-6);
        for (const [i, value] of part.entries()) expected[row * width + i] = weight[i]! * value * scale;
      }
      near(await rmsnorm(x, weight, 1e-6), expected, `${rows} rows of ${width}`);
    }
  }
});

check("matmul", async (matmul) => {
  for (const inner of widths) {
    for (const [rows, outer] of [
      [1, 33],
      [2, 5],
      [5, 16],
      [7, 1],
      [17, 40],
    ] as const) {
      const [x, weight] = [numbers(rows * inner, inner), numbers(outer * inner, inner + 7)];
      for (const bias of [null, numbers(outer, 3)]) {
        const expected = new Float64Array(rows * outer);
        for (let row = 0; row < rows; row++) {
          for (let out = 0; out < outer; out++) {
            let sum = bias?.[out] ?? 0;
            for (let i = 0; i < inner; i++) sum += x[row * inner + i]! * weight[out * inner + i]!;
            expected[row * outer + out] = sum;
          }
        }
        const what = `${rows} rows of ${inner} to ${outer}${bias === null ? "" : " with bias"}`;
        near(await matmul(x, weight, bias, rows, inner, outer), expected, what);
      }
    }
  }
});

check("rope", async (rope) => {
  for (const headDim of [2, 4, 6, 8, 10, 16, 20, 64, 128]) {
    for (const position of [0, 1, 7, 500]) {
      const x = numbers(3 * headDim, headDim);
      const half = headDim / 2;
      const expected = Float64Array.from(x, (value, at) => {
        const i = at % headDim;
        const angle = Math.fround(position * Math.fround(10000 ** ((-2 * (i % half)) / headDim)));
        const other = i < half ? -x[at + half]! : x[at - half]!;
        return value * Math.cos(angle) + other * Math.sin(angle);
      });
      near(await rope(x, headDim, position, 10000), expected, `Heads of ${headDim} at position ${position}`);
    }
  }
});

check("swiglu", async (swiglu) => {
  for (const width of widths) {
    const [gate, up] = [numbers(width, width, 6), numbers(width, width + 2)];
    const expected = Float64Array.from(gate, (value, i) => (value / (1 + Math.exp(-value))) * up[i]!);
    near(await swiglu(gate, up), expected, `Width ${width}`);
  }
});

check("attention", async (attention) => {
  for (const headDim of [2, 4, 10, 16, 37, 128]) {
    for (const count of [1, 2, 5, 24, 65, 200]) {
      const q = numbers(headDim, headDim, 2);
      const [keys, values] = [numbers(count * headDim, count, 2), numbers(count * headDim, count + 1)];
      const bias = numbers(count, count + 2, 4);
      const scores = Float64Array.from(bias, (value, key) => {
        let sum = 0;
        for (let i = 0; i < headDim; i++) sum += q[i]! * keys[key * headDim + i]!;
        return sum / Math.sqrt(headDim) + value;
      });
      const top = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - top));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const expected = Float64Array.from({ length: headDim }, (_, i) =>
        weights.reduce((sum, weight, key) => sum + (weight / total) * values[key * headDim + i]!, 0),
      );
      near(await attention(q, keys, values, bias, headDim), expected, `${count} keys of ${headDim}`);
    }
  }
});

check("draw", async (drawKernel) => {
  const settings: Partial<Sampling>[] = [
    {},
    { temperature: 0 },
    { topK: 5 },
    { topP: 0.7 },
    { minP: 0.1 },
    { temperature: 0.7, topK: 40, topP: 0.95, minP: 0.01, repetitionPenalty: 1.3 },
  ];
  for (const vocabulary of [1, 2, 31, 32, 33, 128, 1000, 4099]) {
    const logits = numbers(vocabulary, vocabulary, 3);
    const past = someIds(20, vocabulary, 4);
    const allowed = new Uint32Array(Math.ceil(vocabulary / 32)).fill(0xdddddddd);
    for (const [index, setting] of settings.entries()) {
      for (const mask of [undefined, allowed]) {
        const sampling = { ...defaultSampling, seed: index * 31 + 7, ...setting };
        const found = await drawKernel(logits, past, 20, sampling, mask);
        same(found, draw(logits, past, 20, sampling, mask), `${vocabulary} ids, ${JSON.stringify(setting)}`);
      }
    }
  }
});
