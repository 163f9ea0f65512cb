// experts: the routed half of the Cross Domain Mixture of Experts: product-key choice among one-neuron experts.
//
//   choose  one team for a token: the best pairs of keys and the softmax of their scores
//   down    one team for a token and one of its experts: how strongly it answers
//   up      one thread for a token and four numbers: what the experts add to the stream
//
// Source: He, Mixture of a Million Experts (product keys over single-neuron experts); transformers `DogeCDMoE`.

import type { Variant } from "../variant.ts";
import { decode, type Format } from "./formats.ts";
import { entry, header, type Kernel, PRELUDE, shared, team } from "./kernel.ts";
import { SWIGLU } from "./swiglu.ts";

const SHAPE = /* wgsl */ `
struct Shape {
  side: u32, perToken: u32, grid: u32, normalize: u32, routerStride: u32,
  hidden: u32, quads: u32, stride: u32, normAt: u32, epsilon: f32, firstRow: u32, rows: u32,
}
`;

/** Threads of a team. */
const SIZE = 64;
/** Bytes of workgroup memory that every device has. */
const MEMORY = 16_384;

/** Whether the choice among so many experts fits into the memory that a team shares. */
export const fitsChoice = ({ side, perToken }: { readonly side: number; readonly perToken: number }): boolean =>
  4 * (2 * side + 4 * perToken + 2 * SIZE + 32) <= MEMORY;

/**
 * The pair of keys (i, j) scores x[i] + y[j] and is expert i · side + j; of equal scores the lowest id goes first. Under "grid"
 * indexing an id is a place in the grid of both halves sorted, descending.
 *
 * The k best of all pairs are found without sorting them: the k-th score by its ordered bits, four at a time, from counts of the
 * pairs that share the bits found so far; should more pairs have that score than there are places, the last id likewise. Then
 * those at or before the cut are collected and each counts who stands before it. Only sums of both halves are compared: one
 * half's best by themselves would not do, since a sum may round to the same number as that of a greater half.
 */
