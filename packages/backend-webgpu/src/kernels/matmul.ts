// matmul: every linear map of the model, with the norm in front of it, its bias, and what the model does with the result.
//
//   store     result[t] = map(x[t])                      queries, keys and values; the router
//   residual  stream[t] = gate ⊙ stream[t] + map(x[t])   the ends of both sublayers
//   gated     result[t] = swiglu(map(x[t]), map2(x[t]))  the feed-forward's first half
//   head      result[r] = map(x[outs[r]])                logits of the tokens that need them
//
// A workgroup is 64 threads in four groups of sixteen lanes. The lanes of a group share the columns of a few outputs and a few
// tokens, whose sums each keeps in registers: what it loads of a row is used for every token, and of a token for every row. At
// the end all sums are put into workgroup memory, and after one barrier each thread adds up the lanes of some results. In the
// barrier-free form a lane has all columns of one output.
//
// A packed prompt's blocks are rounded once for the whole workgroup: each group of lanes rounds one of the tokens, for all groups.
//
// A sum runs over its columns in one order whatever the number of tokens: equal tokens give equal bits in a prompt and in a
// step, which the dynamic mask needs. They are different kernels, and WGSL leaves it to a driver whether a product and a sum are rounded
// once or twice: so where one follows the other, fma says once.
import type { Variant } from "../variant.ts";
import { BLOCK, BLOCK_QUADS, decode, decodeBlock, type Format } from "./formats.ts";
import { type Kernel, PRELUDE } from "./kernel.ts";
import { MERGE, MERGED_SHAPE, type Merge } from "./merge.ts";
import { INTEGERS, SQUARED, SQUARED_APART, SUMMED, SUMMED_APART } from "./products.ts";
import { SWIGLU } from "./swiglu.ts";

type Ending = "store" | "residual" | "gated" | "head";
/** For one token, or for more: a prompt, texts side by side. */
export type Span = "one" | "many";
export interface MatmulKind {
  readonly format: Format;
  readonly ending: Ending;
  /** RMSNorm of x first. */
  readonly norm: boolean;
  readonly span: Span;
  /** x is one token's attention in slices (slices.ts), which become one first; left out: x is as it is. */
  readonly merge?: Merge;
}

const THREADS = 64;
const GROUPS = 4;

/** Tokens and outputs of one lane. Their product are sums in registers, so a kernel with two matrices takes half the outputs.
 *  Rounding a token's block to 8 bits costs as much as several outputs, so packed kernels take no fewer than two of them. The head has
 *  outputs enough for every processor of a GPU when a lane takes many. */
export interface Tile {
  readonly tokens: number;
  readonly rows: number;
}
const HEAD: { readonly plain: Tile; readonly packed: Tile } = {
  plain: { tokens: 1, rows: 4 },
  packed: { tokens: 1, rows: 8 },
};
const TILES: { readonly [span in Span]: { readonly plain: Tile; readonly packed: Tile } } = {
  one: { plain: { tokens: 1, rows: 1 }, packed: { tokens: 1, rows: 2 } },
  many: { plain: { tokens: 4, rows: 4 }, packed: { tokens: 4, rows: 4 } },
};
export const SPANS: readonly Span[] = ["one", "many"];

/** Which matmul some tokens go through. */
export const spanOf = (tokens: number): Span => (tokens === 1 ? "one" : "many");

const isPacked = (variant: Variant, format: Format): boolean => variant.packed && format.scaled;

export function tileOf(variant: Variant, format: Format, span: Span, ending: Ending): Tile {
  const tiles = ending === "head" && span === "one" ? HEAD : TILES[span];
  const { tokens, rows } = tiles[isPacked(variant, format) ? "packed" : "plain"];
  return { tokens, rows: variant.serial ? 1 : Math.max(1, ending === "gated" ? rows / 2 : rows) };
}

/** Outputs of one workgroup. */
export const outputsOf = (variant: Variant, { rows }: Tile): number => (variant.serial ? THREADS : GROUPS * rows);

/** Fewest outputs of a workgroup. */
export const outputsPerGroup = (variant: Variant): number => (variant.serial ? THREADS : GROUPS);

