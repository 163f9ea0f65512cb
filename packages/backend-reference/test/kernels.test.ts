// The kernels on numbers small enough to follow by hand; real sizes are compared with transformers in the conformance suite.
import { describe, expect, it } from "vitest";
import { attention, softplus } from "../src/kernels/attention.ts";
import { embed } from "../src/kernels/embed.ts";
import { bestPairs, experts } from "../src/kernels/experts.ts";
import { matmul } from "../src/kernels/matmul.ts";
import { rmsnorm } from "../src/kernels/rmsnorm.ts";
import { angles, rope, rotaryBase } from "../src/kernels/rope.ts";
import { silu, swiglu } from "../src/kernels/swiglu.ts";
import { KeptKeys } from "../src/state.ts";

const f32 = (...values: number[]) => Float32Array.from(values);
const plain = { type: "default", theta: 10000, factor: 1 } as const;

describe("embed", () => {
  it("copies rows of the table, repeated ids too", () => {
    const out = new Float32Array(6);
    embed(out, f32(0, 1, 2, 3, 4, 5), Int32Array.of(2, 0, 2), 3, 2);
    expect([...out]).toEqual([4, 5, 0, 1, 4, 5]);
  });
});

describe("matmul", () => {
  it("multiplies by the transposed weight and adds the bias", () => {
    const out = new Float32Array(4);
    matmul(out, f32(1, 2, 3, 4, 5, 6), f32(1, 0, -1, 0.5, 0.5, 0.5), f32(10, 20), 2, 3, 2);
    expect([...out]).toEqual([8, 23, 8, 27.5]);
  });

  it("sums in double precision: large terms that cancel leave the small one", () => {
    const out = new Float32Array(1);
    matmul(out, f32(2 ** 30, 1, 2 ** 30), f32(1, 1, -1), null, 1, 3, 1);
    expect(out[0]).toBe(1);
  });
});

describe("rmsnorm", () => {
  it("normalises by the root mean square", () => {
    const out = new Float32Array(2);
    rmsnorm(out, f32(3, 4), null, null, f32(1, 2), 1, 2, 0);
    expect(out[0]).toBeCloseTo(3 / Math.sqrt(12.5), 6);
    expect(out[1]).toBeCloseTo(8 / Math.sqrt(12.5), 6);
  });

  it("gates the stream, not the update, and leaves the new stream behind", () => {
    const x = f32(1, 2);
    const out = new Float32Array(2);
    rmsnorm(out, x, f32(2, -1), f32(1, 6), f32(1, 1), 1, 2, 0);
    expect([...x]).toEqual([3, 4]);
    expect(out[0]).toBeCloseTo(3 / Math.sqrt(12.5), 6);
  });
});

describe("rope", () => {
  it("leaves position 0 alone and turns pair (i, i + half) at position 1 by its frequency", () => {
    const x = f32(1, 2, 3, 4, 1, 2, 3, 4);
    const cosine = new Float32Array(4);
    const sine = new Float32Array(4);
    angles(cosine, sine, 0, 2, 4, plain, 8);
    rope(x, cosine, sine, 2, 1, 4);
    expect([...x.subarray(0, 4)]).toEqual([1, 2, 3, 4]);
    expect(x[4]).toBeCloseTo(Math.cos(1) - 3 * Math.sin(1), 6);
    expect(x[6]).toBeCloseTo(3 * Math.cos(1) + Math.sin(1), 6);
    expect(x[5]).toBeCloseTo(2 * Math.cos(0.01) - 4 * Math.sin(0.01), 6);
  });

  it("grows the dynamic base with the token's own position, from the first one beyond the trained length", () => {
    const dynamic = { type: "dynamic", theta: 10000, factor: 4 } as const;
    expect(rotaryBase(dynamic, 4, 8, 7)).toBe(10000);
    expect(rotaryBase(dynamic, 4, 8, 8)).toBeCloseTo(10000 * 1.5 ** 2, 6);
    expect(rotaryBase(plain, 4, 8, 100)).toBe(10000);
  });

  it("divides the frequencies under linear scaling", () => {
    const cosine = new Float32Array(2);
    angles(cosine, new Float32Array(2), 4, 1, 4, { type: "linear", theta: 10000, factor: 4 }, 8);
    expect(cosine[0]).toBeCloseTo(Math.cos(1), 6);
  });
});

describe("swiglu", () => {
  it("is silu(gate) times up, also far out", () => {
    const out = new Float32Array(3);
    swiglu(out, f32(1, -200, 200), f32(2, 3, 0.5), 1, 3);
    expect(out[0]).toBeCloseTo(2 / (1 + Math.exp(-1)), 6);
    expect(out[1]).toBeCloseTo(0, 6);
    expect(out[2]).toBeCloseTo(100, 6);
  });
});

