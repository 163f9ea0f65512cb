// merge: what the slices of a single token's attention found becomes one, with the token's own key, in the workgroups that multiply it
// (matmul.ts). It has no dispatch of its own: every workgroup needs all heads, and has them in its own memory.
//
// The own key is scored here and not by a team, for its bias is a sum over the values of all key/value heads, which are known only when
// all teams are done. The first workgroup leaves that bias in the cache.
import { BIAS } from "./keep.ts";
import { META, PAGE } from "./page.ts";

/** Numbers of all heads that a merge may have workgroup memory for, 6 bytes each. A model gets the least that does: a device zeroes all of
 *  it for every workgroup, and a small GPU holds fewer workgroups the more they have. */
export const MERGE_WIDTHS = [512, 1024, 2048] as const;
export interface Merge {
  readonly slices: number;
  /** Most addends of the stream before (mlp.ts). */
  readonly addends: number;
  /** One of MERGE_WIDTHS. */
  readonly widest: number;
}
/** Most biases of a key. */
export const MOST_BIASES = 64;

/** Behind the shape of a matmul. Places in x, of vectors: leftAt; in the result: streamAt. */
export const MERGED_SHAPE = `
  heads: u32, kvHeads: u32, biasHeads: u32, headQuads: u32, leftAt: u32, deltaAt: u32, deltaBiasAt: u32, aAt: u32,
  streamAt: u32, addends: u32,`;

/** For workgroups of so many threads: a token's attention from its slices. x holds its queries, its key and its value, as slices.ts
 *  leaves them, and at shape.leftAt what the slices found. */
export const MERGE = ({ slices, widest }: Merge, threads: number) => {
  const each = (statement: (slice: number) => string) =>
    Array.from({ length: slices }, (_, slice) => statement(slice)).join("\n  ");
  return /* wgsl */ `
const PAGE: u32 = ${PAGE}u;
${META}${BIAS((at) => `vector(${at})`)}
var<workgroup> merged: array<vec4f, ${widest / 4}>;
var<workgroup> dots: array<f32, ${widest / 4}>;
var<workgroup> scores: array<f32, ${widest / 4}>;
var<workgroup> deltas: array<f32, ${threads}>;
fn xFrom(token: u32) -> u32 { return 0u; }
/** Its bias, of the parts of a sum that so many threads each left. */
fn ownBias(which: u32, shares: u32) -> f32 {
  var sum = 0.0;
  for (var part = 0u; part < shares; part++) { sum += deltas[which * shares + part]; }
  return biasOf(which, sum);
}
fn mergeOne(quad: u32) -> vec4f {
  let quads = shape.headQuads;
  let head = quad / quads;
  let column = quad % quads;
  let at = shape.leftAt + head * ${slices}u * (quads + 1u);
  let value = x[(shape.heads + shape.kvHeads + head / (shape.heads / shape.kvHeads)) * quads + column];
  ${each((slice) => `let s${slice} = x[at + ${slice}u * (quads + 1u) + quads]; let v${slice} = x[at + ${slice}u * (quads + 1u) + column];`)}
  var top = scores[head];
  ${each((slice) => `top = max(top, s${slice}.x);`)}
  var total = exp(scores[head] - top);
  var all = value * total;
  ${each((slice) => `let w${slice} = exp(s${slice}.x - top); total = fma(s${slice}.y, w${slice}, total); all = fma(v${slice}, vec4f(w${slice}), all);`)}
  return all / total;
}
/** All heads into \`merged\`; who \`keeps\` leaves the biases. */
fn mergeAll(thread: u32, keeps: bool) {
  let quads = shape.headQuads;
  let width = shape.heads * quads;
  let keysAt = width;
  let valuesAt = keysAt + shape.kvHeads * quads;
  let valueQuads = shape.kvHeads * quads;
  for (var quad = thread; quad < width; quad += ${threads}u) {
    let kv = quad / quads / (shape.heads / shape.kvHeads);
    dots[quad] = dot(x[quad], x[keysAt + kv * quads + quad % quads]);
  }
  // Threads share the sums of delta.
  let shares = ${threads}u / shape.biasHeads;
  let which = thread / shares;
  if (which < shape.biasHeads) {
    let weightsAt = (shape.deltaAt >> 2u) + which * valueQuads;
    var sum = vec4f();
    for (var i = thread % shares; i < valueQuads; i += shares) { sum = fma(vectors[weightsAt + i], x[valuesAt + i], sum); }
    deltas[thread] = (sum.x + sum.y) + (sum.z + sum.w);
  }
  workgroupBarrier();
  for (var head = thread; head < shape.heads; head += ${threads}u) {
    var score = 0.0;
    for (var quad = 0u; quad < quads; quad++) { score += dots[head * quads + quad]; }
    scores[head] = score + ownBias(head / (shape.heads / shape.biasHeads), shares);
  }
  if (keeps && thread < shape.biasHeads) {
    let position = call[grid.first + 1u];
    meta_[biasAt(position, call[grid.list + position / PAGE], thread)] = bitcast<u32>(ownBias(thread, shares));
  }
  if (keeps && thread * 4u < shape.biasHeads) {
    // Whole vectors are written; what stands behind the last bias is nobody's.
    let last = shape.biasHeads - 1u;
    x[valuesAt + valueQuads + thread] = vec4f(${[0, 1, 2, 3].map((c) => `ownBias(min(thread * 4u + ${c}u, last), shares)`).join(", ")});
  }
  workgroupBarrier();
  for (var quad = thread; quad < shape.quads; quad += ${threads}u) {
    merged[quad] = vec4f();
    if (quad < width) { merged[quad] = mergeOne(quad); }
  }
  workgroupBarrier();
}
`;
};
