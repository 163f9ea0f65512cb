// slices: the first half of a single text's step through a layer, in one dispatch: queries, keys and values with the norm in front of
// them, and attention over the keys before the token, dealt to several teams.
//
// One token alone would leave a GPU idle, and wait at the end of every dispatch. So the keys before the token are dealt out in chunks of
// 64 slots to a few teams for each head, and each team computes its head's query for itself: the same weights are read several times, from
// the device's cache, and no dispatch stands between. Keys, values and weights are all asked for before anything is waited for. The stream
// may come in addends (mlp.ts), which each team adds up for itself. More teams compute the token's own keys and values, and keep them. Its
// bias needs the values of all heads, so the own key is scored where all that the teams found becomes one (merge.ts), in the workgroups of
// the attention's output.
//
// For models whose window drops nothing: there a prompt and its steps must sum in one order (docs/contract.md).
//
// Source: Dao et al., Flash-Decoding for long-context inference (2023); transformers `DogeAttention` (eager).
import type { Variant } from "../variant.ts";
import type { Format } from "./formats.ts";
import { CACHED } from "./keep.ts";
import { entry, header, type Kernel, PRELUDE, team } from "./kernel.ts";
import { META, PAGE, SIZE } from "./page.ts";
import { project, STREAM } from "./project.ts";
import { ROPE } from "./rope.ts";

/** Slots that a team reads at a time. */
const SLOTS = 64;
/** Addends of the stream that a lane asks for at a time. */
const AT_ONCE = 8;

export interface SlicesKind {
  readonly format: Format;
  /** Numbers of a head, at most: @see widestOf */
  readonly widest: number;
  /** Keys and values are f16. */
  readonly half: boolean;
  /** @see slicesOf */
  readonly count: number;
}