describe("experts", () => {
  it("chooses the greatest pairs, the lowest id first among equals", () => {
    const { ids, scores } = bestPairs(f32(1, 3, 3), f32(0, 2, 0), 4);
    expect([...ids]).toEqual([4, 7, 1, 3]); // 5, 5, then 3 at ids 1, 3, 5, 6 and 8
    expect([...scores]).toEqual([5, 5, 3, 3]);
    expect([...bestPairs(f32(0, 0), f32(0, 0), 3).ids]).toEqual([0, 1, 2]);
  });

  const router = f32(0, 9, 9, 0, /* token 1 */ 0, 5, 0, 5); // side 2: halves x, y of two tokens
  const down = f32(1, 2, 3, 4); // hidden 1
  const up = f32(10, 20, 30, 40);
  const run = (stride: number, split: number, sorted: boolean) => {
    const out = f32(0, 0);
    experts(out, f32(1, 1), router, down, up, 0, stride, split, 2, 1, 2, 1, true, sorted);
    return [...out];
  };
  const strength = (expert: number) => Math.fround(silu(down[expert]!) * up[expert]!);

  it("routes each token by its own halves", () => {
    expect(run(2, 1, false)).toEqual([strength(2), strength(3)]); // best of x 1, of y 0; then 1 and 1
  });

  it("routes by the halves of other tokens under reference routing", () => {
    // Flat rows [0, 9], [9, 0], [0, 5], [0, 5]. Token 0 reads rows 0 and 2, token 1 rows 1 and 3.
    expect(run(1, 2, false)).toEqual([strength(3), strength(1)]);
  });

  it("counts places in the sorted grid under grid indexing", () => {
    expect(run(2, 1, true)).toEqual([strength(0), strength(0)]);
  });

  it("weighs the chosen by the softmax of their scores and adds to what is there", () => {
    const out = f32(100);
    experts(out, f32(1), f32(0, 1, 0, 1), down, up, 0, 2, 1, 1, 1, 2, 2, false, false);
    const best = 1 / (1 + Math.exp(-1)); // scores 2 (expert 3), then 1 (experts 1 and 2: the lower id)
    expect(out[0]).toBeCloseTo(100 + best * silu(4) * 40 + (1 - best) * silu(2) * 20, 4);
  });
});

describe("attention", () => {
  /** One head of size 1 whose query is 0: the scores are the biases alone. */
  const run = (deltas: number[], A: number, window: number | null, values = deltas.map((_, index) => index)) => {
    const rows = deltas.length;
    const kept = new KeptKeys(1, 1, window);
    const out = new Float32Array(rows);
    const bias = new Float32Array(rows);
    const zeros = new Float32Array(rows);
    const value = Float32Array.from(values);
    attention(out, bias, zeros, zeros, value, Float32Array.from(deltas), f32(A), [kept], 0, rows, 1, 1, 1, 1);
    return { out, bias, kept: kept.keptPositions() };
  };

  it("adds exp(A softplus(delta)) to the score", () => {
    const { out, bias } = run([0, 2], 0.5, null, [10, 20]);
    const [first, second] = [Math.exp(0.5 * softplus(0)), Math.exp(0.5 * softplus(2))];
    expect(bias[1]).toBe(Math.fround(second));
    expect(out[0]).toBe(10);
    const share = Math.exp(first) / (Math.exp(first) + Math.exp(second));
    expect(out[1]).toBeCloseTo(10 * share + 20 * (1 - share), 5);
  });

  it("sees per row what that row's own past keeps", () => {
    // Biases 3 1 2 0: with a window of 2 the rows see {0}, {0, 1}, {0, 2} and, the last not even itself, {0, 2}.
    const { out, kept } = run([3, 1, 2, -5], 1, 2, [1, 0, 0, 1000]);
    expect(kept).toEqual([0, 2]);
    expect(out[3]).toBe(out[2]);
    expect(out[3]).toBeLessThan(1);
  });

  it("keeps the most recent of equal biases, also where f32 makes them equal", () => {
    expect(run([1, 1, 1, 1], 1, 2).kept).toEqual([2, 3]);
    expect(run([5, -3, 7, 0], 0, 2).kept).toEqual([2, 3]); // A = 0: all biases are 1
    const tiny = run([-20, -21, -22, -23], 1, 2); // exp(2e-9) and less rounds to 1 in f32
    expect([...tiny.bias]).toEqual([1, 1, 1, 1]);
    expect(tiny.kept).toEqual([2, 3]);
  });

  it("gives each query head of a group its own bias in the legacy form", () => {
    const kept = [new KeptKeys(1, 2, null)];
    const out = new Float32Array(4);
    const bias = new Float32Array(4);
    const deltas = f32(0, 8, 8, 0); // rows x bias heads
    attention(
      out,
      bias,
      new Float32Array(4),
      new Float32Array(2),
      f32(0, 1),
      deltas,
      f32(1, 1),
      kept,
      0,
      2,
      2,
      1,
      2,
      1,
    );
    expect(out[2]).toBeCloseTo(1, 5); // head 0 looks at row 1, whose first bias is large
    expect(out[3]).toBeCloseTo(0, 5); // head 1 at row 0
  });

  it("has torch's linear branch in softplus", () => {
    expect(softplus(20.5)).toBe(20.5);
    expect(softplus(0)).toBeCloseTo(Math.LN2, 12);
    expect(softplus(-800)).toBe(0);
  });
});
