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
//   slices  the same for a single token, its keys dealt to several teams (slices.ts)
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import type { Variant } from "../variant.ts";
import { ATTEND } from "./attend.ts";
import { KEEP, KEPT } from "./keep.ts";
import { entry, header, type Kernel, PRELUDE, team } from "./kernel.ts";
import { JOURNAL, PAGE, SIZE } from "./page.ts";
import { ROPE } from "./rope.ts";
import { SLICED } from "./slices.ts";

export type AttentionPart = "keep" | "attend" | "step" | "slices";
/** Heads are at most this wide. */
export const WIDEST_HEAD = 256;

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
${RESULT[part]}
@group(1) @binding(1) var<storage, read> call: array<u32>;
const PAGE: u32 = ${PAGE}u;
const JOURNAL: u32 = ${JOURNAL}u;
const TOGETHER: u32 = ${together}u;
${ROPE}
/** What normalises a head; 1 where the model does not. */
fn scaleOf(headAt: u32, lane: u32) -> f32 {
  if (shape.normed == 0u) { return 1.0; }
  var squares = 0.0;
  for (var i = lane; i < shape.headDim; i += TEAM) { squares = fma(qkv[headAt + i], qkv[headAt + i], squares); }
  return inverseSqrt(sumOf(squares, lane) / f32(shape.headDim) + shape.epsilon);
}
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
${writes ? KEPT(half) : ""}${part === "keep" || part === "step" ? KEEP(variant) : ""}
${part === "keep" ? "" : part === "slices" ? SLICED(variant, widest, together) : ATTEND(variant, widest, together)}
${entry(variant, SIZE)}
${BODY[part]}
}
`,
  };
}

const RESULT: { readonly [part in AttentionPart]: string } = {
  keep: "",
  attend: "@group(0) @binding(7) var<storage, read_write> mixed: array<f32>;",
  step: "@group(0) @binding(7) var<storage, read_write> mixed: array<f32>;",
  slices: "@group(0) @binding(7) var<storage, read_write> found: array<vec4f>;",
};

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
  slices: /* wgsl */ `
  // Teams of slices first, then one for each key/value head. Slices of a token that is none are computed in vain: asking first would
  // make each token wait for the answer.
  let slicing = shape.heads / TOGETHER * SLICES;
  if (unit >= slicing + shape.kvHeads) { return; }
  if (unit < slicing) {
    slice(grid.first, grid.base, unit / SLICES * TOGETHER, unit % SLICES, lane);
  } else {
    keepOwn(grid.first, grid.base, unit - slicing, lane);
  }`,
};
