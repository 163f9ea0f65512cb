// attention: keeps the new keys under the dynamic mask, then scores, softmax and the weighted sum of values.
//
// A sequence's keys stand in pages of 16 slots. One page of one layer, in three buffers:
//
//   keys    vec4 (kvHeads, headDim / 4, 16)   turned, so that neighbouring threads read neighbouring slots
//   values  vec4 (kvHeads, 16, headDim / 4)   both f32, or f16 where a variant has it; sums are f32
//   meta    u32  (biasHeads, 16) the biases' bits, (kvHeads, 16) positions, (kvHeads, 16) evictions
//
// Without a window, slot = position. With one, each key/value head keeps its own keys: token i sees the slots with
// position <= i < evicted. Evicted keys stay for JOURNAL more tokens, then the next key takes their slot, so a tile of at most
// JOURNAL tokens is kept as a whole before any of them attends.
//
//   keep    one team for each stretch of a sequence and key/value head, token after token
//   attend  one team for each token and each pair of query heads that share their keys
//   step    both, one team for each token and key/value head: for tokens of different sequences, which is how texts go on
//
// A team scores a chunk of slots, a slot to a lane. Then its lanes part: some of them hold the columns of a value, and as many
// such groups as there are take every so many-th slot. So that many loads are on their way at once, loops are written out eight
// at a time: a GPU otherwise waits for each of them.
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import type { Variant } from "../variant.ts";
import { entry, header, type Kernel, PRELUDE, shared, team } from "./kernel.ts";
import { ROPE } from "./rope.ts";

/** Tokens for which an evicted key is kept: a rewind of that depth is a filter. */
export const JOURNAL = 64;
/** Slots of a page. */
export const PAGE = 16;
/** Threads of a team, and slots of a chunk. */
const SIZE = 256;
/** Turns of a loop that are written out. */
const AT_ONCE = 8;

export type AttentionPart = "keep" | "attend" | "step";
/** Heads are at most this wide. */
export const WIDEST_HEAD = 256;

/** Query heads that a team takes together, of those that share their keys. */
export const headsTogether = ({ heads, kvHeads }: { readonly heads: number; readonly kvHeads: number }): 1 | 2 =>
  (heads / kvHeads) % 2 === 0 ? 2 : 1;

export interface AttentionKind {
  readonly part: AttentionPart;
  /** Numbers of a head, at most: 128 or 256. */
  readonly widest: number;
  /** Keys and values are f16. */
  readonly half: boolean;
  /** @see headsTogether */
  readonly together: 1 | 2;
}

