// project: a team's rows of one matrix or two times the stream, with RMSNorm in front, for a single token. A part of slices.ts and mlp.ts: it
// is told by whom the rows are chosen, and leaves its outputs in workgroup memory.
//
// Eight lanes share the columns of four rows at a time. The stream is made ready once for all of them: with the norm's weights in it, and
// in the packed form rounded to 8 bits. The first weights are asked for before that, which takes long enough for them to come.
import { BLOCK, BLOCK_QUADS, decode, decodeBlock, type Format } from "./formats.ts";
import { SIZE } from "./page.ts";
import { INTEGERS, SQUARED, SUMMED } from "./products.ts";

/** Numbers of the stream that a team has memory for. */
export const WIDEST_STREAM = 1024;
/** Lanes that share the columns of a row, and rows that each of them has at a time. */
const LANES = 8;
const ROWS = 4;
/** Rows of a team at a time. */
export const TURN = (SIZE / LANES) * ROWS;
/** What a kernel with projections has the stream in. There it is made ready, except for the packed form, which needs other types. */
export const STREAM = `var<workgroup> stream: array<vec4f, ${WIDEST_STREAM / 4}>;`;

export interface Projection {
  /** Declarations: `scratch`, which anybody may use before and behind, and what rows and columns are read with. */
  readonly declared: string;
  /** Statements that ask for the first weights. */
  readonly ask: string;
  /** Statements behind them: all outputs, scaled and biased, each given to `keep(output, value)`. */
  readonly multiply: string;
}

/** Functions that read a matrix whose scales stand behind its weights, from `scalesAt` (an expression, in words) on: `matrix`At(row, column,
 *  quads) gives four weights or, packed, a block of 32, whose scale `matrix`Scale(block) gives. */
export function rowsOf(format: Format, packed: boolean, matrix: string, scalesAt: string): string {
  const place = `(${scalesAt} + block)`;
  const word = packed ? `${matrix}[${place} >> 2u][${place} & 3u]` : `${matrix}[${place}]`;
  return `${format.scaled ? `fn ${matrix}Scale(block: u32) -> f32 { return bitcast<f32>(${word}); }` : ""}
${
  packed
    ? decodeBlock(format, matrix, `${matrix}At`)
    : decode(format, matrix, (at) => `${matrix}Scale(${at})`, `${matrix}At`)
}`;
}

/** For kernels with the stream in workgroup memory, `matrices` (their names; scales behind each from shape.scalesAt on), vectors and
 *  functions rowOf(output) and biasOf(output), whose teams have `outputs` (an expression) rows. Of two matrices each has half of a turn. */
export function project(
  format: Format,
  packed: boolean,
  outputs: string,
  matrices: readonly string[] = ["weights"],
): Projection {
  const each = (length: number, statement: (index: number) => string) =>
    Array.from({ length }, (_, index) => statement(index)).join("\n    ");
  const rows = (statement: (row: number) => string) => each(ROWS, statement);
  const places = rows((row) => `let row${row} = rowOf(first + ${row * (SIZE / LANES)}u);`);
  /** Columns are counted in quads, or in blocks; of each of its rows a lane asks for a few at a time. */
  const [end, widest, atOnce] = packed
    ? ["blocks", WIDEST_STREAM / 4 / BLOCK_QUADS, 2]
    : ["shape.quads", WIDEST_STREAM / 4, 4];
  const staged = packed ? "staged" : "stream";
  const turns = (statement: (turn: number) => string) => each(atOnce, statement);
  const weight = (row: number, turn: number) => `w${row}_${turn}`;
  const matrixOf = (row: number) => matrices[Math.floor((row * matrices.length) / ROWS)]!;
  const load = rows((row) =>
    turns((turn) => {
      const at = `min(column + ${turn * LANES}u, ${end} - 1u)`;
      const block = `${weight(row, turn)} = ${matrixOf(row)}At(row${row}, ${at}, shape.quads);`;
      return packed ? `${block} s${row}_${turn} = ${matrixOf(row)}Scale(row${row} * blocks + ${at});` : block;
    }),
  );
  // Behind the last column stand zeros.
  const use = turns(
    (turn) => `let p${turn} = ${staged}[column + ${turn * LANES}u];
    ${rows((row) => {
      const sum = `a${row}`;
      return packed
        ? `${sum} = fma(multiplied(${weight(row, turn)}, p${turn}), s${row}_${turn} * p${turn}.scale, ${sum});`
        : `${sum} = added(${weight(row, turn)}, p${turn}, ${sum});`;
    })}`,
  );
  const stage = /* wgsl */ `for (var at = lane; at < ${widest}u; at += TEAM) {
    if (at < ${end}) {
      ${
        packed
          ? `let p = rounded(at * ${BLOCK_QUADS}u, at * ${BLOCK_QUADS}u, squares);
      squares = p.squares;
      staged[at] = Shelved(p.left, p.right, p.scale);`
          : `let its = stream[at];
      squares = squared(its, squares);
      stream[at] = its * vectors[(shape.normAt >> 2u) + at];`
      }
    } else {
      ${staged}[at] = ${packed ? "Shelved()" : "vec4f()"};
    }
  }`;
  const scratch = TURN * (LANES + 1);
  return {
    declared: /* wgsl */ `
${SUMMED}
${SQUARED}
${matrices.map((matrix) => rowsOf(format, packed, matrix, "shape.scalesAt")).join("\n")}
${packed ? `${BLOCK}${INTEGERS(format, { source: "stream", norm: true, square: "f32", kept: "Shelved" })}` : ""}
${packed ? `var<workgroup> staged: array<Shelved, ${widest}>;` : ""}
var<workgroup> scratch: array<f32, ${scratch}>;`,
    ask: /* wgsl */ `
  ${packed ? `let blocks = shape.quads / ${BLOCK_QUADS}u;` : ""}
  let eighth = lane % ${LANES}u;
  ${rows((row) => turns((turn) => (packed ? `var ${weight(row, turn)}: Block; var s${row}_${turn}: f32;` : `var ${weight(row, turn)}: vec4f;`)))}
  var first = lane / ${LANES}u;
  var column = eighth;
  {
    ${places}
    ${load}
  }`,
    multiply: /* wgsl */ `
  var squares = 0.0;
  ${stage}
  let scale = inverseSqrt(fma(sumOf(squares, lane), 1.0 / f32(shape.inner), shape.epsilon));
  for (var done = 0u; done < ${outputs}; done += ${TURN}u) {
    first = done + lane / ${LANES}u;
    ${places}
    if (done > 0u) {
      column = eighth;
      ${load}
    }
    ${rows((row) => `var a${row} = 0.0;`)}
    loop {
      ${use}
      column += ${LANES * atOnce}u;
      if (column >= ${end}) { break; }
      ${load}
    }
    // The lanes of a row stand together, rows apart by one more, so that threads that add them up meet in no bank.
    ${rows((row) => `scratch[(lane / ${LANES}u + ${row * (SIZE / LANES)}u) * ${LANES + 1}u + eighth] = a${row};`)}
    gather();
    let output = done + lane;
    if (lane < ${TURN}u && output < ${outputs}) {
      let at = lane * ${LANES + 1}u;
      let all = ${Array.from({ length: LANES }, (_, part) => `scratch[at + ${part}u]`).join(" + ")};
      keep(output, fma(all, scale, biasOf(output)));
    }
    gather();
  }`,
  };
}
