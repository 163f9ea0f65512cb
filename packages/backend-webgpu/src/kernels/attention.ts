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
// A single text's step without a window is a kernel of its own (slices.ts).
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import type { Variant } from "../variant.ts";
import { ATTEND } from "./attend.ts";
import { BIAS, CACHED, KEEP } from "./keep.ts";
import { entry, header, type Kernel, PRELUDE, team } from "./kernel.ts";
import { JOURNAL, META, PAGE, SIZE } from "./page.ts";
import { ROPE } from "./rope.ts";

export type AttentionPart = "keep" | "attend" | "step";
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
${ROPE({ head: (at) => `qkv[${at}]`, angle: (at) => `angles[${at}]`, vector: (at) => `vectors[${at}]` })}
/** What normalises a head; 1 where the model does not. */
fn scaleOf(headAt: u32, lane: u32) -> f32 {
  if (shape.normed == 0u) { return 1.0; }
  var squares = 0.0;
  for (var i = lane; i < shape.headDim; i += TEAM) { squares = fma(qkv[headAt + i], qkv[headAt + i], squares); }
  return inverseSqrt(sumOf(squares, lane) / f32(shape.headDim) + shape.epsilon);
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
${META}${writes ? `${CACHED(half)}${BIAS((at) => `vectors[${at}]`)}${KEEP(variant)}` : ""}
${part === "keep" ? "" : ATTEND(variant, widest, together)}
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
};
