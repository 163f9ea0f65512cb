// slices, of attention: a step of one text, its keys dealt to several teams; and how what they found becomes one.
//
// One token alone would leave a GPU idle: a team for each pair of heads reads all keys, a few at a time. So the keys before the token are
// dealt out in chunks of 64 slots to eight teams for each pair, and another team keeps the token's own key and scores it. Nothing that
// is loaded waits for anything but its page. What the teams leave behind is merged where it is multiplied, by the attention's output, so
// that no dispatch is added. For models whose window drops nothing: there a prompt and its steps must sum in one order (docs/contract.md).
//
// Source: Dao et al., Flash-Decoding for long-context inference (2023); transformers `DogeAttention` (eager).
import { type Config, queryWidth } from "@doge-lm/core";
import type { Variant } from "../variant.ts";
import { headsTogether, QUERIES } from "./attend.ts";
import { SIZE } from "./page.ts";

/** Teams that share the keys of a pair of heads. */
const SLICES = 8;
/** Slots that a team reads at a time. */
const SLOTS = 64;
/** Numbers of all heads that the merge has workgroup memory for. */
const WIDEST = 2048;

/** Whether steps of a single text go through slices. A software adapter has no team. */
export const slices = (variant: Variant, config: Config): boolean =>
  !variant.serial && config.window === null && config.headDim % 4 === 0 && queryWidth(config) <= WIDEST;

/** Vectors of what a token's slices leave: for each head and slice, and for its own key, the sum of weighted differences (its own value
 *  in the place of its own), then the greatest score and the sum of weights. */
export const sliceVectors = ({ heads, headDim }: Pick<Config, "heads" | "headDim">): number =>
  heads * (SLICES + 1) * (headDim / 4 + 1);

/** Teams of a token: of slices, and of its own key. */
export const sliceTeams = (config: Pick<Config, "heads" | "kvHeads">): number =>
  (config.heads / headsTogether(config)) * SLICES + config.kvHeads;

/** For attention.ts: one slice of the keys before a token, and its own key, for TOGETHER heads from `head` on. The dispatch's list is
 *  the text's page table, of grid.listed slots. */
