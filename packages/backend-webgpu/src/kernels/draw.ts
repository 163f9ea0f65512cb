// draw: from logits to the next id, as core's sampling.ts defines it (docs/contract.md, S3), and what follows from it: the next
// token's record, the stop flag, the ids seen. Also the log-probabilities that score() gives.
//
// Each filter is a threshold over the ordered bits of the scores: read from a short list of the likely ids (draw-likely.ts), or, where
// that does not do, found over all of them (draw-cut.ts).
import { ROW, ROW_WORDS } from "../call.ts";
import type { Variant } from "../variant.ts";
import { cut } from "./draw-cut.ts";
import { likely } from "./draw-likely.ts";
import { entry, header, type Kernel, PRELUDE, shared, team } from "./kernel.ts";

/** Threads of a team. */
const SIZE = 256;
/** Logits that a lane loads at once: a GPU otherwise waits for each. */
const AT_ONCE = 8;

/** A loop over the vocabulary, each lane over every TEAM-th id in order: loads of several ids, then `body` for each, in which
 *  `id` and `logit` are known. `logits[at + id]` is the logit. */
function overIds(variant: Variant, at: string, body: string): string {
  const count = variant.serial ? 1 : AT_ONCE;
  const all = Array.from({ length: count }, (_, turn) => turn);
  if (count === 1)
    return /* wgsl */ `for (var id = lane; id < shape.vocabulary; id += TEAM) { let logit = logits[${at} + id]; ${body} }`;
  return /* wgsl */ `for (var next = lane; next < shape.vocabulary; next += ${count}u * TEAM) {
    let loaded = array<f32, ${count}>(${all.map((turn) => `logits[${at} + min(next + ${turn}u * TEAM, shape.vocabulary - 1u)]`).join(", ")});
    for (var turn = 0u; turn < ${count}u; turn++) {
      let id = next + turn * TEAM;
      if (id >= shape.vocabulary) { continue; }
      let logit = loaded[turn];
      ${body}
    }
  }`;
}

/** Whether logits are numbers, and the logarithm of the sum of their exponentials. */
const LOGITS = (variant: Variant) => /* wgsl */ `
// By their bits: a compiler may take for granted that there are no such numbers.
fn isNone(value: f32) -> bool { return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u; }
fn isFinite(value: f32) -> bool { return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u; }
const LEAST: f32 = -3.4028234e38;
// In variables, since a compiler evaluates constants and refuses these.
var<private> infinity: u32 = 0xff800000u;
var<private> undefined_: u32 = 0x7fc00000u;
fn nothing() -> u32 { return infinity; }
/** No number where a logit is +infinity: no probability follows from it. */
fn logSumExp(at: u32, lane: u32) -> f32 {
  var most = LEAST;
  ${overIds(variant, "at", "most = max(most, logit);")}
  most = largestOf(most, lane);
  var total = 0.0;
  ${overIds(variant, "at", "total += exp(logit - most);")}
  total = sumOf(total, lane);
  return select(bitcast<f32>(undefined_), most + log(total), isFinite(most));
}
`;

/** The first of all lanes' values. */
const FIRST = (variant: Variant) => /* wgsl */ `
var<${shared(variant)}> firsts: array<u32, TEAM>;
fn firstOf(value: u32, lane: u32) -> u32 {
  ${
    variant.serial
      ? "return value;"
      : /* wgsl */ `firsts[lane] = value;
  workgroupBarrier();
  for (var half = TEAM / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { firsts[lane] = min(firsts[lane], firsts[lane + half]); }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&firsts[0]);`
  }
}
`;

/** What stands in place of an id: a row that draws no more, nothing that may be drawn, logits that are no numbers. */
export const DRAWN = { idle: 0xffffffff, nothing: 0xfffffffe, numerical: 0xfffffffd } as const;

