// rmsnorm: the normalisation in front of every matmul. There it is part of the sum: Σ w·(n·x) is scaled at the end by
// 1 / sqrt(mean(x²) + ε), and Σ x² runs along, so that no thread waits for another. This kernel is the norm by itself, for those
// who look at hidden states.
import { type Kernel, PRELUDE } from "./kernel.ts";

/** out[t] = weight ⊙ x[t] / sqrt(mean(x[t]²) + epsilon). One thread for a token. */
export const rmsnorm: Kernel = {
  name: "rmsnorm",
  bindings: ["read", "read", "write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}
struct Shape { width: u32, stride: u32, weightAt: u32, epsilon: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> vectors: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> shape: Shape;
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) place: vec3u) {
  if (place.x >= grid.count) { return; }
  let start = (grid.base + place.x) * shape.stride;
  var squares = 0.0;
  for (var i = 0u; i < shape.width; i++) { squares = fma(x[start + i], x[start + i], squares); }
  let scale = inverseSqrt(squares / f32(shape.width) + shape.epsilon);
  for (var i = 0u; i < shape.width; i++) { result[start + i] = vectors[shape.weightAt + i] * (x[start + i] * scale); }
}
`,
};
