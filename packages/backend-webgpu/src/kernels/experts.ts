// experts: the routed half of the Cross Domain Mixture of Experts: product-key choice among one-neuron experts.
//
//   choose  one thread for a token: the best pairs of keys and the softmax of their scores
//   down    one thread for a token and one of its experts: how strongly it answers
//   up      one thread for a token and four numbers: what the experts add to the stream
//
// Source: He, Mixture of a Million Experts (product keys over single-neuron experts); transformers `DogeCDMoE`.
import { decode, type Format } from "./formats.ts";
import { type Kernel, PRELUDE } from "./kernel.ts";
import { SWIGLU } from "./swiglu.ts";

const SHAPE = /* wgsl */ `
struct Shape {
  side: u32, perToken: u32, grid: u32, normalize: u32, routerStride: u32,
  hidden: u32, quads: u32, stride: u32, normAt: u32, epsilon: f32, firstRow: u32, rows: u32,
}
`;

/**
 * The pair of keys (i, j) scores x[i] + y[j] and is expert i · side + j; of equal ones the lowest id goes first. Under "grid"
 * indexing both halves are sorted before, descending. The best pairs are found one after the other: each is the greatest, in
 * (score, id) order, of those after the one before; with ranks from 1 only pairs with rank · rank <= perToken could win, but no
 * order of the halves is needed this way.
 */
export const choose: Kernel = {
  name: "experts choose",
  bindings: ["write", "write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}${SHAPE}
@group(0) @binding(0) var<storage, read_write> router: array<f32>; // (tokens, 2 side), under "grid" sorted in place
@group(0) @binding(1) var<storage, read_write> chosen: array<vec2u>; // (tokens, perToken): id, weight's bits
@group(0) @binding(2) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let token = place.x;
  if (token >= grid.count || call[grid.first + token * 4u] == IDLE) { return; }
  // Seen as flat rows of \`side\` scores, a token's own halves are rows 2t and 2t + 1; routed together, t and t + R.
  var x = (grid.base + token) * 2u * shape.side;
  var y = x + shape.side;
  if (grid.span > 0u) {
    x = (grid.base + token) * shape.side;
    y = x + grid.span * shape.side;
  }
  let out = (grid.base + token) * shape.perToken;
  var before = 3.4e38;
  var beforeId = 0u;
  var highest = 0.0;
  var total = 0.0;
  for (var rank = 0u; rank < shape.perToken; rank++) {
    var best = -3.4e38;
    var bestId = 0u;
    var found = false;
    for (var i = 0u; i < shape.side; i++) {
      let first = router[x + i];
      for (var j = 0u; j < shape.side; j++) {
        let score = first + router[y + j];
        let id = i * shape.side + j;
        let after = rank == 0u || score < before || (score == before && id > beforeId);
        if (after && (!found || score > best)) {
          best = score;
          bestId = id;
          found = true;
        }
      }
    }
    if (rank == 0u) { highest = best; }
    before = best;
    beforeId = bestId;
    let weight = exp(best - highest);
    total += weight;
    chosen[out + rank] = vec2u(bestId, bitcast<u32>(weight));
  }
  var again = 0.0;
  for (var rank = 0u; rank < shape.perToken; rank++) { again += bitcast<f32>(chosen[out + rank].y) / total; }
  if (shape.normalize == 0u) { again = 1.0; }
  for (var rank = 0u; rank < shape.perToken; rank++) {
    let pair = chosen[out + rank];
    chosen[out + rank] = vec2u(pair.x, bitcast<u32>(bitcast<f32>(pair.y) / total / again));
  }
}
`,
};

/** Under "grid" indexing an id is a place in the grid of both halves sorted: sorts them, descending, one thread for a half. */
export const sort: Kernel = {
  name: "experts sort",
  bindings: ["write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}${SHAPE}
@group(0) @binding(0) var<storage, read_write> router: array<f32>;
@group(0) @binding(1) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) place: vec3u) {
  if (place.x >= grid.count * 2u || call[grid.first + place.x / 2u * 4u] == IDLE) { return; }
  let start = (grid.base * 2u + place.x) * shape.side;
  for (var i = 1u; i < shape.side; i++) {
    let value = router[start + i];
    var to = i;
    while (to > 0u && router[start + to - 1u] < value) {
      router[start + to] = router[start + to - 1u];
      to--;
    }
    router[start + to] = value;
  }
}
`,
};