/** `filtered`: some row of the call has top-k or top-p. `told`: some row wants log-probabilities. */
export function draw(variant: Variant, filtered: boolean, told: boolean): Kernel {
  // The barrier-free form has one lane, whose greatest is no floor for others; what it would list, it would sort alone.
  const lists = filtered && !variant.serial;
  const each = (body: string) => overIds(variant, "start", body);
  const row = (name: keyof typeof ROW) => `record[${ROW[name]}]`;
  const float = (name: keyof typeof ROW) => `bitcast<f32>(${row(name)})`;
  /** Whether an id that the filters left is the choice so far; a lane may meet ids in any order. */
  const offer = /* wgsl */ `if (minP > 0.0 && relative(score, best) < minP) { continue; }
      let value = (score - best) / temperature + gumbel(pcg3d(id, position, ${row("seed")}));
      if (chosen == IDLE || value > highest || (value == highest && id < chosen)) {
        highest = value;
        chosen = id;
      }`;
  const filters = /* wgsl */ `
    let candidates = ${lists ? "agree(u32(count), lane)" : "u32(count)"};
    let topK = select(0u, own[${ROW.topK}], own[${ROW.topK}] < candidates);
    let topP = bitcast<f32>(own[${ROW.topP}]);
    var floor = 0u;
    ${
      lists
        ? /* wgsl */ `if (topK > 0u || topP < 1.0) { floor = floorOfLikely(topK, topP, candidates, greatest, best, lane); }
    if (floor > 0u) {
      for (var i = lane; i < likely && likelyKeys[i] >= floor; i += TEAM) {
        let id = likelyIds[i];
        let score = scoreAt(likelyKeys[i]);
        ${offer}
      }
    } else {`
        : "{"
    }
      if (topK > 0u) { floor = cutOf(false, f32(topK), 0u, best, lane); }
      if (topP < 1.0) { floor = cutOf(true, topP, floor, best, lane); }
      ${each(`let score = scoreOf(id, logit);
      if (!isCandidate(score) || ordered(score) < floor) { continue; }
      ${offer}`)}
    }`;
  return {
    name: `draw${filtered ? " filtered" : ""}${told ? " told" : ""}`,
    bindings: ["read", "uniform"],
    call: ["write", "write"],
    code: /* wgsl */ `${header(variant)}${PRELUDE}${team(variant, SIZE)}
struct Shape { vocabulary: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read_write> call: array<u32>;
@group(1) @binding(2) var<storage, read_write> results: array<u32>;
${LOGITS(variant)}${FIRST(variant)}
const NOTHING: u32 = ${DRAWN.nothing}u;
const NUMERICAL: u32 = ${DRAWN.numerical}u;
const LAST_ID: u32 = 0x7fffffffu;
var<private> start: u32;
var<private> record: array<u32, ${ROW_WORDS}>;
${
  variant.serial
    ? ""
    : /* wgsl */ `
var<workgroup> shelf: array<u32, ${ROW_WORDS}>;`
}
fn bit(at: u32, id: u32) -> bool { return ((call[at + (id >> 5u)] >> (id & 31u)) & 1u) != 0u; }
/** The logit after the repetition penalty; -infinity where the id may not be drawn. */
fn scoreOf(id: u32, logit: f32) -> f32 {
  var score = logit;
  if (${row("allowed")} != 0u && !bit(${row("allowed")}, id)) { return bitcast<f32>(nothing()); }
  if (${row("seen")} != 0u && bit(${row("seen")}, id)) {
    let penalty = ${float("penalty")};
    score = select(score / penalty, score * penalty, score < 0.0);
  }
  return score;
}
fn isCandidate(score: f32) -> bool { return bitcast<u32>(score) != 0xff800000u; }
/** Bits that order as the numbers do; -0 and 0 are one number. */
fn ordered(score: f32) -> u32 {
  let bits = bitcast<u32>(score);
  if (bits == 0x80000000u) { return bits; }
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
/** e^((score - best) / temperature): exactly 1 for the best. */
fn relative(score: f32, best: f32) -> f32 {
  return select(exp((score - best) / ${float("temperature")}), 1.0, score == best);
}
${filtered ? cut(variant, SIZE, each) : ""}${lists ? likely(SIZE, each) : ""}
/** First word of pcg3d. Source: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020. */
fn pcg3d(id: u32, position: u32, seed: u32) -> u32 {
  var x = id * 1664525u + 1013904223u;
  var y = position * 1664525u + 1013904223u;
  var z = seed * 1664525u + 1013904223u;
  x += y * z;
  y += z * x;
  z += x * y;
  x ^= x >> 16u;
  y ^= y >> 16u;
  z ^= z >> 16u;
  return x + y * z;
}
/** g = -ln E, E = -ln(1 - v), v = (hash + 1/2) / 2^32: the series is the definition where 1 - v would cancel. */
fn gumbel(hash: u32) -> f32 {
  let v = (f32(hash) + 0.5) * 2.3283064365386963e-10;
  let series = v * (1.0 + v * (0.5 + v * (1.0 / 3.0 + v * (0.25 + v * 0.2))));
  let inverse = (f32(~hash) + 0.5) * 2.3283064365386963e-10;
  return -log(select(-log(inverse), series, v < 0.0625));
}
${entry(variant, SIZE)}
  if (unit >= grid.listed) { return; }
  let rowAt = call[grid.list + unit];
  ${
    variant.serial
      ? /* wgsl */ `for (var i = 0u; i < ${ROW_WORDS}u; i++) { record[i] = call[rowAt + i]; }
  let own = record;`
      : /* wgsl */ `if (lane < ${ROW_WORDS}u) { shelf[lane] = call[rowAt + lane]; }
  // All lanes know that all have the same: what stands behind a question of these words may have barriers.
  let own = workgroupUniformLoad(&shelf);
  record = own;`
  }
  let at = (grid.step * grid.rows + ${row("index")}) * grid.width;
  start = unit * shape.vocabulary;
  if (own[${ROW.left}] == 0u) {
    if (lane == 0u) { results[at] = IDLE; }
    return;
  }
  var none = 0.0;
  var finite = 0.0;
  var best = LEAST;
  var first = IDLE;
  var count = 0.0;
  ${each(`if (isNone(logit)) { none = 1.0; }
      if (isFinite(logit)) { finite = 1.0; }
      let score = scoreOf(id, logit);
      if (!isCandidate(score)) { continue; }
      count += 1.0;
      if (first == IDLE || score > best) {
        best = score;
        first = id;
      }`)}
  none = largestOf(none, lane);
  finite = largestOf(finite, lane);
  let isSound = none == 0.0 && finite > 0.0;
  let mine = best;
  ${lists ? "let greatest = select(ordered(mine), 0u, first == IDLE);" : ""}
  best = largestOf(best, lane);
  count = sumOf(count, lane);
  first = firstOf(select(IDLE, first, mine == best), lane);
  let minP = ${float("minP")};
  let temperature = bitcast<f32>(own[${ROW.temperature}]);
  let position = ${row("position")};
  var chosen = first;
  if (temperature > 0.0) {
    var highest = LEAST;
    chosen = IDLE;
    ${
      filtered
        ? filters
        : each(`let score = scoreOf(id, logit);
      if (!isCandidate(score)) { continue; }
      ${offer}`)
    }
    let most = largestOf(highest, lane);
    chosen = firstOf(select(IDLE, chosen, highest == most), lane);
  }
  // Noise changes nothing of infinity, and infinity less itself is no number.
  if (!isFinite(best)) { chosen = first; }
  if (count == 0.0) { chosen = NOTHING; }
  if (!isSound) { chosen = NUMERICAL; }
  ${
    told
      ? /* wgsl */ `
  let normalizer = logSumExp(start, lane);
  let alternatives = (grid.width - 2u) / 2u;
  var before = 0.0;
  var beforeId = IDLE;
  for (var rank = 0u; rank < alternatives; rank++) {
    var top = bitcast<f32>(nothing()); // where a lane has no id left, too
    var topId = IDLE;
    ${each(`let after = rank == 0u || logit < before || (logit == before && id > beforeId);
      if (after && (topId == IDLE || logit > top)) {
        top = logit;
        topId = id;
      }`)}
    let its = largestOf(top, lane);
    beforeId = firstOf(select(IDLE, topId, top == its), lane);
    before = its;
    if (lane == 0u) {
      results[at + 2u + rank] = beforeId;
      results[at + 2u + alternatives + rank] = bitcast<u32>(its - normalizer);
    }
  }
  if (lane == 0u && chosen < LAST_ID) {
    results[at + 1u] = select(undefined_, bitcast<u32>(logits[start + chosen] - normalizer), isFinite(normalizer));
  }`
      : ""
  }
  if (lane != 0u) { return; }
  results[at] = chosen;
  let token = ${row("token")};
  if (chosen > LAST_ID) {
    call[rowAt + ${ROW.left}u] = 0u;
    call[token] = IDLE;
    return;
  }
  var left = ${row("left")} - 1u;
  for (var i = 0u; i < ${row("stops")}; i++) { if (call[${row("stopsAt")} + i] == chosen) { left = 0u; } }
  call[rowAt + ${ROW.left}u] = left;
  call[rowAt + ${ROW.position}u] = position + 1u;
  // The last one drawn is not evaluated: a call that goes on does that first.
  call[token] = select(IDLE, chosen, left > 0u);
  call[token + 1u] = position;
  let seen = ${row("seen")};
  if (seen != 0u) { call[seen + (chosen >> 5u)] |= 1u << (chosen & 31u); }
}
`,
  };
}

/** results[target] = ln p of the id that follows, for each row of logits; list entries: id, place. */
export function score(variant: Variant): Kernel {
  return {
    name: "score",
    bindings: ["read", "uniform"],
    call: ["read", "write"],
    code: /* wgsl */ `${header(variant)}${PRELUDE}${team(variant, SIZE)}
struct Shape { vocabulary: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
@group(1) @binding(2) var<storage, read_write> results: array<u32>;
${LOGITS(variant)}
${entry(variant, SIZE)}
  if (unit >= grid.listed) { return; }
  let start = unit * shape.vocabulary;
  let id = call[grid.list + unit * 2u];
  var none = 0.0;
  var finite = 0.0;
  ${overIds(variant, "start", "if (isNone(logit)) { none = 1.0; }\n      if (isFinite(logit)) { finite = 1.0; }")}
  none = largestOf(none, lane);
  finite = largestOf(finite, lane);
  let isSound = none == 0.0 && finite > 0.0;
  let normalizer = logSumExp(start, lane);
  if (lane == 0u) {
    let logprob = bitcast<u32>(logits[start + id] - normalizer);
    results[call[grid.list + unit * 2u + 1u]] = select(undefined_, logprob, isSound && isFinite(normalizer));
  }
}
`,
  };
}
