// slices: the first half of a single text's step through a layer, in one dispatch: queries, keys and values with the norm in front of
// them, and attention over the keys before the token, dealt to several teams.
//
// One token alone would leave a GPU idle, and wait at the end of every dispatch. So the keys before the token are dealt out in chunks of
// 64 slots to a few teams for each pair of heads, and each team computes the queries of its pair for itself: the same weights are read
// several times, from the device's cache, and no dispatch stands between. Keys, values and weights are all asked for before anything is
// waited for. More teams compute the token's own key and value, and keep them. Its bias needs the values of all heads, so the own key is
// scored where all that the teams found becomes one (merge.ts), in the workgroups of the attention's output.
//
// For models whose window drops nothing: there a prompt and its steps must sum in one order (docs/contract.md).
//
// Source: Dao et al., Flash-Decoding for long-context inference (2023); transformers `DogeAttention` (eager).
import type { Variant } from "../variant.ts";
import type { Format } from "./formats.ts";
import { CACHED } from "./keep.ts";
import { entry, header, type Kernel, PRELUDE, team } from "./kernel.ts";
import { META, PAGE, SIZE } from "./page.ts";
import { project } from "./project.ts";
import { ROPE } from "./rope.ts";

/** Slots that a team reads at a time. */
const SLOTS = 64;

export interface SlicesKind {
  readonly format: Format;
  /** Numbers of a head, at most: @see widestOf */
  readonly widest: number;
  /** Keys and values are f16. */
  readonly half: boolean;
  /** @see headsTogether */
  readonly together: 1 | 2;
  /** @see slicesOf */
  readonly count: number;
}