/** chosen[t, r].weight *= silu(down[e] · norm(x[t])) for the experts whose rows this part holds; others are left. Bit 31 of the
 *  id marks those done, so that parts of the table may follow each other. */
export const down = (format: Format): Kernel => ({
  name: `experts down ${format.name}`,
  bindings: ["read", "read", "write", "uniform", "read", ...(format.scaled ? (["read"] as const) : [])],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}${SHAPE}${SWIGLU}
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> table: array<${format.type}>;
@group(0) @binding(2) var<storage, read_write> chosen: array<vec2u>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
${format.scaled ? "@group(0) @binding(5) var<storage, read> scales: array<f32>;" : ""}
@group(1) @binding(1) var<storage, read> call: array<u32>;
${decode(format, "table", "scales", "weightAt")}
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let token = place.y;
  if (place.x >= shape.perToken || call[grid.first + token * 4u] == IDLE) { return; }
  let at = (grid.base + token) * shape.perToken + place.x;
  let pair = chosen[at];
  if (pair.x < shape.firstRow || pair.x - shape.firstRow >= shape.rows) { return; }
  let start = (grid.base + token) * (shape.stride >> 2u);
  var sum = vec4f();
  var squares = vec4f();
  for (var quad = 0u; quad < shape.quads; quad++) {
    let h = x[start + quad];
    squares = fma(h, h, squares);
    let n4 = shape.normAt + quad * 4u;
    let n = vec4f(vectors[n4], vectors[n4 + 1u], vectors[n4 + 2u], vectors[n4 + 3u]);
    sum = fma(weightAt(pair.x - shape.firstRow, quad, shape.quads), h * n, sum);
  }
  let scale = inverseSqrt(((squares.x + squares.y) + (squares.z + squares.w)) / f32(shape.hidden) + shape.epsilon);
  let dot = ((sum.x + sum.y) + (sum.z + sum.w)) * scale;
  chosen[at] = vec2u(pair.x, bitcast<u32>(silu(dot) * bitcast<f32>(pair.y)));
}
`,
});

/** stream[t] += Σ_r strength · up[e], in the order of rank, for the experts whose rows this part holds. */
export const up = (format: Format): Kernel => ({
  name: `experts up ${format.name}`,
  bindings: ["write", "read", "read", "uniform", ...(format.scaled ? (["read"] as const) : [])],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}${SHAPE}
@group(0) @binding(0) var<storage, read_write> stream: array<vec4f>;
@group(0) @binding(1) var<storage, read> table: array<${format.type}>;
@group(0) @binding(2) var<storage, read> chosen: array<vec2u>;
@group(0) @binding(3) var<uniform> shape: Shape;
${format.scaled ? "@group(0) @binding(4) var<storage, read> scales: array<f32>;" : ""}
@group(1) @binding(1) var<storage, read> call: array<u32>;
${decode(format, "table", "scales", "weightAt")}
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let token = place.y;
  if (place.x >= shape.quads || call[grid.first + token * 4u] == IDLE) { return; }
  var sum = vec4f();
  for (var rank = 0u; rank < shape.perToken; rank++) {
    let pair = chosen[(grid.base + token) * shape.perToken + rank];
    if (pair.x < shape.firstRow || pair.x - shape.firstRow >= shape.rows) { continue; }
    sum = fma(vec4f(bitcast<f32>(pair.y)), weightAt(pair.x - shape.firstRow, place.x, shape.quads), sum);
  }
  stream[(grid.base + token) * (shape.stride >> 2u) + place.x] += sum;
}
`,
});
