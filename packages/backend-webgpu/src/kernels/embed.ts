// embed: each token's row of the embedding table starts the residual stream. No scaling. Behind the stream the first token's cosines and
// sines are left: a step of a single text (slices.ts) finds them there without asking for its position first.

import type { Format } from "./formats.ts";
import { decode } from "./formats.ts";
import { type Kernel, PRELUDE } from "./kernel.ts";

/** stream[t] = table[ids[t]], for the ids whose rows this part of the table holds. One thread for four numbers. */
export function embed(format: Format): Kernel {
  return {
    name: `embed ${format.name}`,
    bindings: ["write", "read", "read", "uniform", ...(format.scaled ? (["read"] as const) : [])],
    call: ["read"],
    code: /* wgsl */ `${PRELUDE}
struct Shape { quads: u32, stride: u32, firstRow: u32, rows: u32, turnAt: u32, turnQuads: u32 }
@group(0) @binding(0) var<storage, read_write> stream: array<vec4f>;
@group(0) @binding(1) var<storage, read> table: array<${format.type}>;
@group(0) @binding(2) var<storage, read> angles: array<vec4f>;
@group(0) @binding(3) var<uniform> shape: Shape;
${format.scaled ? "@group(0) @binding(4) var<storage, read> scales: array<f32>;" : ""}
@group(1) @binding(1) var<storage, read> call: array<u32>;
${decode(format, "table", (at) => `scales[${at}]`, "weightAt")}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let quad = place.x;
  let token = place.y;
  if (token == 0u && quad < shape.turnQuads) {
    stream[shape.turnAt + quad] = angles[call[grid.first + 1u] * shape.turnQuads + quad];
  }
  if (quad >= shape.quads || token >= grid.count) { return; }
  let id = call[grid.first + token * 4u];
  if (id < shape.firstRow || id - shape.firstRow >= shape.rows) { return; }
  stream[(grid.base + token) * shape.stride + quad] = weightAt(id - shape.firstRow, quad, shape.quads);
}
`,
  };
}