export function matmul(variant: Variant, { format, ending, norm, span, merge }: MatmulKind): Kernel {
  const two = ending === "gated";
  /** A step waits for what it reads, one thing after the other, longer than for all of it at once: so what is updated, and whether there
   *  is a token at all, is asked for first and looked at last. */
  const early = span === "one" && !variant.serial;
  const updates = early && ending === "residual";
  const source = merge !== undefined ? "merged" : "x";
  const packed = isPacked(variant, format);
  const tile = tileOf(variant, format, span, ending);
  const { tokens, rows } = tile;
  const outputs = outputsOf(variant, tile);
  const lanes = variant.serial ? 1 : THREADS / GROUPS;
  /** Blocks are rounded by the group of lanes that has the token's number, and shared. */
  const shelved = packed && !variant.serial && tokens === GROUPS;
  const bindings: Kernel["bindings"][number][] = [
    merge !== undefined ? "write" : "read",
    "read",
    "write",
    "uniform",
    "read",
  ];
  const declared: string[] = [];
  const type = packed ? "vec4u" : format.type;
  const buffer = (name: string, type: string) => {
    declared.push(`@group(0) @binding(${bindings.length}) var<storage, read> ${name}: array<${type}>;`);
    bindings.push("read");
  };
  if (format.scaled) buffer("scales", "f32");
  if (two) buffer("weights2", type);
  if (two && format.scaled) buffer("scales2", "f32");
  if (merge !== undefined) {
    declared.push(`@group(0) @binding(${bindings.length}) var<storage, read_write> meta_: array<u32>;`);
    bindings.push("write");
  }
  const matrices = two ? ["a", "b"] : ["a"];
  /** The same statement for every token, every output, both: arrays that are indexed by a variable leave registers. */
  const count = (length: number, statement: (index: number) => string) =>
    Array.from({ length }, (_, index) => statement(index)).join("\n  ");
  const eachToken = (statement: (token: number) => string) => count(tokens, statement);
  const eachRow = (statement: (row: number) => string) => count(rows, statement);
  const eachSum = (statement: (matrix: string, row: number, token: number) => string) =>
    matrices.map((matrix) => eachRow((row) => eachToken((token) => statement(matrix, row, token)))).join("\n  ");
  // A software adapter works on four independent sums at once, a GPU has other threads for that and too few registers.
  const sum = variant.serial && !packed ? "vec4f" : "f32";
  const place = ending === "head" ? "call[grid.outsAt + token]" : "(grid.base + token)";
  const weightsOf = (matrix: string) => (matrix === "a" ? "weights" : "weights2");
  const scalesOf = (matrix: string) => (matrix === "a" ? "scales" : "scales2");

  const quads = /* wgsl */ `
  for (var quad = lane; quad < shape.quads; quad += LANES) {
    ${norm ? "let n = vectors[(shape.normAt >> 2u) + quad];" : ""}
    ${eachToken(
      (token) => `let x${token} = ${source}[from${token} + quad];
  ${norm ? `q${token} = squared(x${token}, q${token}); let h${token} = x${token} * n;` : `let h${token} = x${token};`}`,
    )}
    ${matrices
      .map((matrix) =>
        eachRow(
          (row) => `let ${matrix}w${row} = ${weightsOf(matrix)}At(row${row}, quad, shape.quads);
  ${eachToken((token) => `${matrix}${row}_${token} = added(${matrix}w${row}, h${token}, ${matrix}${row}_${token});`)}`,
        ),
      )
      .join("\n    ")}
  }`;
  /** Weights are asked for before a token's block is rounded, which takes long enough for them to come. */
  const loadBlock = matrices
    .map((matrix) =>
      eachRow(
        (row) => `let ${matrix}w${row} = ${weightsOf(matrix)}At(row${row}, block, shape.quads);
  let ${matrix}s${row} = ${scalesOf(matrix)}[row${row} * (shape.quads / ${BLOCK_QUADS}u) + block];`,
      ),
    )
    .join("\n    ");
  const multiplyBlock = eachSum(
    (matrix, row, token) =>
      `${matrix}${row}_${token} = fma(multiplied(${matrix}w${row}, p${token}), ${matrix}s${row} * p${token}.scale, ${matrix}${row}_${token});`,
  );
  const round = (token: string, squares: string) =>
    `rounded(from${token} + block * ${BLOCK_QUADS}u, block * ${BLOCK_QUADS}u${norm ? `, ${squares}` : ""})`;
  const blocks = shelved
    ? /* wgsl */ `
  let blocks = shape.quads / ${BLOCK_QUADS}u;
  let fromOwn = xFrom(min(firstToken + mine, count - 1u));
  for (var first = 0u; first < blocks; first += LANES) {
    let block = first + lane;
    if (block < blocks) {
      let p = ${round("Own", "q")};
      ${norm ? "q = p.squares;" : ""}
      shelf[thread] = Shelved(p.left, p.right, p.scale);
    }
    workgroupBarrier();
    if (block < blocks) {
      ${eachToken((token) => `let p${token} = shelf[${token}u * LANES + lane];`)}
      ${loadBlock}
      ${multiplyBlock}
    }
    workgroupBarrier();
  }`
    : /* wgsl */ `
  for (var block = lane; block < shape.quads / ${BLOCK_QUADS}u; block += LANES) {
    ${loadBlock}
    ${eachToken((token) => `let p${token} = ${round(`${token}`, `q${token}`)};\n  ${norm ? `q${token} = p${token}.squares;` : ""}`)}
    ${multiplyBlock}
  }`;
  const square = variant.serial ? "vec4f" : "f32";
  const integers = `${INTEGERS(format, { source, norm, square, kept: shelved ? "Shelved" : "Rounded" })}
${shelved ? `var<workgroup> shelf: array<Shelved, ${THREADS}>;` : ""}`;
  /** What is updated: a number of the stream, or its addends. */
  const addends = merge?.addends ?? 0;
  const askBefore =
    addends === 0
      ? "let before = result[grid.base * shape.resultStride + own];"
      : count(
          addends,
          (i) => `let before${i} = result[shape.streamAt + min(${i}u, shape.addends - 1u) * shape.resultStride + own];`,
        );
  const addBefore = count(addends, (i) =>
    i === 0 ? "var before = before0;" : `before += select(0.0, before${i}, ${i}u < shape.addends);`,
  );
  const write = {
    store: "result[at] = first;",
    head: "result[at] = first;",
    residual: `result[at] = fma(vector(shape.gateAt + output), ${updates ? "before" : "result[at]"}, first);`,
    gated:
      "result[at] = swiglu(first, fma(b, scale, select(0.0, vector(shape.bias2At + output), shape.biased != 0u)));",
  }[ending];
  const perGroup = tokens * outputs;
  return {
    name: `matmul ${format.name}${packed ? " packed" : ""} ${ending}${norm ? " norm" : ""}${merge !== undefined ? ` merge ${merge.slices} of ${merge.widest} and ${merge.addends}` : ""} ${span}`,
    bindings,
    call: ["read"],
    code: /* wgsl */ `${packed ? "requires packed_4x8_integer_dot_product;\n" : ""}${PRELUDE}${SWIGLU}
struct Shape {
  inner: u32, quads: u32, xStride: u32, firstRow: u32, rows: u32, resultStride: u32,
  normAt: u32, biasAt: u32, bias2At: u32, gateAt: u32, biased: u32, epsilon: f32,${merge !== undefined ? MERGED_SHAPE : ""}
}
@group(0) @binding(0) var<storage, ${merge !== undefined ? "read_write" : "read"}> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> weights: array<${type}>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(0) @binding(4) var<storage, read> vectors: array<vec4f>;
${declared.join("\n")}
@group(1) @binding(1) var<storage, read> call: array<u32>;
${packed ? BLOCK : ""}
${matrices
  .map((matrix) =>
    packed
      ? decodeBlock(format, weightsOf(matrix), `${weightsOf(matrix)}At`)
      : decode(format, weightsOf(matrix), (at) => `${scalesOf(matrix)}[${at}]`, `${weightsOf(matrix)}At`),
  )
  .join("\n")}
const LANES: u32 = ${lanes}u;
fn vector(at: u32) -> f32 { return vectors[at >> 2u][at & 3u]; }
${sum === "vec4f" ? SUMMED_APART : SUMMED}
${square === "vec4f" ? SQUARED_APART : SQUARED}
${packed ? integers : ""}
${merge !== undefined ? MERGE(merge, THREADS) : `fn xFrom(token: u32) -> u32 { return ${place} * (shape.xStride >> 2u); }`}
/** One result: the sum, that of the second matrix, the sum of squares${updates ? ", what stood there before" : ""}. */
fn finish(token: u32, row: u32, a: f32, b: f32, squares: f32${updates ? ", before: f32" : ""}) {
  if (token >= ${ending === "head" ? "grid.outs" : "grid.count"} || row >= shape.rows) { return; }
  let output = shape.firstRow + row;
  let at = (${ending === "head" ? "" : "grid.base + "}token) * shape.resultStride + output;
  let scale = ${norm ? "inverseSqrt(fma(squares, 1.0 / f32(shape.inner), shape.epsilon))" : "1.0"};
  let first = fma(a, scale, select(0.0, vector(shape.biasAt + output), shape.biased != 0u));
  ${write}
}
${
  variant.serial
    ? ""
    : /* wgsl */ `
// Lanes of one sum stand together and sums 17 apart, so that threads that add up neighbouring ones meet in no bank.
var<workgroup> meeting: array<f32, ${17 * GROUPS * (rows * tokens * matrices.length) + (norm ? 17 * tokens * (shelved ? 1 : GROUPS) : 0)}>;
fn lanesOf(sum: u32) -> f32 {
  var all = meeting[sum * 17u];
  for (var lane = 1u; lane < LANES; lane++) { all += meeting[sum * 17u + lane]; }
  return all;
}`
}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  ${early ? "let idle = grid.count == 1u && call[grid.first] == IDLE;" : "if (grid.count == 1u && call[grid.first] == IDLE) { return; }"}
  let count = ${ending === "head" ? "grid.outs" : "grid.count"};
  let lane = thread % LANES;
  let mine = thread / LANES;
  let firstRow = group.x * ${outputs}u;
  let firstToken = group.y * ${tokens}u;
  ${eachRow((row) => `let row${row} = min(firstRow + ${row * GROUPS}u + mine, shape.rows - 1u);`)}
  ${eachToken((token) => `let from${token} = xFrom(min(firstToken + ${token}u, count - 1u));`)}
  ${eachSum((matrix, row, token) => `var ${matrix}${row}_${token} = ${sum}();`)}
  ${!norm ? "" : shelved ? `var q = ${square}();` : eachToken((token) => `var q${token} = ${square}();`)}
  ${
    updates
      ? `let own = shape.firstRow + min(firstRow + thread % ${outputs}u, shape.rows - 1u);
  ${askBefore}`
      : ""
  }
  ${merge !== undefined ? "mergeAll(thread, group.x == 0u && !idle);" : ""}
  ${packed ? blocks : quads}
  ${variant.serial ? alone() : together()}
}
`,
  };

  /** Barrier-free: a thread has whole sums. */
  function alone(): string {
    const whole = (name: string, kind: string) =>
      kind === "f32" ? name : `((${name}.x + ${name}.y) + (${name}.z + ${name}.w))`;
    return eachToken((token) => {
      const b = two ? whole(`b0_${token}`, sum) : "0.0";
      return `finish(firstToken + ${token}u, firstRow + mine, ${whole(`a0_${token}`, sum)}, ${b}, ${norm ? whole(`q${token}`, square) : "0.0"});`;
    });
  }

  /** The sums of a workgroup in the order of tokens, then outputs; those of the second matrix; of squares, by token and group. */
  function together(): string {
    const put = (at: number, name: string) => `meeting[(${at * GROUPS}u + mine) * 17u + lane] = ${name};`;
    const squaresAt = matrices.length * perGroup;
    return /* wgsl */ `
  ${eachSum((matrix, row, token) => put((matrix === "b" ? rows * tokens : 0) + token * rows + row, `${matrix}${row}_${token}`))}
  ${!norm ? "" : shelved ? `meeting[(${squaresAt}u + mine) * 17u + lane] = q;` : eachToken((token) => put(matrices.length * rows * tokens + token, `q${token}`))}
  workgroupBarrier();
  ${early ? "if (idle) { return; }" : ""}
  ${addBefore}
  for (var one = thread; one < ${perGroup}u; one += ${THREADS}u) {
    let token = one / ${outputs}u;
    let row = one % ${outputs}u;
    finish(firstToken + token, firstRow + row, lanesOf(one), ${two ? `lanesOf(${perGroup}u + one)` : "0.0"}, ${!norm ? "0.0" : shelved ? `lanesOf(${squaresAt}u + token)` : `lanesOf(${squaresAt}u + token * ${GROUPS}u + row % ${GROUPS}u)`}${updates ? ", before" : ""});
  }`;
  }
}