export function SLICED(variant: Variant, widest: number, together: number): string {
  const columns = widest / 4;
  const lanesPerSlot = SIZE / SLOTS;
  const quadsEach = columns / lanesPerSlot;
  const groups = SIZE / columns;
  const slotsEach = SLOTS / groups;
  const heads = Array.from({ length: together }, (_, head) => head);
  const each = (statement: (head: number) => string) => heads.map(statement).join("\n    ");
  const turns = (count: number, statement: (turn: number) => string) =>
    Array.from({ length: count }, (_, turn) => statement(turn)).join("\n    ");
  const load = /* wgsl */ `{
    let page = call[grid.list + min(start + mine, grid.listed - 1u) / PAGE];
    let valuePage = call[grid.list + min(start + firstSlot, grid.listed - 1u) / PAGE];
    let keyAt = (page * shape.kvHeads + kv) * quads * PAGE + mine % PAGE;
    let valueAt = ((valuePage * shape.kvHeads + kv) * PAGE + firstSlot % PAGE) * quads + safeColumn;
    bias = bitcast<f32>(meta_[biasAt(mine, page, biasHead)]);
    ${turns(quadsEach, (turn) => `k${turn} = vec4f(keys[keyAt + min(firstQuad + ${turn}u, quads - 1u) * PAGE]);`)}
    ${turns(slotsEach, (turn) => `v${turn} = vec4f(values[valueAt + ${turn}u * quads]);`)}
  }`;
  return /* wgsl */ `
const SLICES: u32 = ${SLICES}u;
const SLOTS: u32 = ${SLOTS}u;
${QUERIES(variant, widest, together)}
var<workgroup> dots: array<f32, ${lanesPerSlot * together * SLOTS}>;
var<workgroup> weights: array<f32, ${together * SLOTS}>;
var<workgroup> sums: array<vec4f, TEAM>;
fn sliceAt(head: u32, slice: u32) -> u32 { return (head * (SLICES + 1u) + slice) * ((shape.headDim >> 2u) + 1u); }
fn slice(record: u32, row: u32, head: u32, slice: u32, lane: u32) {
  let position = call[record + 1u];
  let quads = shape.headDim >> 2u;
  let kv = head / (shape.heads / shape.kvHeads);
  // Of scores: which slot of a chunk, which part of its key, and of whose bias.
  let mine = lane % SLOTS;
  let part = lane / SLOTS;
  let firstQuad = part * ${quadsEach}u;
  let biasHead = (head + min(part, TOGETHER - 1u)) / (shape.heads / shape.biasHeads);
  // Of values: which column, of which slots.
  let column = lane % COLUMNS;
  let safeColumn = min(column, quads - 1u);
  let firstSlot = lane / COLUMNS * ${slotsEach}u;
  let own = ownValues(row, kv, safeColumn);
  ${each((which) => `var highest${which} = -3.4e38; var total${which} = 0.0; var sum${which} = vec4f();`)}
  var start = slice * SLOTS;
  ${turns(quadsEach, (turn) => `var k${turn}: vec4f;`)}
  ${turns(slotsEach, (turn) => `var v${turn}: vec4f;`)}
  var bias: f32;
  // All of a chunk is asked for before anything is waited for; beyond the table's end its last page is read, and not looked at.
  ${load}
  for (var one = lane; one < TOGETHER * COLUMNS; one += TEAM) { query[one] = vec4f(); }
  gather();
  readQueries(row, head, position, lane);
  gather();
  loop {
    ${each(
      (which) => `var dot${which} = vec4f();
    ${turns(quadsEach, (turn) => `dot${which} = fma(query[${which * columns}u + firstQuad + ${turn}u], k${turn}, dot${which});`)}
    dots[(part * TOGETHER + ${which}u) * SLOTS + mine] = (dot${which}.x + dot${which}.y) + (dot${which}.z + dot${which}.w);`,
    )}
    gather();
    var score = -3.4e38;
    if (part < TOGETHER && start + mine < position) {
      score = ${Array.from({ length: lanesPerSlot }, (_, from) => `dots[(${from * together}u + part) * SLOTS + mine]`).join(" + ")} + bias;
    }
    ${each(
      (which) => `let before${which} = highest${which};
    highest${which} = max(highest${which}, largestOf(select(-3.4e38, score, part == ${which}u), lane));`,
    )}
    let weight = select(0.0, exp(score - ${together === 1 ? "highest0" : "select(highest0, highest1, part == 1u)"}), score > -3.3e38);
    if (part < TOGETHER) { weights[lane] = weight; }
    ${each(
      (which) => `let shrink${which} = exp(before${which} - highest${which});
    total${which} = total${which} * shrink${which} + sumOf(select(0.0, weight, part == ${which}u), lane);
    sum${which} *= shrink${which};`,
    )}
    gather();
    ${turns(slotsEach, (turn) =>
      // What is not seen may be anything.
      each(
        (which) => `let w${turn}_${which} = weights[${which * SLOTS}u + firstSlot + ${turn}u];
    sum${which} = fma(vec4f(w${turn}_${which}), select(vec4f(), v${turn} - own, w${turn}_${which} != 0.0), sum${which});`,
      ),
    )}
    start += SLICES * SLOTS;
    if (start >= position) { break; }
    ${load}
    gather();
  }
  ${each(
    (which) => `sums[lane] = sum${which};
  gather();
  if (lane < quads) {
    var all = sums[lane];
    for (var group = 1u; group < ${groups}u; group++) { all += sums[group * COLUMNS + lane]; }
    found[sliceAt(head + ${which}u, slice) + lane] = all;
  }
  if (lane == 0u) { found[sliceAt(head + ${which}u, slice) + quads] = vec4f(highest${which}, total${which}, 0.0, 0.0); }
  gather();`,
  )}
}
/** A text's own token for one key/value head: its key, its value and its biases are kept, and its key is scored, from registers. */
fn keepOwn(record: u32, row: u32, kv: u32, lane: u32) {
  let position = call[record + 1u];
  if (call[record] == IDLE) { return; }
  let page = call[grid.list + position / PAGE];
  let slot = position % PAGE;
  let D = shape.headDim;
  let quads = D >> 2u;
  let keyAt = row * shape.stride + (shape.heads + kv) * D;
  let valuesAt = row * shape.stride + (shape.heads + shape.kvHeads) * D;
  let width = shape.kvHeads * D;
  let shares = shape.heads / shape.kvHeads;
  let scale = scaleOf(keyAt, lane);
  let quad = min(lane, quads - 1u);
  let key = cached(turned(keyAt, quad, shape.keyNormAt, scale, position));
  let value = ownValues(row, kv, quad);
  if (lane < quads) {
    keys[((page * shape.kvHeads + kv) * quads + quad) * PAGE + slot] = key;
    values[((page * shape.kvHeads + kv) * PAGE + slot) * quads + quad] = cached(value);
  }
  for (var head = kv * shares; head < (kv + 1u) * shares; head += TOGETHER) {
    ${each(
      (which) => `let bias${which} = (head + ${which}u) / (shape.heads / shape.biasHeads);
    var delta${which} = 0.0;`,
    )}
    for (var i = lane; i < width; i += TEAM) {
      let value = qkv[valuesAt + i];
      ${each((which) => `delta${which} = fma(vectors[shape.deltaAt + bias${which} * width + i], value, delta${which});`)}
    }
    readQueries(row, head, position, lane);
    gather();
    ${each(
      (
        which,
      ) => `let dot${which} = sumOf(select(0.0, dot(query[${which * columns}u + quad], vec4f(key)), lane < quads), lane);
    let its${which} = biasOf(bias${which}, sumOf(delta${which}, lane));
    if (lane < quads) { found[sliceAt(head + ${which}u, SLICES) + lane] = value; }
    if (lane == 0u) {
      keepBias(row, bias${which}, its${which}, biasAt(slot, page, bias${which}));
      found[sliceAt(head + ${which}u, SLICES) + quads] = vec4f(dot${which} + its${which}, 1.0, 0.0, 0.0);
    }`,
    )}
    gather();
  }
}
`;
}

