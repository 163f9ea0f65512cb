// What all kernels share: how one is declared, and the WGSL for teams of threads that share a sum.
import type { Variant } from "../variant.ts";

/** Read-only storage, storage that is written, a uniform. */
export type Binding = "read" | "write" | "uniform";
export interface Kernel {
  readonly name: string;
  readonly code: string;
  /** Group 0, by number: weights, activations, the cache. */
  readonly bindings: readonly Binding[];
  /** Group 1: binding 0 is the uniform of the dispatch (Dispatch below), 1 the call, 2 its results. */
  readonly call: readonly ("read" | "write")[];
}

/** One token of a call, as the kernels read it; see call.ts. */
export const PRELUDE = /* wgsl */ `
struct Dispatch {
  count: u32,    // tokens
  first: u32,    // word of the first token's record
  base: u32,     // its place in the activations
  outs: u32,     // tokens whose logits are wanted
  outsAt: u32,   // word of the list of their places
  span: u32,     // tokens routed together, 0: each by itself
  list: u32,     // word of a list: stretches of one sequence, or pages to reset
  listed: u32,   // its entries
  step: u32,     // draws before this one in this submit
  rows: u32,
  rowsAt: u32,
  width: u32,    // words of a result
}
@group(1) @binding(0) var<uniform> grid: Dispatch;
const NOBODY: u32 = 0x7fffffffu;
const IDLE: u32 = 0xffffffffu; // the id of a token that is none
`;

/** Before everything else in a kernel with teams. */
export const header = (variant: Variant): string =>
  variant.subgroups ? "enable subgroups;\nrequires subgroup_id;\n" : "";

type Join = (left: string, right: string) => string;
const plus: Join = (left, right) => `(${left} + ${right})`;
const larger: Join = (left, right) => `max(${left}, ${right})`;

/** Threads that work on one unit, and the functions by which they meet: meet() where they share what is stored, which waits for the
 *  stores to arrive; gather() where they share workgroup memory alone. In the serial form a team is one thread, its shared
 *  memory is private and nothing has to be waited for. `uniform` memory is read as the same by all. */
export function team(variant: Variant, size: number): string {
  if (variant.serial) {
    return /* wgsl */ `
const TEAM: u32 = 1u;
fn meet() {}
fn gather() {}
fn sumOf(value: f32, lane: u32) -> f32 { return value; }
fn largestOf(value: f32, lane: u32) -> f32 { return value; }
`;
  }
  if (variant.subgroups) {
    // Subgroups of whatever size: each sums its own, then every thread sums those, as one tree of pairs. A prompt and a step are two
    // kernels, which must agree to the bit, and a driver may give them subgroups of two sizes; subgroupAdd leaves even the order to
    // it. Two places in turn, so that who is still reading the last sum is not disturbed by the next.
    const steps = [1, 2, 4, 8, 16, 32, 64].filter((step) => step < size); // subgroups have 4 to 128 threads, a power of two
    const pairs = steps.filter((step) => step < size / 4); // where the subgroups of each level of the tree begin
    const tree = (join: Join, first: number, count: number): string =>
      count === 1
        ? `meeting[side + ${first}u]`
        : join(tree(join, first, count / 2), tree(join, first + count / 2, count / 2));
    const whole = (name: string, join: Join) => /* wgsl */ `
fn ${name}(value: f32, lane: u32) -> f32 {
  var part = value;
  ${steps.map((step) => `part = select(part, ${join("part", `subgroupShuffleXor(part, ${step}u)`)}, ${step}u < subgroupWidth);`).join("\n  ")}
  side ^= ${size}u;
  if (subgroupElect()) { meeting[side + subgroupOwn] = part; }
  workgroupBarrier();
  var all = meeting[side];
  ${pairs.map((first) => `if (subgroupCount > ${first}u) { all = ${join("all", tree(join, first, first))}; }`).join("\n  ")}
  return all;
}
`;
    return /* wgsl */ `
const TEAM: u32 = ${size}u;
var<private> subgroupOwn: u32;
var<private> subgroupCount: u32;
var<private> subgroupWidth: u32;
var<private> side: u32 = 0u;
var<workgroup> meeting: array<f32, ${2 * size}>;
fn meet() { storageBarrier(); workgroupBarrier(); }
fn gather() { workgroupBarrier(); }
${whole("sumOf", plus)}
${whole("largestOf", larger)}
`;
  }
  const tree = (name: string, join: Join) => /* wgsl */ `
fn ${name}(value: f32, lane: u32) -> f32 {
  meeting[lane] = value;
  workgroupBarrier();
  for (var half = TEAM / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { meeting[lane] = ${join("meeting[lane]", "meeting[lane + half]")}; }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&meeting[0]);
}
`;
  return /* wgsl */ `
const TEAM: u32 = ${size}u;
var<workgroup> meeting: array<f32, ${size}>;
fn meet() { storageBarrier(); workgroupBarrier(); }
fn gather() { workgroupBarrier(); }
${tree("sumOf", plus)}
${tree("largestOf", larger)}
`;
}

/** The head of a kernel whose unit is a team: `unit` and `lane` are known in its body. */
export const entry = (variant: Variant, size: number): string =>
  variant.serial
    ? /* wgsl */ `@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let unit = place.x;
  let lane = 0u;`
    : /* wgsl */ `@compute @workgroup_size(${size})
fn main(@builtin(workgroup_id) place: vec3u, @builtin(local_invocation_index) lane: u32${
        variant.subgroups
          ? ", @builtin(subgroup_id) ownSubgroup: u32, @builtin(num_subgroups) subgroups: u32, @builtin(subgroup_size) width: u32"
          : ""
      }) {
  ${variant.subgroups ? "subgroupOwn = ownSubgroup;\n  subgroupCount = subgroups;\n  subgroupWidth = width;" : ""}
  let unit = place.x;`;

/** Workgroups for so many units. */
export const unitsToGroups = (variant: Variant, units: number): number =>
  variant.serial ? Math.ceil(units / 32) : units;

/** Memory that a team shares. */
export const shared = (variant: Variant): string => (variant.serial ? "private" : "workgroup");