export function attention(variant: Variant, { part, widest, half, together }: AttentionKind): Kernel {
  const writes = part !== "attend";
  const access = writes ? "read_write" : "read";
  const vector = half ? "vec4h" : "vec4f";
  const bindings: Kernel["bindings"] = [
    ...(writes ? (["write", "write", "write", "write"] as const) : (["read", "read", "read", "read"] as const)),
    "read",
    "read",
    "uniform",
    ...(part === "keep" ? [] : (["write"] as const)),
  ];
  return {
    name: `attention ${part} ${widest}${half ? " f16" : ""}${part === "keep" || together === 1 ? "" : " pairs"}`,
    bindings,
    call: ["read"],
    code: /* wgsl */ `${half ? "enable f16;\n" : ""}${header(variant)}${PRELUDE}${team(variant, SIZE)}
struct Shape {
  heads: u32, kvHeads: u32, headDim: u32, biasHeads: u32, stride: u32, window: u32, normed: u32, epsilon: f32,
  deltaAt: u32, deltaBiasAt: u32, aAt: u32, queryNormAt: u32, keyNormAt: u32, biased: u32, resultStride: u32,
}
@group(0) @binding(0) var<storage, ${access}> qkv: array<f32>;
@group(0) @binding(1) var<storage, ${access}> keys: array<${vector}>;
@group(0) @binding(2) var<storage, ${access}> values: array<${vector}>;
@group(0) @binding(3) var<storage, ${access}> meta_: array<u32>;
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
@group(0) @binding(5) var<storage, read> angles: array<f32>;
@group(0) @binding(6) var<uniform> shape: Shape;
${part === "keep" ? "" : "@group(0) @binding(7) var<storage, read_write> mixed: array<f32>;"}
@group(1) @binding(1) var<storage, read> call: array<u32>;
const PAGE: u32 = ${PAGE}u;
const JOURNAL: u32 = ${JOURNAL}u;
const TOGETHER: u32 = ${together}u;
${ROPE}
/** Four numbers of a head, normalised where the model does that, turned: straight on, so that all their loads are on their way at
 *  once. What stands behind a head is 0. */
fn turned(headAt: u32, quad: u32, normAt: u32, scale: f32, position: u32) -> vec4f {
  let D = shape.headDim;
  let half = D >> 1u;
  let first = quad * 4u;
  ${[0, 1, 2, 3]
    .map(
      (c) => `let i${c} = min(first + ${c}u, D - 1u);
  let j${c} = select(i${c} - half, i${c} + half, i${c} < half);
  var a${c} = qkv[headAt + i${c}];
  var b${c} = qkv[headAt + j${c}];`,
    )
    .join("\n  ")}
  if (shape.normed != 0u) {
    ${[0, 1, 2, 3]
      .map(
        (c) => `a${c} = vectors[normAt + i${c}] * (a${c} * scale);
    b${c} = vectors[normAt + j${c}] * (b${c} * scale);`,
      )
      .join("\n    ")}
  }
  return vec4f(${[0, 1, 2, 3].map((c) => `select(0.0, rope(a${c}, b${c}, i${c}, position, D), first + ${c}u < D)`).join(", ")});
}
/** A number of a token's value, as it is cached. */
fn ownValue(row: u32, kv: u32, i: u32) -> f32 {
  let value = qkv[row * shape.stride + (shape.heads + shape.kvHeads + kv) * shape.headDim + i];
  return ${half ? "f32(f16(clamp(value, -65504.0, 65504.0)))" : "value"};
}
fn ownValues(row: u32, kv: u32, quad: u32) -> vec4f {
  let first = quad * 4u;
  let last = shape.headDim - 1u;
  return vec4f(${[0, 1, 2, 3].map((c) => `select(0.0, ownValue(row, kv, min(first + ${c}u, last)), first + ${c}u <= last)`).join(", ")});
}
fn metaStride() -> u32 { return (shape.biasHeads + 2u * shape.kvHeads) * PAGE; }
fn biasAt(slot: u32, page: u32, head: u32) -> u32 { return page * metaStride() + head * PAGE + slot % PAGE; }
fn positionAt(slot: u32, page: u32, kv: u32) -> u32 { return biasAt(slot, page, shape.biasHeads + kv); }
fn evictedAt(slot: u32, page: u32, kv: u32) -> u32 { return biasAt(slot, page, shape.biasHeads + shape.kvHeads + kv); }
${writes ? KEEP(variant, half) : ""}
${part === "keep" ? "" : ATTEND(variant, widest, together)}
${entry(variant, SIZE)}
${BODY[part]}
}
`,
  };
}