export const choose = (variant: Variant, side: number, perToken: number): Kernel => ({
  name: `experts choose ${perToken} of ${side}`,
  bindings: ["read", "write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${header(variant)}${PRELUDE}${team(variant, SIZE)}${SHAPE}
@group(0) @binding(0) var<storage, read> router: array<f32>; // (tokens, 2 side)
@group(0) @binding(1) var<storage, read_write> chosen: array<vec2u>; // (tokens, perToken): id, weight's bits
@group(0) @binding(2) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
const SIDE: u32 = ${side}u;
const PAIRS: u32 = SIDE * SIDE;
const CHOSEN: u32 = ${perToken}u;
var<${shared(variant)}> halves: array<f32, ${2 * side}>;
var<${shared(variant)}> counts: array<${variant.serial ? "u32" : "atomic<u32>"}, 16>;
var<${shared(variant)}> taken: ${variant.serial ? "u32" : "atomic<u32>"};
var<${shared(variant)}> keys: array<u32, CHOSEN>;
var<${shared(variant)}> ids: array<u32, CHOSEN>;
var<${shared(variant)}> ranked: array<vec2u, CHOSEN>;
/** Bits that order as the numbers do; -0 and 0 are one number. */
fn ordered(score: f32) -> u32 {
  let bits = bitcast<u32>(score);
  if (bits == 0x80000000u) { return bits; }
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
fn score(id: u32) -> f32 { return halves[id / SIDE] + halves[SIDE + id % SIDE]; }
/** Four bits more of what \`wanted\` pairs have or exceed: bits of the key, or, among pairs of \`key\`, of the id counted
 *  from the last. Gives them, and how many pairs exceed them. */
fn narrowed(prefix: u32, shift: u32, wanted: u32, byId: bool, key: u32, lane: u32) -> vec2u {
  var own = array<u32, 16>();
  for (var id = lane; id < PAIRS; id += TEAM) {
    var bits = ordered(score(id));
    if (byId) {
      if (bits != key) { continue; }
      bits = PAIRS - 1u - id;
    }
    if (shift < 28u && (bits >> (shift + 4u)) != prefix) { continue; }
    own[(bits >> shift) & 15u]++;
  }
  ${
    variant.serial
      ? "counts = own;"
      : /* wgsl */ `if (lane < 16u) { atomicStore(&counts[lane], 0u); }
  workgroupBarrier();
  for (var b = 0u; b < 16u; b++) { if (own[b] > 0u) { atomicAdd(&counts[b], own[b]); } }
  workgroupBarrier();`
  }
  var above = 0u;
  var found = 0u;
  for (var b = 15i; b >= 0i; b--) {
    let here = ${variant.serial ? "counts[b]" : "atomicLoad(&counts[b])"};
    found = u32(b);
    if (above + here >= wanted) { break; }
    above += here;
  }
  meet();
  return vec2u((prefix << 4u) | found, above);
}
${entry(variant, SIZE)}
  if (unit >= grid.count || call[grid.first + unit * 4u] == IDLE) { return; }
  // Seen as flat rows of \`side\` scores, a token's own halves are rows 2t and 2t + 1; routed together, t and t + R.
  var x = (grid.base + unit) * 2u * SIDE;
  var y = x + SIDE;
  if (grid.span > 0u) {
    x = (grid.base + unit) * SIDE;
    y = x + grid.span * SIDE;
  }
  for (var i = lane; i < 2u * SIDE; i += TEAM) {
    let start = select(x, y, i >= SIDE);
    let value = router[start + i % SIDE];
    var place = i;
    if (shape.grid != 0u) {
      place = i - i % SIDE;
      for (var other = 0u; other < SIDE; other++) {
        let its = router[start + other];
        if (its > value || (its == value && other < i % SIDE)) { place++; }
      }
    }
    halves[place] = value;
  }
  ${variant.serial ? "taken = 0u;" : "if (lane == 0u) { atomicStore(&taken, 0u); }"}
  meet();
  var cut = 0u;
  var wanted = CHOSEN;
  for (var shift = 28i; shift >= 0i; shift -= 4i) {
    let found = narrowed(cut, u32(shift), wanted, false, 0u, lane);
    cut = found.x;
    wanted -= found.y;
  }
  // Counted from the last pair, an id grows as it falls: the \`wanted\` lowest of those at the cut have or exceed this one.
  var last = 0u;
  for (var shift = ${4 * (Math.ceil(Math.log2(Math.max(2, side * side)) / 4) - 1)}i; shift >= 0i; shift -= 4i) {
    let found = narrowed(last, u32(shift), wanted, true, cut, lane);
    last = found.x;
    wanted -= found.y;
  }
  for (var id = lane; id < PAIRS; id += TEAM) {
    let key = ordered(score(id));
    if (key < cut || (key == cut && PAIRS - 1u - id < last)) { continue; }
    let place = ${variant.serial ? "taken;\n    taken++" : "atomicAdd(&taken, 1u)"};
    if (place < CHOSEN) {
      keys[place] = key;
      ids[place] = id;
    }
  }
  meet();
  for (var i = lane; i < CHOSEN; i += TEAM) {
    var rank = 0u;
    for (var other = 0u; other < CHOSEN; other++) {
      if (keys[other] > keys[i] || (keys[other] == keys[i] && ids[other] < ids[i])) { rank++; }
    }
    ranked[rank] = vec2u(ids[i], bitcast<u32>(score(ids[i])));
  }
  meet();
  // The softmax in the order of rank, by one thread: the same sum in every form.
  if (lane != 0u) { return; }
  let out = (grid.base + unit) * CHOSEN;
  let highest = bitcast<f32>(ranked[0].y);
  var total = 0.0;
  for (var rank = 0u; rank < CHOSEN; rank++) {
    let weight = exp(bitcast<f32>(ranked[rank].y) - highest);
    total += weight;
    ranked[rank].y = bitcast<u32>(weight);
  }
  var again = 0.0;
  for (var rank = 0u; rank < CHOSEN; rank++) { again += bitcast<f32>(ranked[rank].y) / total; }
  if (shape.normalize == 0u) { again = 1.0; }
  for (var rank = 0u; rank < CHOSEN; rank++) {
    chosen[out + rank] = vec2u(ranked[rank].x, bitcast<u32>(bitcast<f32>(ranked[rank].y) / total / again));
  }
}
`,
});

/** chosen[t, r].weight *= silu(down[e] · norm(x[t])) for the experts whose rows this part holds; others are left
 *  to the other parts of the table. */
export const down = (variant: Variant, format: Format): Kernel => ({
  name: `experts down ${format.name}`,
  bindings: ["read", "read", "write", "uniform", "read", ...(format.scaled ? (["read"] as const) : [])],
  call: ["read"],
  code: /* wgsl */ `${header(variant)}${PRELUDE}${team(variant, SIZE)}${SHAPE}${SWIGLU}
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> table: array<${format.type}>;
@group(0) @binding(2) var<storage, read_write> chosen: array<vec2u>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(0) @binding(4) var<storage, read> vectors: array<vec4f>;
${format.scaled ? "@group(0) @binding(5) var<storage, read> scales: array<f32>;" : ""}
@group(1) @binding(1) var<storage, read> call: array<u32>;
${decode(format, "table", (at) => `scales[${at}]`, "weightAt")}
${entry(variant, SIZE)}
  let token = place.y;
  if (unit >= shape.perToken || call[grid.first + token * 4u] == IDLE) { return; }
  let at = (grid.base + token) * shape.perToken + unit;
  let pair = chosen[at];
  let here = pair.x >= shape.firstRow && pair.x - shape.firstRow < shape.rows;
  // A team does not stop at a question of the data: it reads any row, and then does not write.
  let row = select(0u, pair.x - shape.firstRow, here);
  let start = (grid.base + token) * (shape.stride >> 2u);
  var sum = vec4f();
  var squares = vec4f();
  for (var quad = lane; quad < shape.quads; quad += TEAM) {
    let h = x[start + quad];
    squares = fma(h, h, squares);
    sum = fma(weightAt(row, quad, shape.quads), h * vectors[(shape.normAt >> 2u) + quad], sum);
  }
  let square = sumOf((squares.x + squares.y) + (squares.z + squares.w), lane);
  let dot = sumOf((sum.x + sum.y) + (sum.z + sum.w), lane) * inverseSqrt(square / f32(shape.hidden) + shape.epsilon);
  if (lane == 0u && here) { chosen[at] = vec2u(pair.x, bitcast<u32>(silu(dot) * bitcast<f32>(pair.y))); }
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
${decode(format, "table", (at) => `scales[${at}]`, "weightAt")}
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
