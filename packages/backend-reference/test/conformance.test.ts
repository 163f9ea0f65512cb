// The suite that every backend runs, this one first.
import { conformance, type Kernels } from "@doge-lm/conformance";
import { reference } from "../src/index.ts";
import { attend } from "../src/kernels/attention.ts";
import { draw } from "../src/kernels/draw.ts";
import { matmul } from "../src/kernels/matmul.ts";
import { rmsnorm } from "../src/kernels/rmsnorm.ts";
import { angles, rope } from "../src/kernels/rope.ts";
import { swiglu } from "../src/kernels/swiglu.ts";
import { KeptKeys } from "../src/state.ts";

const kernels: Kernels = {
  rmsnorm(x, weight, epsilon) {
    const out = new Float32Array(x.length);
    rmsnorm(out, x, null, null, weight, x.length / weight.length, weight.length, epsilon);
    return out;
  },
  matmul(x, weight, bias, rows, inner, outer) {
    const out = new Float32Array(rows * outer);
    matmul(out, x, weight, bias, rows, inner, outer);
    return out;
  },
  rope(x, headDim, position, theta) {
    const out = x.slice();
    const cosine = new Float32Array(headDim / 2);
    const sine = new Float32Array(headDim / 2);
    angles(cosine, sine, position, 1, headDim, { type: "default", theta, factor: 1 }, position + 1);
    rope(out, cosine, sine, 1, x.length / headDim, headDim);
    return out;
  },
  swiglu(gate, up) {
    const out = new Float32Array(gate.length);
    swiglu(out, gate, up, 1, gate.length);
    return out;
  },
  attention(query, keys, values, bias, headDim) {
    const kept = new KeptKeys(headDim, 1, null);
    for (let position = 0; position < bias.length; position++) {
      const row = (tensor: Float32Array) => tensor.subarray(position * headDim, (position + 1) * headDim);
      kept.insert(position, row(keys), row(values), bias.subarray(position, position + 1));
    }
    const out = new Float32Array(headDim);
    attend(out, query, kept, 0, headDim);
    return out;
  },
  draw,
};

conformance(reference(), { kernels });