/** Keep one token's key for one key/value head: normalised, turned, with its biases, in a slot of its own; and drop the least. */
const KEEP = (variant: Variant, half: boolean) => /* wgsl */ `
var<${shared(variant)}> least: array<u32, ${variant.serial ? 1 : SIZE}>;
/** ln(1 + e^z), with torch's linear branch above 20; where 1 + e^z would round, the series. */
fn softplus(z: f32) -> f32 {
  let e = exp(min(z, 20.0));
  return select(select(log(1.0 + e), e * fma(-0.5, e, 1.0), e < 1e-3), z, z > 20.0);
}
fn pageOf(pagesAt: u32, slot: u32) -> u32 { return call[pagesAt + slot / PAGE]; }
/** The first of all lanes' values. */
fn firstOf(value: u32, lane: u32) -> u32 {
  ${
    variant.serial
      ? "return value;"
      : /* wgsl */ `least[lane] = value;
  workgroupBarrier();
  for (var half = TEAM / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { least[lane] = min(least[lane], least[lane + half]); }
    workgroupBarrier();
  }
  let result = workgroupUniformLoad(&least[0]);
  return result;`
  }
}
/** The slot for the key at a position: its own while there are fresh ones, else a free one or one the journal has done with. */
fn freeSlot(pagesAt: u32, reach: u32, position: u32, kv: u32, lane: u32) -> u32 {
  if (shape.window == 0u) { return position; }
  let slots = shape.window + JOURNAL;
  var found = IDLE;
  if (position < slots && meta_[positionAt(position, pageOf(pagesAt, position), kv)] == NOBODY) { found = position; }
  if (found == IDLE) {
    let used = min(slots, max(reach, position));
    for (var slot = lane; slot < used; slot += TEAM) {
      let page = pageOf(pagesAt, slot);
      let by = meta_[evictedAt(slot, page, kv)];
      if (meta_[positionAt(slot, page, kv)] == NOBODY || (by != NOBODY && by + JOURNAL <= position)) {
        found = slot;
        break;
      }
    }
  }
  return firstOf(found, lane);
}
/** Of the window + 1 keys that the token would see, drop the least in (bias, position) order. */
fn evictLeast(pagesAt: u32, reach: u32, position: u32, kv: u32, lane: u32) {
  let slots = min(shape.window + JOURNAL, max(reach, position + 1u));
  var bias = 0.0;
  var at = IDLE;
  var its = NOBODY;
  for (var slot = lane; slot < slots; slot += TEAM) {
    let page = pageOf(pagesAt, slot);
    let own = meta_[positionAt(slot, page, kv)];
    if (own == NOBODY || meta_[evictedAt(slot, page, kv)] != NOBODY) { continue; }
    let b = bitcast<f32>(meta_[biasAt(slot, page, kv)]);
    if (at == IDLE || b < bias || (b == bias && own < its)) {
      at = slot;
      bias = b;
      its = own;
    }
  }
  let lowest = -largestOf(select(-3.4e38, -bias, at != IDLE), lane);
  let first = firstOf(select(NOBODY, its, at != IDLE && bias == lowest), lane);
  if (at != IDLE && its == first) { meta_[evictedAt(at, pageOf(pagesAt, at), kv)] = position; }
}
fn keepBias(row: u32, which: u32, sum: f32, at: u32) {
  let delta = sum + select(0.0, vectors[shape.deltaBiasAt + which], shape.biased != 0u);
  let bias = exp(vectors[shape.aAt + which] * softplus(delta));
  meta_[at] = bitcast<u32>(bias);
  qkv[row * shape.stride + (shape.heads + 2u * shape.kvHeads) * shape.headDim + which] = bias;
}
fn keep(record: u32, row: u32, kv: u32, lane: u32) {
  let position = call[record + 1u];
  let rowAt = call[record + 2u];
  let pagesAt = call[rowAt];
  let reach = call[rowAt + 1u];
  let D = shape.headDim;
  let keyAt = row * shape.stride + (shape.heads + kv) * D;
  let valuesAt = row * shape.stride + (shape.heads + shape.kvHeads) * D;
  let slot = freeSlot(pagesAt, reach, position, kv, lane);
  let page = pageOf(pagesAt, slot);
  var scale = 1.0;
  if (shape.normed != 0u) {
    var squares = 0.0;
    for (var i = lane; i < D; i += TEAM) { squares = fma(qkv[keyAt + i], qkv[keyAt + i], squares); }
    scale = inverseSqrt(sumOf(squares, lane) / f32(D) + shape.epsilon);
  }
  let quads = (D + 3u) >> 2u;
  // Whole vectors are written: their parts are not to be written by several threads.
  for (var quad = lane; quad < quads; quad += TEAM) {
    let key = turned(keyAt, quad, shape.keyNormAt, scale, position);
    keys[((page * shape.kvHeads + kv) * quads + quad) * PAGE + slot % PAGE] = ${half ? "vec4h(clamp(key, vec4f(-65504.0), vec4f(65504.0)))" : "key"};
    values[((page * shape.kvHeads + kv) * PAGE + slot % PAGE) * quads + quad] = ${half ? "vec4h(ownValues(row, kv, quad))" : "ownValues(row, kv, quad)"};
  }
  let width = shape.kvHeads * D;
  let each = shape.biasHeads / shape.kvHeads;
  // Two at a time, an odd last one twice: one does not wait for the loads of the other.
  let end = (kv + 1u) * each;
  for (var which = kv * each; which < end; which += 2u) {
    let other = min(which + 1u, end - 1u);
    let start = shape.deltaAt + which * width;
    let otherStart = shape.deltaAt + other * width;
    var sum = 0.0;
    var otherSum = 0.0;
    for (var i = lane; i < width; i += TEAM) {
      let value = qkv[valuesAt + i];
      sum = fma(vectors[start + i], value, sum);
      otherSum = fma(vectors[otherStart + i], value, otherSum);
    }
    sum = sumOf(sum, lane);
    otherSum = sumOf(otherSum, lane);
    if (lane == 0u) {
      keepBias(row, which, sum, biasAt(slot, page, which));
      keepBias(row, other, otherSum, biasAt(slot, page, other));
    }
  }
  if (shape.window != 0u) {
    if (lane == 0u) {
      meta_[positionAt(slot, page, kv)] = position;
      meta_[evictedAt(slot, page, kv)] = NOBODY;
    }
    meet();
    if (position >= shape.window) { evictLeast(pagesAt, reach, position, kv, lane); }
  }
  meet();
}
`;

