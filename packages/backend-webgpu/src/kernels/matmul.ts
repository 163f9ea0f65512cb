// matmul: every linear map of the model, with the norm in front of it, its bias, and what the model does with the result.
//
//   store     result[t] = map(x[t])                      queries, keys and values; the router
//   residual  stream[t] = gate ⊙ stream[t] + map(x[t])   the ends of both sublayers
//   gated     result[t] = swiglu(map(x[t]), map2(x[t]))  the feed-forward's first half
//   head      result[r] = map(x[outs[r]])                logits of the tokens that need them
//
// A sum runs over its columns in one order whatever the number of tokens: equal tokens give equal bits in a prompt and in a
// step, which the dynamic mask needs.
import type { Variant } from "../variant.ts";
import { decode, type Format } from "./formats.ts";
import { type Kernel, PRELUDE } from "./kernel.ts";
import { SWIGLU } from "./swiglu.ts";

type Ending = "store" | "residual" | "gated" | "head";
export interface MatmulKind {
  readonly format: Format;
  readonly ending: Ending;
  /** RMSNorm of x first. */
  readonly norm: boolean;
  /** Tokens of one workgroup: its weights are read once for all of them. */
  readonly tokens: number;
}

/** Outputs of one workgroup. */
export const outputsPerGroup = (variant: Variant): number => (variant.serial ? 64 : 4);

export function matmul(variant: Variant, { format, ending, norm, tokens }: MatmulKind): Kernel {
  const two = ending === "gated";
  const outputs = outputsPerGroup(variant);
  const lanes = 64 / outputs;
  const scales = format.scaled;
  const bindings: Kernel["bindings"][number][] = ["read", "read", "write", "uniform", "read"];
  const declared: string[] = [];
  const buffer = (name: string, type: string) => {
    declared.push(`@group(0) @binding(${bindings.length}) var<storage, read> ${name}: array<${type}>;`);
    bindings.push("read");
  };
  if (scales) buffer("scales", "f32");
  if (two) buffer("weights2", format.type);
  if (two && scales) buffer("scales2", "f32");
  /** The same statement for every token of the workgroup: arrays that are indexed by a variable leave registers. */
  const each = (statement: (token: number) => string) =>
    Array.from({ length: tokens }, (_, token) => statement(token)).join("\n");
  const sums = [...(two ? ["a", "b"] : ["a"]), ...(norm ? ["q"] : [])];
  const place = ending === "head" ? "call[grid.outsAt + token]" : "(grid.base + token)";
  const loadX = (token: number) => /* wgsl */ `
    let x${token} = x[from${token} + quad];
    ${norm ? `q${token} = fma(x${token}, x${token}, q${token}); let h${token} = x${token} * n;` : `let h${token} = x${token};`}
    a${token} = fma(w, h${token}, a${token});
    ${two ? `b${token} = fma(w2, h${token}, b${token});` : ""}`;
  const reduce = (token: number) => /* wgsl */ `
  ${sums
    .map(
      (sum) => `var ${sum}s${token} = (${sum}${token}.x + ${sum}${token}.y) + (${sum}${token}.z + ${sum}${token}.w);
  ${variant.serial ? "" : `${sum}s${token} = together(${sum}s${token}, thread, lane);`}`,
    )
    .join("\n  ")}`;
  const finish = (token: number) => {
    const scaled = (sum: string) => (norm ? `${sum}s${token} * scale` : `${sum}s${token}`);
    const first = `${scaled("a")} + select(0.0, vectors[shape.biasAt + output], shape.biased != 0u)`;
    const second = `${scaled("b")} + select(0.0, vectors[shape.bias2At + output], shape.biased != 0u)`;
    const write = {
      store: `result[at] = ${first};`,
      head: `result[at] = ${first};`,
      residual: `result[at] = fma(vectors[shape.gateAt + output], result[at], ${first});`,
      gated: `result[at] = swiglu(${first}, ${second});`,
    }[ending];
    return /* wgsl */ `
  if (token0 + ${token}u < count) {
    ${norm ? `let scale = inverseSqrt(qs${token} / f32(shape.inner) + shape.epsilon);` : ""}
    let at = (${ending === "head" ? "" : "grid.base + "}token0 + ${token}u) * shape.resultStride + output;
    ${write}
  }`;
  };
  return {
    name: `matmul ${format.name} ${ending}${norm ? " norm" : ""} x${tokens}`,
    bindings,
    call: ["read"],
    code: /* wgsl */ `${PRELUDE}${SWIGLU}
struct Shape {
  inner: u32, quads: u32, xStride: u32, firstRow: u32, rows: u32, resultStride: u32,
  normAt: u32, biasAt: u32, bias2At: u32, gateAt: u32, biased: u32, epsilon: f32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> weights: array<${format.type}>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
${declared.join("\n")}
@group(1) @binding(1) var<storage, read> call: array<u32>;
${decode(format, "weights", "scales", "weightAt")}
${two ? decode(format, "weights2", "scales2", "weightAt2") : ""}
const LANES: u32 = ${lanes}u;
${
  variant.serial
    ? ""
    : /* wgsl */ `
var<workgroup> meeting: array<f32, 64>;
fn together(value: f32, thread: u32, lane: u32) -> f32 {
  meeting[thread] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { meeting[thread] += meeting[thread + half]; }
    workgroupBarrier();
  }
  let sum = meeting[thread - lane];
  workgroupBarrier();
  return sum;
}`
}
fn xFrom(token: u32) -> u32 { return ${place} * (shape.xStride >> 2u); }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  if (grid.count == 1u && call[grid.first] == IDLE) { return; }
  let count = ${ending === "head" ? "grid.outs" : "grid.count"};
  let lane = thread % LANES;
  let row = group.x * ${outputs}u + thread / LANES;
  let token0 = group.y * ${tokens}u;
  let safe = min(row, shape.rows - 1u);
  ${each((token) => `let from${token} = xFrom(min(token0 + ${token}u, count - 1u));`)}
  ${each((token) => sums.map((sum) => `var ${sum}${token} = vec4f();`).join(" "))}
  for (var quad = lane; quad < shape.quads; quad += LANES) {
    let w = weightAt(safe, quad, shape.quads);
    ${two ? "let w2 = weightAt2(safe, quad, shape.quads);" : ""}
    ${norm ? "let n4 = shape.normAt + quad * 4u; let n = vec4f(vectors[n4], vectors[n4 + 1u], vectors[n4 + 2u], vectors[n4 + 3u]);" : ""}
    ${each(loadX)}
  }
  ${each(reduce)}
  if (row >= shape.rows || lane != 0u) { return; }
  let output = shape.firstRow + row;
  ${each(finish)}
}
`,
  };
}
