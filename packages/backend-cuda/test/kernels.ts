// The kernels as functions over plain arrays, in the form that the conformance suite compares with their definitions.
import type { Notes } from "@doge-lm/conformance/checks";
import type { BindingWithKernels, DeviceHandle } from "../src/binding.ts";

type Kernels = NonNullable<Notes["kernels"]>;

/** Of an opened device. Matrices are held as f32. */
export function kernelsOf(binding: BindingWithKernels, device: DeviceHandle): Kernels {
  /** A result: poisoned, so that what a kernel leaves out shows. */
  const into = (length: number, write: (out: Float32Array) => void): Float32Array => {
    const out = new Float32Array(length).fill(Number.NaN);
    write(out);
    return out;
  };
  return {
    rmsnorm: (x, weight, epsilon) => into(x.length, (out) => binding.kernelRmsnorm(device, out, x, weight, epsilon)),
    matmul: (x, weight, bias, rows, inner, outer) =>
      into(rows * outer, (out) => binding.kernelMatmul(device, out, x, weight, bias, rows, inner, outer, 0)),
    rope(x, headDim, position, theta) {
      const turned = x.slice();
      binding.kernelRope(device, turned, headDim, position, theta);
      return turned;
    },
    swiglu: (gate, up) => into(gate.length, (out) => binding.kernelSwiglu(device, out, gate, up)),
    attention: (query, keys, values, bias, headDim) =>
      into(headDim, (out) => binding.kernelAttention(device, out, query, keys, values, bias)),
    draw(logits, ids, position, { stop, ...options }, allowed) {
      const row = { tokens: Int32Array.from(ids), stop: Int32Array.from(stop), ...options, allowed };
      return binding.kernelDraw(device, logits, position, row);
    },
  };
}