/** What one token reads from the keys it sees, for query heads that share them: a running softmax over chunks of slots. What is weighed
 *  is how values differ from the token's own: equal values give that value to the bit, whatever their weights round to. So tokens that
 *  begin a text alike have equal biases in the next layer too, and a window drops the earlier one. */
function ATTEND(variant: Variant, widest: number, together: number): string {
  const columns = widest / 4;
  const heads = Array.from({ length: together }, (_, head) => head);
  const each = (statement: (head: number) => string) => heads.map(statement).join("\n    ");
  const chunk = variant.serial ? PAGE : SIZE;
  const space = shared(variant);
  /** `count` turns of a loop at once: what they load first, then what they make of it. */
  const turns = (count: number, load: (turn: number) => string, use: (turn: number) => string) => {
    const all = Array.from({ length: count }, (_, turn) => turn);
    return [...all.map(load), ...all.map(use)].join("\n        ");
  };
  const dots = (count: number) =>
    turns(
      count,
      (turn) => `let k${turn} = vec4f(keys[at + (quad + ${turn}u) * PAGE]);`,
      (turn) => each((head) => `dot${head} = fma(query[${head * columns}u + quad + ${turn}u], k${turn}, dot${head});`),
    );
  const sums = (count: number) =>
    turns(
      count,
      (turn) =>
        `let c${turn} = c + ${turn}u * PARTS;
        let v${turn} = vec4f(values[((pages[c${turn} / PAGE] * shape.kvHeads + kv) * PAGE + c${turn} % PAGE) * quads + column]);`,
      (turn) =>
        // What is not seen may be anything.
        each(
          (head) => `let w${turn}_${head} = weights[${head}u * CHUNK + c${turn}];
        sum${head} = fma(vec4f(w${turn}_${head}), select(vec4f(), v${turn} - own, w${turn}_${head} != 0.0), sum${head});`,
        ),
    );
  const weighted = variant.serial
    ? /* wgsl */ `
    for (var c = 0u; c < end; c++) {
      let at = ((pages[0] * shape.kvHeads + kv) * PAGE + c) * quads;
      ${each((head) => `let w${head} = weights[${head}u * CHUNK + c];`)}
      for (var column = 0u; column < quads; column++) {
        let value = vec4f(values[at + column]) - own[column];
        ${each((head) => `if (w${head} != 0.0) { sums${head}[column] = fma(vec4f(w${head}), value, sums${head}[column]); }`)}
      }
    }`
    : /* wgsl */ `
    if (column < quads) {
      var c = group;
      for (; c + ${AT_ONCE - 1}u * PARTS < end; c += ${AT_ONCE}u * PARTS) {
        ${sums(AT_ONCE)}
      }
      for (; c < end; c += PARTS) {
        ${sums(1)}
      }
    }`;
  const store = (head: number) =>
    variant.serial
      ? /* wgsl */ `
  for (var i = 0u; i < D; i++) { mixed[row * shape.resultStride + (head + ${head}u) * D + i] = ownValue(row, kv, i) + sums${head}[i >> 2u][i & 3u] / total${head}; }`
      : /* wgsl */ `
  parts[lane] = sum${head};
  workgroupBarrier();
  for (var i = lane; i < D; i += TEAM) {
    var all = parts[i >> 2u][i & 3u];
    for (var part = 1u; part < PARTS; part++) { all += parts[part * COLUMNS + (i >> 2u)][i & 3u]; }
    mixed[row * shape.resultStride + (head + ${head}u) * D + i] = ownValue(row, kv, i) + all / total${head};
  }
  workgroupBarrier();`;
  return /* wgsl */ `
const CHUNK: u32 = ${chunk}u;
const COLUMNS: u32 = ${columns}u;
var<${space}> query: array<vec4f, ${together * columns}>;
var<${space}> weights: array<f32, ${together * chunk}>;
var<${space}> pages: array<u32, ${chunk / PAGE}>;
${
  variant.serial
    ? ""
    : `/** Groups of lanes, each with all columns of some values. */
const PARTS: u32 = TEAM / COLUMNS;
var<workgroup> parts: array<vec4f, TEAM>;`
}
fn attend(record: u32, row: u32, head: u32, lane: u32) {
  let position = call[record + 1u];
  let rowAt = call[record + 2u];
  let pagesAt = call[rowAt];
  let reach = call[rowAt + 1u];
  let D = shape.headDim;
  let quads = (D + 3u) >> 2u;
  let kv = head / (shape.heads / shape.kvHeads);
  ${each(
    (which) => `
  let queryAt${which} = row * shape.stride + (head + ${which}u) * D;
  var scale${which} = 1.0;
  if (shape.normed != 0u) {
    var squares = 0.0;
    for (var i = lane; i < D; i += TEAM) { squares = fma(qkv[queryAt${which} + i], qkv[queryAt${which} + i], squares); }
    scale${which} = inverseSqrt(sumOf(squares, lane) / f32(D) + shape.epsilon);
  }
  let bias${which} = (head + ${which}u) / (shape.heads / shape.biasHeads);
  var highest${which} = -3.4e38;
  var total${which} = 0.0;
  ${variant.serial ? `var sums${which} = array<vec4f, COLUMNS>();` : `var sum${which} = vec4f();`}`,
  )}
  for (var one = lane; one < TOGETHER * quads; one += TEAM) {
    let which = one / quads;
    let scale = ${together === 1 ? "scale0" : "select(scale0, scale1, which == 1u)"};
    query[which * COLUMNS + one % quads] =
      turned(row * shape.stride + (head + which) * D, one % quads, shape.queryNormAt, scale, position) * inverseSqrt(f32(D));
  }
  gather();
  let masked = shape.window > 0u && position >= shape.window;
  let moved = shape.window > 0u && max(reach, position + 1u) > shape.window;
  let slots = select(position + 1u, min(shape.window + JOURNAL, max(reach, position + 1u)), masked || moved);
  ${
    variant.serial
      ? `var own = array<vec4f, COLUMNS>();
  for (var column = 0u; column < quads; column++) { own[column] = ownValues(row, kv, column); }`
      : `let column = lane % COLUMNS;
  let group = lane / COLUMNS;
  let own = ownValues(row, kv, min(column, quads - 1u));`
  }
  for (var start = 0u; start < slots; start += CHUNK) {
    ${each((which) => `var most${which} = -3.4e38;`)}
    for (var c = lane; c < CHUNK; c += TEAM) {
      let slot = start + c;
      ${each((which) => `var score${which} = -3.4e38;`)}
      if (slot < slots) {
        let page = call[pagesAt + slot / PAGE];
        if (slot % PAGE == 0u) { pages[c / PAGE] = page; }
        var seen = true;
        if (shape.window > 0u) {
          seen = meta_[positionAt(slot, page, kv)] <= position && meta_[evictedAt(slot, page, kv)] > position;
        }
        if (seen) {
          let at = (page * shape.kvHeads + kv) * quads * PAGE + slot % PAGE;
          ${each((which) => `var dot${which} = vec4f();`)}
          var quad = 0u;
          ${
            variant.serial
              ? ""
              : /* wgsl */ `for (; quad + ${AT_ONCE}u <= quads; quad += ${AT_ONCE}u) {
            ${dots(AT_ONCE)}
          }`
          }
          for (; quad < quads; quad++) {
            ${dots(1)}
          }
          ${each((which) => `score${which} = (dot${which}.x + dot${which}.y) + (dot${which}.z + dot${which}.w) + bitcast<f32>(meta_[biasAt(slot, page, bias${which})]);`)}
        }
      }
      ${each(
        (which) => `weights[${which}u * CHUNK + c] = score${which};
      most${which} = max(most${which}, score${which});`,
      )}
    }
    ${each(
      (which) => `
    let before${which} = highest${which};
    highest${which} = max(highest${which}, largestOf(most${which}, lane));
    var part${which} = 0.0;
    for (var c = lane; c < CHUNK; c += TEAM) {
      let score = weights[${which}u * CHUNK + c];
      let weight = select(0.0, exp(score - highest${which}), score > -3.3e38);
      weights[${which}u * CHUNK + c] = weight;
      part${which} += weight;
    }
    let shrink${which} = exp(before${which} - highest${which});
    total${which} = total${which} * shrink${which} + sumOf(part${which}, lane);
    ${
      variant.serial
        ? `for (var column = 0u; column < quads; column++) { sums${which}[column] *= shrink${which}; }`
        : `sum${which} *= shrink${which};`
    }`,
    )}
    gather();
    let end = min(CHUNK, slots - start);
    ${weighted}
    gather();
  }
  ${heads.map(store).join("")}
}
`;
}

