// keep, of attention: a token's key and value into the cache, with its biases, and under a window the least of all keys out of it.
import type { Variant } from "../variant.ts";
import { shared } from "./kernel.ts";
import { SIZE } from "./page.ts";

/** A key's bias, exp(A softplus(delta)), of what delta's weights and a token's values of all key/value heads sum to. `vector`: a number
 *  among the layer's small tensors. */
export const BIAS = (vector: (at: string) => string) => /* wgsl */ `
/** ln(1 + e^z), with torch's linear branch above 20; where 1 + e^z would round, the series. */
fn softplus(z: f32) -> f32 {
  let e = exp(min(z, 20.0));
  return select(select(log(1.0 + e), e * fma(-0.5, e, 1.0), e < 1e-3), z, z > 20.0);
}
fn biasOf(which: u32, sum: f32) -> f32 {
  let delta = sum + select(0.0, ${vector("shape.deltaBiasAt + which")}, shape.biased != 0u);
  return exp(${vector("shape.aAt + which")} * softplus(delta));
}
`;

/** Keys and values as the cache holds them. */
export const CACHED = (half: boolean) => /* wgsl */ `
fn cached(its: vec4f) -> ${half ? "vec4h { return vec4h(clamp(its, vec4f(-65504.0), vec4f(65504.0))); }" : "vec4f { return its; }"}
`;

/** Keep one token's key for one key/value head: normalised, turned, with its biases, in a slot of its own; and drop the least. */
export const KEEP = (variant: Variant) => /* wgsl */ `
var<${shared(variant)}> least: array<u32, ${variant.serial ? 1 : SIZE}>;
fn keepBias(row: u32, which: u32, bias: f32, at: u32) {
  meta_[at] = bitcast<u32>(bias);
  qkv[row * shape.stride + (shape.heads + 2u * shape.kvHeads) * shape.headDim + which] = bias;
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
  let scale = scaleOf(keyAt, lane);
  let quads = (D + 3u) >> 2u;
  // Whole vectors are written: their parts are not to be written by several threads.
  for (var quad = lane; quad < quads; quad += TEAM) {
    keys[((page * shape.kvHeads + kv) * quads + quad) * PAGE + slot % PAGE] = cached(turned(keyAt, quad, shape.keyNormAt, scale, anglesOf(position * D, quad)));
    values[((page * shape.kvHeads + kv) * PAGE + slot % PAGE) * quads + quad] = cached(ownValues(row, kv, quad));
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
      keepBias(row, which, biasOf(which, sum), biasAt(slot, page, which));
      keepBias(row, other, biasOf(other, otherSum), biasAt(slot, page, other));
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
