// mlp: the dense feed-forward of a single text's step, in one dispatch: gate and up with the norm in front of them, what becomes of both, and
// its columns of down_proj.
//
// A team has 64 of the numbers between the two halves, so that nothing but its own is needed for its columns of down_proj, which it multiplies
// by all rows. What it leaves is an addend of the next stream; whoever reads the stream next adds up all of them (slices.ts, merge.ts). The
// first team's has in it what the layer keeps of the stream, and the bias.
//
// For the streams that slices.ts takes; its packed form rounds the same blocks as matmul.ts.
import type { Variant } from "../variant.ts";
import { BLOCK_QUADS, type Format } from "./formats.ts";
import { entry, header, type Kernel, PRELUDE, team } from "./kernel.ts";
import { SIZE } from "./page.ts";
import { ROUNDED } from "./products.ts";
import { project, rowsOf, STREAM, TURN } from "./project.ts";
import { SWIGLU } from "./swiglu.ts";

/** Numbers between the halves that a team has: a turn of rows is theirs of gate and of up. */
export const WIDTH = TURN / 2;
const QUADS = WIDTH / 4;
const BLOCKS = QUADS / BLOCK_QUADS;

export function mlp(variant: Variant, format: Format): Kernel {
  const packed = variant.packed && format.scaled;
  const projection = project(format, packed, `${TURN}u`, ["gate", "up"]);
  const each = (length: number, statement: (index: number) => string) =>
    Array.from({ length }, (_, index) => statement(index)).join("\n    ");
  const type = packed ? "vec4u" : format.type;
  const place = (index: number) =>
    `min(unit * ${packed ? BLOCKS : QUADS}u + ${index}u, ${packed ? "downBlocks" : "shape.downQuads"} - 1u)`;
  const count = packed ? BLOCKS : QUADS;
  /** A row of down_proj. Where it takes few registers, the first is asked for before anything is waited for. */
  const declareRow = each(count, (i) => (packed ? `var w${i}: Block; var s${i}: f32;` : `var w${i}: vec4f;`));
  const askRow = each(
    count,
    (i) =>
      `w${i} = downAt(row, ${place(i)}, shape.downQuads);${packed ? ` s${i} = downScale(row * downBlocks + ${place(i)});` : ""}`,
  );
  return {
    name: `mlp ${format.name}${packed ? " packed" : ""}`,
    bindings: ["write", "read", "read", "read", "uniform", "read"],
    call: ["read"],
    code: /* wgsl */ `${header(variant)}${packed ? "requires packed_4x8_integer_dot_product;\n" : ""}${PRELUDE}${team(variant, SIZE)}${SWIGLU}
struct Shape {
  inner: u32, quads: u32, width: u32, downQuads: u32, normAt: u32, gateBiasAt: u32, upBiasAt: u32, downBiasAt: u32,
  residualAt: u32, biased: u32, epsilon: f32, scalesAt: u32, downScalesAt: u32, streamAt: u32, stride: u32,
}
/** The stream, and its next addends from streamAt on. */
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> gate: array<${type}>;
@group(0) @binding(2) var<storage, read> up: array<${type}>;
@group(0) @binding(3) var<storage, read> down: array<${type}>;
@group(0) @binding(4) var<uniform> shape: Shape;
@group(0) @binding(5) var<storage, read> vectors: array<vec4f>;
fn vector(at: u32) -> f32 { return vectors[at >> 2u][at & 3u]; }
${STREAM}${projection.declared}
${rowsOf(format, packed, "down", "shape.downScalesAt")}
/** Gate and up of the team's numbers, and what becomes of both. */
var<workgroup> both: array<f32, ${TURN}>;
var<workgroup> between: array<vec4f, ${QUADS}>;
${packed ? `var<workgroup> roundedBetween: array<Shelved, ${BLOCKS}>;\n${ROUNDED(format, { source: "between", norm: false, square: "f32" }, "roundedBlock")}` : ""}
var<private> firstNumber: u32;
fn rowOf(output: u32) -> u32 { return min(firstNumber + output % ${WIDTH}u, shape.width - 1u); }
fn biasOf(output: u32) -> f32 {
  return select(0.0, vector(select(shape.gateBiasAt, shape.upBiasAt, output >= ${WIDTH}u) + rowOf(output)), shape.biased != 0u);
}
fn keep(output: u32, value: f32) { both[output] = value; }
${entry(variant, SIZE)}
  firstNumber = unit * ${WIDTH}u;
  ${projection.ask}
  ${packed ? `let downBlocks = shape.downQuads / ${BLOCK_QUADS}u;` : ""}
  ${declareRow}
  var row = lane;
  ${packed ? `if (row < shape.inner) { ${askRow} }` : ""}
  for (var quad = lane; quad < shape.quads; quad += TEAM) {
    stream[quad] = vec4f(${each(4, (c) => `x[quad * 4u + ${c}u]${c < 3 ? "," : ""}`)});
  }
  gather();
  ${projection.multiply}
  if (lane < ${QUADS}u) {
    ${each(4, (c) => `let i${c} = lane * 4u + ${c}u;\n    let a${c} = select(0.0, swiglu(both[i${c}], both[${WIDTH}u + i${c}]), firstNumber + i${c} < shape.width);`)}
    between[lane] = vec4f(a0, a1, a2, a3);
  }
  gather();
  ${
    packed
      ? `if (lane < ${BLOCKS}u) {
    let p = roundedBlock(lane * ${BLOCK_QUADS}u, 0u);
    roundedBetween[lane] = Shelved(p.left, p.right, p.scale);
  }
  gather();`
      : ""
  }
  while (row < shape.inner) {
    ${packed ? "" : askRow}
    var sum = 0.0;
    ${each(count, (i) =>
      packed
        ? `sum = fma(multiplied(w${i}, roundedBetween[${i}]), s${i} * roundedBetween[${i}].scale, sum);`
        : `sum = added(w${i}, between[${i}], sum);`,
    )}
    if (unit == 0u) {
      sum += fma(vector(shape.residualAt + row), x[row], select(0.0, vector(shape.downBiasAt + row), shape.biased != 0u));
    }
    x[shape.streamAt + unit * shape.stride + row] = sum;
    row += TEAM;
    ${packed ? `if (row < shape.inner) { ${askRow} }` : ""}
  }
}
`,
  };
}