const BODY: { readonly [part in AttentionPart]: string } = {
  keep: /* wgsl */ `
  if (unit >= grid.listed * shape.kvHeads) { return; }
  let stretch = unit / shape.kvHeads;
  let first = call[grid.list + stretch * 2u];
  let length = call[grid.list + stretch * 2u + 1u];
  for (var token = first; token < first + length; token++) {
    keep(grid.first + token * 4u, grid.base + token, unit % shape.kvHeads, lane);
  }`,
  attend: /* wgsl */ `
  let units = shape.heads / TOGETHER;
  if (unit >= grid.count * units) { return; }
  let token = unit / units;
  attend(grid.first + token * 4u, grid.base + token, (unit % units) * TOGETHER, lane);`,
  step: /* wgsl */ `
  if (unit >= grid.count * shape.kvHeads) { return; }
  let token = unit / shape.kvHeads;
  let record = grid.first + token * 4u;
  if (call[record] == IDLE) { return; }
  let kv = unit % shape.kvHeads;
  keep(record, grid.base + token, kv, lane);
  let shares = shape.heads / shape.kvHeads;
  for (var head = kv * shares; head < (kv + 1u) * shares; head += TOGETHER) {
    attend(record, grid.base + token, head, lane);
    gather();
  }`,
};

/** Forgets keys in pages, for a sequence that was rewound or a page that is new: those of tokens from a length on, and what
 *  such tokens evicted. List entries: page, length. One thread for a slot. With a window only. */