export function slices(variant: Variant, { format, widest, half, together, count }: SlicesKind): Kernel {
  const packed = variant.packed && format.scaled;
  const type = packed ? "vec4u" : format.type;
  const vector = half ? "vec4h" : "vec4f";
  const columns = widest / 4;
  const lanesPerSlot = SIZE / SLOTS;
  const quadsEach = columns / lanesPerSlot;
  const groups = SIZE / columns;
  const slotsEach = SLOTS / groups;
  const turns = (length: number, statement: (turn: number) => string) =>
    Array.from({ length }, (_, turn) => statement(turn)).join("\n    ");
  const each = (statement: (head: number) => string) => turns(together, statement);

  /** Keys, values and biases of a chunk; beyond the table's end its last page is read, and not looked at. */
  const loadChunk = /* wgsl */ `{
    let page = call[grid.list + min(start + mine, grid.listed - 1u) / PAGE];
    let valuePage = call[grid.list + min(start + firstSlot, grid.listed - 1u) / PAGE];
    let keyAt = (page * shape.kvHeads + kv) * quads * PAGE + mine % PAGE;
    let valueAt = ((valuePage * shape.kvHeads + kv) * PAGE + firstSlot % PAGE) * quads + safeColumn;
    bias = bitcast<f32>(meta_[biasAt(mine, page, biasHead)]);
    ${turns(quadsEach, (turn) => `k${turn} = vec4f(keys[keyAt + min(firstQuad + ${turn}u, quads - 1u) * PAGE]);`)}
    ${turns(slotsEach, (turn) => `v${turn} = vec4f(values[valueAt + ${turn}u * quads]);`)}
  }`;
  const heads = project(format, packed, "TOGETHER * shape.headDim");

  return {
    name: `slices ${format.name}${packed ? " packed" : ""} ${widest}${half ? " f16" : ""}${together === 1 ? "" : " pairs"} ${count}`,
    bindings: ["read", "read", "write", "uniform", "read", "write", "write", "read"],
    call: ["read"],
    code: /* wgsl */ `${half ? "enable f16;\n" : ""}${header(variant)}${packed ? "requires packed_4x8_integer_dot_product;\n" : ""}${PRELUDE}${team(variant, SIZE)}
struct Shape {
  inner: u32, quads: u32, heads: u32, kvHeads: u32, headDim: u32, biasHeads: u32, normed: u32, biased: u32,
  normAt: u32, biasAt: u32, queryNormAt: u32, keyNormAt: u32, leftAt: u32, epsilon: f32, scalesAt: u32, turnAt: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> weights: array<${type}>;
@group(0) @binding(2) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(0) @binding(4) var<storage, read> vectors: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> keys: array<${vector}>;
@group(0) @binding(6) var<storage, read_write> values: array<${vector}>;
@group(0) @binding(7) var<storage, read> meta_: array<u32>;
@group(1) @binding(1) var<storage, read> call: array<u32>;
const PAGE: u32 = ${PAGE}u;
const TOGETHER: u32 = ${together}u;
const SLICES: u32 = ${count}u;
const SLOTS: u32 = ${SLOTS}u;
const COLUMNS: u32 = ${columns}u;
${META}${CACHED(half)}${heads.declared}
${ROPE({ head: (at) => `raw[${at}]`, angle: (at) => `x[(${at}) >> 2u][(${at}) & 3u]`, vector: (at) => `vector(${at})` })}
fn vector(at: u32) -> f32 { return vectors[at >> 2u][at & 3u]; }
/** The team's heads as they are multiplied, and as queries: the space behind one of these is 0. */
var<workgroup> raw: array<f32, ${together * widest}>;
var<workgroup> query: array<vec4f, ${together * columns}>;
var<workgroup> weightsOfSlots: array<f32, ${together * SLOTS}>;
/** The row of the team's matrix that its first head begins at, and how much farther its second head stands than behind the first. */
var<private> firstRow: u32;
var<private> jump: u32;
fn rowOf(output: u32) -> u32 {
  let safe = min(output, TOGETHER * shape.headDim - 1u);
  return firstRow + safe + select(0u, jump, safe >= shape.headDim);
}
fn leftAt(head: u32, slice: u32) -> u32 { return shape.leftAt + (head * SLICES + slice) * ((shape.headDim >> 2u) + 1u); }
fn keep(output: u32, value: f32) { raw[output + select(0u, ${widest}u - shape.headDim, output >= shape.headDim)] = value; }
${entry(variant, SIZE)}
  let D = shape.headDim;
  let quads = D >> 2u;
  let position = call[grid.first + 1u];
  let idle = call[grid.first] == IDLE;
  // Teams of slices first. The others take the token's own keys and values by turns: those of one head, then of the next.
  let slicing = shape.heads / TOGETHER * SLICES;
  let own = unit >= slicing;
  let head = min(unit, slicing - 1u) / SLICES * TOGETHER;
  let slice = unit % SLICES;
  let part = (max(unit, slicing) - slicing) * TOGETHER;
  let kv = select(head / (shape.heads / shape.kvHeads), part >> 1u, own);
  firstRow = select(head, shape.heads + (part & 1u) * shape.kvHeads + kv, own) * D;
  jump = select(0u, (shape.kvHeads - 1u) * D, own);
  if (!own && slice > 0u && slice * SLOTS >= grid.listed) {
    // No key can stand here. Nothing is found, and that is no number either.
    ${each((which) => `if (lane <= quads) { qkv[leftAt(head + ${which}u, slice) + lane] = vec4f(select(0.0, -3.4e38, lane == quads), 0.0, 0.0, 0.0); }`)}
    return;
  }

  // All that the team needs is asked for before anything is waited for. Of scores: which slot of a chunk, which part of its key, and of
  // whose bias. Of values: which column, of which slots.
  let mine = lane % SLOTS;
  let share = lane / SLOTS;
  let firstQuad = share * ${quadsEach}u;
  let biasHead = (head + min(share, TOGETHER - 1u)) / (shape.heads / shape.biasHeads);
  let valueColumn = lane % COLUMNS;
  let safeColumn = min(valueColumn, quads - 1u);
  let firstSlot = lane / COLUMNS * ${slotsEach}u;
  ${turns(quadsEach, (turn) => `var k${turn}: vec4f;`)}
  ${turns(slotsEach, (turn) => `var v${turn}: vec4f;`)}
  var bias: f32;
  var start = slice * SLOTS;
  if (!own) ${loadChunk}
  let page = call[grid.list + min(position, grid.listed - 1u) / PAGE];
  let which = min(lane / COLUMNS, TOGETHER - 1u);
  let angles = anglesOf(shape.turnAt, safeColumn);
  ${heads.ask}
  ${heads.multiply}
  var scale0 = 1.0;
  var scale1 = 1.0;
  if (shape.normed != 0u) {
    ${each((which) => `let n${which} = select(0.0, raw[${which * widest}u + min(lane, D - 1u)], lane < D); scale${which} = inverseSqrt(sumOf(n${which} * n${which}, lane) / f32(D) + shape.epsilon);`)}
  }
  if (lane < TOGETHER * COLUMNS) {
    let at = (firstRow + which * (D + jump)) / 4u + valueColumn;
    let kind = select(0u, 1u + ((part + which) & 1u), own);
    let normScale = select(scale0, scale1, which == 1u);
    if (valueColumn >= quads) {
      query[lane] = vec4f();
    } else if (kind == 2u) {
      let value = vec4f(${[0, 1, 2, 3].map((c) => `raw[which * ${widest}u + valueColumn * 4u + ${c}u]`).join(", ")});
      qkv[at] = value;
      if (!idle) { values[((page * shape.kvHeads + kv) * PAGE + position % PAGE) * quads + valueColumn] = cached(value); }
    } else if (kind == 1u) {
      let key = cached(turned(which * ${widest}u, valueColumn, shape.keyNormAt, normScale, angles));
      qkv[at] = vec4f(key);
      if (!idle) { keys[((page * shape.kvHeads + kv) * quads + valueColumn) * PAGE + position % PAGE] = key; }
    } else {
      let its = turned(which * ${widest}u, valueColumn, shape.queryNormAt, normScale, angles) * inverseSqrt(f32(D));
      query[lane] = its;
      if (slice == 0u) { qkv[at] = its; }
    }
  }
  if (own) { return; }
  gather();

  ${each((which) => `var highest${which} = -3.4e38; var total${which} = 0.0; var sum${which} = vec4f();`)}
  loop {
    ${each(
      (which) => `var dot${which} = vec4f();
    ${turns(quadsEach, (turn) => `dot${which} = fma(query[${which * columns}u + firstQuad + ${turn}u], k${turn}, dot${which});`)}
    scratch[(share * TOGETHER + ${which}u) * SLOTS + mine] = (dot${which}.x + dot${which}.y) + (dot${which}.z + dot${which}.w);`,
    )}
    gather();
    var score = -3.4e38;
    if (share < TOGETHER && start + mine < position) {
      score = ${Array.from({ length: lanesPerSlot }, (_, from) => `scratch[(${from * together}u + share) * SLOTS + mine]`).join(" + ")} + bias;
    }
    ${each(
      (which) => `let before${which} = highest${which};
    highest${which} = max(highest${which}, largestOf(select(-3.4e38, score, share == ${which}u), lane));`,
    )}
    let weight = select(0.0, exp(score - ${together === 1 ? "highest0" : "select(highest0, highest1, share == 1u)"}), score > -3.3e38);
    if (share < TOGETHER) { weightsOfSlots[lane] = weight; }
    ${each(
      (which) => `let shrink${which} = exp(before${which} - highest${which});
    total${which} = total${which} * shrink${which} + sumOf(select(0.0, weight, share == ${which}u), lane);
    sum${which} *= shrink${which};`,
    )}
    gather();
    ${turns(slotsEach, (turn) =>
      // What is not seen may be anything.
      each(
        (which) => `let p${turn}_${which} = weightsOfSlots[${which * SLOTS}u + firstSlot + ${turn}u];
    sum${which} = fma(vec4f(p${turn}_${which}), select(vec4f(), v${turn}, p${turn}_${which} != 0.0), sum${which});`,
      ),
    )}
    start += SLICES * SLOTS;
    if (start >= position) { break; }
    ${loadChunk}
    gather();
  }
  ${each(
    (which) => `gather();
  ${turns(4, (c) => `scratch[${c * SIZE}u + lane] = sum${which}[${c}];`)}
  gather();
  if (lane < quads) {
    var all = vec4f();
    for (var group = 0u; group < ${groups}u; group++) {
      let at = group * COLUMNS + lane;
      all += vec4f(scratch[at], scratch[${SIZE}u + at], scratch[${2 * SIZE}u + at], scratch[${3 * SIZE}u + at]);
    }
    qkv[leftAt(head + ${which}u, slice) + lane] = all;
  }
  if (lane == 0u) { qkv[leftAt(head + ${which}u, slice) + quads] = vec4f(highest${which}, total${which}, 0.0, 0.0); }`,
  )}
}
`,
  };
}
