// Pages of keys as a whole: their sizes, and the two kernels that forget and copy them. What stands in one: attention.ts.
import { type Kernel, PRELUDE } from "./kernel.ts";

/** Tokens for which an evicted key is kept: a rewind of that depth is a filter. */
export const JOURNAL = 64;
/** Slots of a page. */
export const PAGE = 16;
/** Threads of a team of attention, and slots of a chunk. */
export const SIZE = 256;

/** Where a slot's numbers stand in meta_, and how long a page is there. */
export const META = /* wgsl */ `
fn metaStride() -> u32 { return (shape.biasHeads + 2u * shape.kvHeads) * PAGE; }
fn biasAt(slot: u32, page: u32, head: u32) -> u32 { return page * metaStride() + head * PAGE + slot % PAGE; }
fn positionAt(slot: u32, page: u32, kv: u32) -> u32 { return biasAt(slot, page, shape.biasHeads + kv); }
fn evictedAt(slot: u32, page: u32, kv: u32) -> u32 { return biasAt(slot, page, shape.biasHeads + shape.kvHeads + kv); }
`;

/** Forgets keys in pages, for a sequence that was rewound or a page that is new: those of tokens from a length on, and what
 *  such tokens evicted. List entries: page, length. One thread for a slot. With a window only. */
export const reset: Kernel = {
  name: "attention reset",
  bindings: ["write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}
struct Shape { kvHeads: u32, biasHeads: u32 }
@group(0) @binding(0) var<storage, read_write> meta_: array<u32>;
@group(0) @binding(1) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
@compute @workgroup_size(${PAGE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) slot: u32) {
  let page = call[grid.list + group.x * 2u];
  let length = call[grid.list + group.x * 2u + 1u];
  let stride = (shape.biasHeads + 2u * shape.kvHeads) * ${PAGE}u;
  for (var kv = 0u; kv < shape.kvHeads; kv++) {
    let at = page * stride + (shape.biasHeads + kv) * ${PAGE}u + slot;
    let by = at + shape.kvHeads * ${PAGE}u;
    if (meta_[at] >= length) { meta_[at] = NOBODY; }
    if (meta_[by] >= length) { meta_[by] = NOBODY; }
  }
}
`,
};

/** Copies pages, for a sequence that is about to write where others read. List entries: from, to. One thread for a word, a row
 *  of workgroups for each page. (A device does not copy within one buffer by itself.) */
export const copy: Kernel = {
  name: "attention copy",
  bindings: ["write", "write", "write", "uniform"],
  call: ["read"],
  code: /* wgsl */ `${PRELUDE}
struct Shape { keys: u32, values: u32, meta_: u32 } // elements of a page, whatever numbers they hold
@group(0) @binding(0) var<storage, read_write> keys: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> meta_: array<u32>;
@group(0) @binding(3) var<uniform> shape: Shape;
@group(1) @binding(1) var<storage, read> call: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) place: vec3u) {
  let source = call[grid.list + place.y * 2u];
  let goal = call[grid.list + place.y * 2u + 1u];
  let i = place.x;
  if (i < shape.keys) { keys[goal * shape.keys + i] = keys[source * shape.keys + i]; }
  if (i < shape.values) { values[goal * shape.values + i] = values[source * shape.values + i]; }
  if (i < shape.meta_) { meta_[goal * shape.meta_ + i] = meta_[source * shape.meta_ + i]; }
}
`,
};