export function slices(variant: Variant, { format, widest, half, count }: SlicesKind): Kernel {
  const packed = variant.packed && format.scaled;
  const vector = half ? "vec4h" : "vec4f";
  const columns = widest / 4;
  const lanesPerSlot = SIZE / SLOTS;
  const quadsEach = columns / lanesPerSlot;
  const groups = SIZE / columns;
  const slotsEach = SLOTS / groups;
  const each = (length: number, statement: (index: number) => string) =>
    Array.from({ length }, (_, index) => statement(index)).join("\n    ");
  const keyQuads = (statement: (quad: number) => string) => each(quadsEach, statement);
  const valueSlots = (statement: (slot: number) => string) => each(slotsEach, statement);
  /** Keys, values and biases of a chunk; beyond the table's end its last page is read, and not looked at. */
  const loadChunk = /* wgsl */ `{
    let page = call[grid.list + min(start + mine, grid.listed - 1u) / PAGE];
    let valuePage = call[grid.list + min(start + firstSlot, grid.listed - 1u) / PAGE];
    let keyAt = (page * shape.kvHeads + kv) * quads * PAGE + mine % PAGE;
    let valueAt = ((valuePage * shape.kvHeads + kv) * PAGE + firstSlot % PAGE) * quads + safeColumn;
    bias = bitcast<f32>(meta_[biasAt(mine, page, biasHead)]);
    ${keyQuads((quad) => `k${quad} = vec4f(keys[keyAt + min(firstQuad + ${quad}u, quads - 1u) * PAGE]);`)}
    ${valueSlots((slot) => `v${slot} = vec4f(values[valueAt + ${slot}u * quads]);`)}
  }`;
  const projection = project(format, packed, "shape.headDim");
  return {
    name: `slices ${format.name}${packed ? " packed" : ""} ${widest}${half ? " f16" : ""} ${count}`,
    bindings: ["read", "read", "write", "uniform", "read", "write", "write", "read"],
    call: ["read"],
    code: /* wgsl */ `${half ? "enable f16;\n" : ""}${header(variant)}${packed ? "requires packed_4x8_integer_dot_product;\n" : ""}${PRELUDE}${team(variant, SIZE)}
struct Shape {
  inner: u32, quads: u32, heads: u32, kvHeads: u32, headDim: u32, biasHeads: u32, normed: u32, biased: u32,
  normAt: u32, biasAt: u32, queryNormAt: u32, keyNormAt: u32, leftAt: u32, epsilon: f32, scalesAt: u32, turnAt: u32,
  streamAt: u32, addends: u32, stride: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> weights: array<${packed ? "vec4u" : format.type}>;
@group(0) @binding(2) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(0) @binding(4) var<storage, read> vectors: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> keys: array<${vector}>;
@group(0) @binding(6) var<storage, read_write> values: array<${vector}>;
@group(0) @binding(7) var<storage, read> meta_: array<u32>;
@group(1) @binding(1) var<storage, read> call: array<u32>;
const PAGE: u32 = ${PAGE}u;
const SLICES: u32 = ${count}u;
const SLOTS: u32 = ${SLOTS}u;
const COLUMNS: u32 = ${columns}u;
fn vector(at: u32) -> f32 { return vectors[at >> 2u][at & 3u]; }
${META}${CACHED(half)}${STREAM}${projection.declared}
${ROPE({ head: (at) => `head[${at}]`, angle: (at) => `x[(${at}) >> 2u][(${at}) & 3u]`, vector: (at) => `vector(${at})` })}
/** The team's head as it is multiplied, and as a query: the space behind that is 0. */
var<workgroup> head: array<f32, ${widest}>;
var<workgroup> query: array<vec4f, ${columns}>;
var<workgroup> weightsOfSlots: array<f32, ${SLOTS}>;
/** The head's row of the matrix. */
var<private> firstRow: u32;
fn rowOf(output: u32) -> u32 { return firstRow + min(output, shape.headDim - 1u); }
fn biasOf(output: u32) -> f32 { return select(0.0, vector(shape.biasAt + rowOf(output)), shape.biased != 0u); }
fn keep(output: u32, value: f32) { head[output] = value; }
${entry(variant, SIZE)}
  let D = shape.headDim;
  let quads = D >> 2u;
  let position = call[grid.first + 1u];
  let idle = call[grid.first] == IDLE;
  // Teams of slices first. Of the others each has one of the token's own keys or values.
  let slicing = shape.heads * SLICES;
  let own = unit >= slicing;
  let slice = unit % SLICES;
  let queryHead = min(unit, slicing - 1u) / SLICES;
  let part = max(unit, slicing) - slicing;
  let ofValue = (part & 1u) != 0u;
  let kv = select(queryHead / (shape.heads / shape.kvHeads), part >> 1u, own);
  firstRow = select(queryHead, shape.heads + (part & 1u) * shape.kvHeads + kv, own) * D;
  let leftAt = shape.leftAt + (queryHead * SLICES + slice) * (quads + 1u);
  if (!own && slice > 0u && slice * SLOTS >= grid.listed) {
    // No key can stand here: nothing is found, and that is a number too.
    if (lane <= quads) { qkv[leftAt + lane] = vec4f(select(0.0, -3.4e38, lane == quads), 0.0, 0.0, 0.0); }
    return;
  }

  // All that the team needs is asked for before anything is waited for. Of scores: which slot of a chunk, and which part of its key. Of
  // values: which column, of which slots.
  let mine = lane % SLOTS;
  let share = lane / SLOTS;
  let firstQuad = share * ${quadsEach}u;
  let biasHead = queryHead / (shape.heads / shape.biasHeads);
  let valueColumn = lane % COLUMNS;
  let safeColumn = min(valueColumn, quads - 1u);
  let firstSlot = lane / COLUMNS * ${slotsEach}u;
  ${keyQuads((quad) => `var k${quad}: vec4f;`)}
  ${valueSlots((slot) => `var v${slot}: vec4f;`)}
  var bias: f32;
  var start = slice * SLOTS;
  if (!own) ${loadChunk}
  let page = call[grid.list + min(position, grid.listed - 1u) / PAGE];
  let angles = anglesOf(shape.turnAt, safeColumn);
  ${projection.ask}
  for (var quad = lane; quad < shape.quads; quad += TEAM) {
    var its = vec4f();
    for (var first = 0u; first < shape.addends; first += ${AT_ONCE}u) {
      ${each(AT_ONCE, (i) => `let a${i} = x[shape.streamAt + min(first + ${i}u, shape.addends - 1u) * shape.stride + quad];`)}
      ${each(AT_ONCE, (i) => `its += select(vec4f(), a${i}, first + ${i}u < shape.addends);`)}
    }
    stream[quad] = its;
  }
  gather();
  ${projection.multiply}
  var headScale = 1.0;
  if (shape.normed != 0u) {
    let its = select(0.0, head[min(lane, D - 1u)], lane < D);
    headScale = inverseSqrt(sumOf(its * its, lane) / f32(D) + shape.epsilon);
  }
  if (lane < COLUMNS) {
    let at = firstRow / 4u + lane;
    if (lane >= quads) {
      query[lane] = vec4f();
    } else if (!own) {
      let its = turned(0u, lane, shape.queryNormAt, headScale, angles) * inverseSqrt(f32(D));
      query[lane] = its;
      if (slice == 0u) { qkv[at] = its; }
    } else if (ofValue) {
      let value = vec4f(${[0, 1, 2, 3].map((c) => `head[lane * 4u + ${c}u]`).join(", ")});
      qkv[at] = value;
      if (!idle) { values[((page * shape.kvHeads + kv) * PAGE + position % PAGE) * quads + lane] = cached(value); }
    } else {
      let key = cached(turned(0u, lane, shape.keyNormAt, headScale, angles));
      qkv[at] = vec4f(key);
      if (!idle) { keys[((page * shape.kvHeads + kv) * quads + lane) * PAGE + position % PAGE] = key; }
    }
  }
  if (own) { return; }
  gather();

  var highest = -3.4e38;
  var total = 0.0;
  var sum = vec4f();
  loop {
    var dots = vec4f();
    ${keyQuads((quad) => `dots = fma(query[firstQuad + ${quad}u], k${quad}, dots);`)}
    scratch[lane] = (dots.x + dots.y) + (dots.z + dots.w);
    gather();
    var score = -3.4e38;
    if (share == 0u && start + mine < position) {
      score = ${Array.from({ length: lanesPerSlot }, (_, from) => `scratch[${from * SLOTS}u + mine]`).join(" + ")} + bias;
    }
    let before = highest;
    highest = max(highest, largestOf(score, lane));
    let weight = select(0.0, exp(score - highest), score > -3.3e38);
    if (share == 0u) { weightsOfSlots[mine] = weight; }
    let shrink = exp(before - highest);
    total = fma(total, shrink, sumOf(weight, lane));
    sum *= shrink;
    gather();
    ${valueSlots(
      // What is not seen may be anything.
      (slot) => `let p${slot} = weightsOfSlots[firstSlot + ${slot}u];
    sum = fma(vec4f(p${slot}), select(vec4f(), v${slot}, p${slot} != 0.0), sum);`,
    )}
    start += SLICES * SLOTS;
    if (start >= position) { break; }
    ${loadChunk}
    gather();
  }
  // The groups of lanes, in four planes.
  ${each(4, (c) => `scratch[${c * SIZE}u + lane] = sum[${c}];`)}
  gather();
  if (lane < quads) {
    var all = vec4f();
    for (var group = 0u; group < ${groups}u; group++) {
      let at = group * COLUMNS + lane;
      all += vec4f(scratch[at], scratch[${SIZE}u + at], scratch[${2 * SIZE}u + at], scratch[${3 * SIZE}u + at]);
    }
    qkv[leftAt + lane] = all;
  }
  if (lane == 0u) { qkv[leftAt + quads] = vec4f(highest, total, 0.0, 0.0); }
}
`,
  };
}
