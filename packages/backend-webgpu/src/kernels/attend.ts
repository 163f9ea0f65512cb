// attend, of attention: scores, a running softmax and the weighted sum of values.
//
// A team scores a chunk of slots, a slot to a lane. Then its lanes part: some of them hold the columns of a value, and as many
// such groups as there are take every so many-th slot. So that many loads are on their way at once, loops are written out eight
// at a time: a GPU otherwise waits for each of them.
import type { Variant } from "../variant.ts";
import { shared } from "./kernel.ts";
import { PAGE, SIZE } from "./page.ts";

/** Query heads that a team takes together, of those that share their keys. */
export const headsTogether = ({ heads, kvHeads }: { readonly heads: number; readonly kvHeads: number }): 1 | 2 =>
  (heads / kvHeads) % 2 === 0 ? 2 : 1;

/** Turns of a loop that are written out. */
const AT_ONCE = 8;

/** Queries of the heads that a team takes together, from `head` on: normalised, turned and over the root of their length; numbers that a
 *  head does not have are 0. To be gathered for. */
function QUERIES(variant: Variant, widest: number, together: number): string {
  const heads = Array.from({ length: together }, (_, head) => head);
  return /* wgsl */ `const COLUMNS: u32 = ${widest / 4}u;
var<${shared(variant)}> query: array<vec4f, ${(together * widest) / 4}>;
fn readQueries(row: u32, head: u32, position: u32, lane: u32) {
  let D = shape.headDim;
  let quads = (D + 3u) >> 2u;
  ${heads.map((which) => `let scale${which} = scaleOf(row * shape.stride + (head + ${which}u) * D, lane);`).join("\n  ")}
  for (var one = lane; one < TOGETHER * quads; one += TEAM) {
    let which = one / quads;
    let scale = ${together === 1 ? "scale0" : "select(scale0, scale1, which == 1u)"};
    query[which * COLUMNS + one % quads] =
      turned(row * shape.stride + (head + which) * D, one % quads, shape.queryNormAt, scale, anglesOf(position * D, one % quads)) * inverseSqrt(f32(D));
  }
}`;
}

/** What one token reads from the keys it sees, for query heads that share them: a running softmax over chunks of slots. What is weighed
 *  is how values differ from the token's own: equal values give that value to the bit, whatever their weights round to. So tokens that
 *  begin a text alike have equal biases in the next layer too, and a window drops the earlier one. */
export function ATTEND(variant: Variant, widest: number, together: number): string {
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
${QUERIES(variant, widest, together)}
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
  let bias${which} = (head + ${which}u) / (shape.heads / shape.biasHeads);
  var highest${which} = -3.4e38;
  var total${which} = 0.0;
  ${variant.serial ? `var sums${which} = array<vec4f, COLUMNS>();` : `var sum${which} = vec4f();`}`,
  )}
  readQueries(row, head, position, lane);
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
