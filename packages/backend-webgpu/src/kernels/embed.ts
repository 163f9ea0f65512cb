// embed: each token's row of the embedding table starts the residual stream. No scaling.

import type { Format } from "./formats.ts";
import { decode } from "./formats.ts";
import { type Kernel, PRELUDE } from "./kernel.ts";

/** stream[t] = table[ids[t]], for the ids whose rows this part of the table holds. One thread for four numbers. */
export function embed(format: Format): Kernel {
  return {
    name: `embed ${format.name}`,
    bindings: ["write", "read", ...(format.scaled ? (["read"] as const) : []), "uniform"],
    call: ["read"],
    code: /* wgsl */ `${PRELUDE}
struct Shape { quads: u32, stride: u32, firstRow: u32, rows: u32 }
@group(0) @binding(0) var<storage, read_write> stream: array<vec4f>;
@group(0) @binding(1) var<storage, read> table: array<${format.type}>;
${format.scaled ? "@group(0) @binding(2) var<storage, read> scales: array<f32>;" : ""}
@group(0) @binding(${format.scaled ? 3 : 2}) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
${decode(format, "table", "scales", "weightAt")}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let quad = place.x;
  let token = place.y;
  if (quad >= shape.quads || token >= grid.count) { return; }
  let id = call[grid.first + token * 4u];
  if (id < shape.firstRow || id - shape.firstRow >= shape.rows) { return; }
  stream[(grid.base + token) * shape.stride + quad] = weightAt(id - shape.firstRow, quad, shape.quads);
}
`,
  };
}