export const reset: Kernel = {
  name: "attention reset",
  bindings: ["write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}
struct Shape { kvHeads: u32, biasHeads: u32 }
@group(0) @binding(0) var<storage, read_write> meta_: array<u32>;
@group(0) @binding(1) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
@compute @workgroup_size(${PAGE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) slot: u32) {
  let page = call[grid.list + group.x * 2u];
  let length = call[grid.list + group.x * 2u + 1u];
  let stride = (shape.biasHeads + 2u * shape.kvHeads) * ${PAGE}u;
  for (var kv = 0u; kv < shape.kvHeads; kv++) {
    let at = page * stride + (shape.biasHeads + kv) * ${PAGE}u + slot;
    let by = at + shape.kvHeads * ${PAGE}u;
    if (meta_[at] >= length) { meta_[at] = NOBODY; }
    if (meta_[by] >= length) { meta_[by] = NOBODY; }
  }
}
`,
};

/** Copies pages, for a sequence that is about to write where others read. List entries: from, to. One thread for a word, a row
 *  of workgroups for each page. (A device does not copy within one buffer by itself.) */
export const copy: Kernel = {
  name: "attention copy",
  bindings: ["write", "write", "write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}
struct Shape { keys: u32, values: u32, meta_: u32 } // elements of a page, whatever numbers they hold
@group(0) @binding(0) var<storage, read_write> keys: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> meta_: array<u32>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let source = call[grid.list + place.y * 2u];
  let goal = call[grid.list + place.y * 2u + 1u];
  let i = place.x;
  if (i < shape.keys) { keys[goal * shape.keys + i] = keys[source * shape.keys + i]; }
  if (i < shape.values) { values[goal * shape.values + i] = values[source * shape.values + i]; }
  if (i < shape.meta_) { meta_[goal * shape.meta_ + i] = meta_[source * shape.meta_ + i]; }
}
`,
};