/** For matmul.ts, in workgroups of so many threads: a token's attention from its slices, all of it in each workgroup's memory; heads are
 *  shape.xStride wide. */
export const MERGE = (threads: number) => /* wgsl */ `
var<workgroup> merged: array<vec4f, ${WIDEST / 4}>;
fn xFrom(token: u32) -> u32 { return 0u; }
fn mergeOne(quad: u32) -> vec4f {
  let quads = shape.xStride >> 2u;
  let at = quad / quads * ${SLICES + 1}u * (quads + 1u);
  let column = quad % quads;
  ${eachSlice((slice) => `let s${slice} = x[at + ${slice}u * (quads + 1u) + quads]; let v${slice} = x[at + ${slice}u * (quads + 1u) + column];`, SLICES + 1)}
  var top = s${SLICES}.x;
  ${eachSlice((slice) => `top = max(top, s${slice}.x);`)}
  var total = exp(s${SLICES}.x - top);
  var all = vec4f();
  ${eachSlice((slice) => `let w${slice} = exp(s${slice}.x - top); total = fma(s${slice}.y, w${slice}, total); all = fma(v${slice}, vec4f(w${slice}), all);`)}
  return v${SLICES} + all / total;
}
fn mergeAll(thread: u32) {
  for (var quad = thread; quad < shape.quads; quad += ${threads}u) {
    merged[quad] = vec4f();
    if (quad * 4u < shape.inner) { merged[quad] = mergeOne(quad); }
  }
  workgroupBarrier();
}
`;

function eachSlice(statement: (slice: number) => string, count = SLICES): string {
  return Array.from({ length: count }, (_, slice) => statement(slice)).join("\n  ");
}
