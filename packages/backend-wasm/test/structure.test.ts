// What the four binaries are made of: read from the files themselves, so that a change of the compiler or its flags is noticed.
import { readFile } from "node:fs/promises";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import * as descriptor from "../src/descriptor.ts";
import { fusedDots } from "../src/features.ts";
import { type Binary, wasm } from "../src/index.ts";
import { workerSource } from "../src/worker-source.ts";
import { checkpoint, prompt } from "./small.ts";

const binaries = ["simd", "relaxed", "simd-shared", "relaxed-shared"] as const;
const read = (binary: (typeof binaries)[number]) => readFile(new URL(`../build/doge-${binary}.wasm`, import.meta.url));

/** The sections of a module: id and body. */
function sections(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at]!;
    const [size, from] = leb(bytes, at + 1);
    found.set(id, bytes.subarray(from, from + size));
    at = from + size;
  }
  return found;
}

/** An unsigned LEB128 number, and where it ends. */
function leb(bytes: Uint8Array, at: number): [number, number] {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++]!;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
}

/** How often a vector instruction stands in the code: 0xfd, then its number as LEB128. */
function count(code: Uint8Array, opcode: number): number {
  const [low, high] = [(opcode & 0x7f) | 0x80, opcode >> 7];
  let found = 0;
  for (let at = 0; at + 2 < code.length; at++) {
    if (code[at] === 0xfd && code[at + 1] === low && code[at + 2] === high) found++;
  }
  return found;
}
/** How often an atomic instruction on 32-bit words stands in the code: 0xfe, its number, the alignment of a word. */
function countAtomic(code: Uint8Array, opcode: number): number {
  let found = 0;
  for (let at = 0; at + 2 < code.length; at++) {
    if (code[at] === 0xfe && code[at + 1] === opcode && code[at + 2] === 2) found++;
  }
  return found;
}
const [atomicNotify, atomicWait, atomicLoad] = [0x00, 0x01, 0x10];
const relaxedMadd = 0x105;
const mul = 0xe6; // f32x4.mul
const dot = 0xba; // i32x4.dot_i16x8_s
const relaxedDot = 0x112; // i16x8.relaxed_dot_i8x16_i7x16_s
const fusedDot = 0x113; // i32x4.relaxed_dot_i8x16_i7x16_add_s

const [sectionGlobals, sectionStart, sectionCode, sectionData] = [6, 8, 10, 11];

describe.each(binaries)("binary %s", (binary) => {
  const [flavour, shared] = binary.split("-") as [Binary, string | undefined];
  let bytes: Uint8Array<ArrayBuffer>;
  let module: WebAssembly.Module;
  beforeAll(async () => {
    bytes = new Uint8Array(await read(binary));
    module = await WebAssembly.compile(bytes);
  });

  test("imports its memory and nothing else", () => {
    expect(WebAssembly.Module.imports(module)).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
  });

  test("exports run, the kernels and the memory, and functions take and give numbers only", () => {
    const exports = WebAssembly.Module.exports(module);
    const named = (kind: string) => exports.filter((each) => each.kind === kind).map(({ name }) => name);
    expect(named("memory")).toEqual(["memory"]);
    expect(named("function").sort()).toEqual([
      "attention",
      "draw",
      "embed",
      "experts",
      "keep",
      "matmul",
      "pack",
      "packTable",
      "rmsnorm",
      "rope",
      "run",
      "swiglu",
    ]);
    expect(exports.length).toBe(13);
  });

  test("has no globals and nothing that runs by itself: all state is in memory that TypeScript lays out", () => {
    const found = sections(bytes);
    expect(found.has(sectionGlobals)).toBe(false);
    expect(found.has(sectionStart)).toBe(false);
  });

  test("its constants stay in the memory that is theirs", () => {
    const data = sections(bytes).get(sectionData)!;
    let [segments, at] = leb(data, 0);
    for (; segments > 0; segments--) {
      // An active segment of memory 0 at a constant address below 2^21: 0x00 0x41 address 0x0b.
      expect([data[at], data[at + 1]]).toEqual([0, 0x41]);
      const [address, afterAddress] = leb(data, at + 2);
      expect(data[afterAddress]).toBe(0x0b);
      const [size, from] = leb(data, afterAddress + 1);
      expect(address + size).toBeLessThanOrEqual(descriptor.STATIC_BYTES);
      at = from + size;
    }
    expect(at).toBe(data.length);
  });

  test("multiplies and adds the way its name says", () => {
    const code = sections(bytes).get(sectionCode)!;
    expect(count(code, dot)).toBeGreaterThan(0);
    expect(count(code, mul)).toBeGreaterThan(0);
    // q8's tile, and its row two steps at a time, for processors with a dot of four bytes; the tile and the row of values in bytes; and
    // the question what a high byte counts.
    expect(count(code, fusedDot)).toBeGreaterThanOrEqual(flavour === "relaxed" ? 29 : 0);
    if (flavour !== "relaxed") expect(count(code, fusedDot)).toBe(0);
    // A tile of 6x8 alone has 12 multiply-adds; dots of bytes: q8's row has 8, its tiles 8 and 16 for either half of a block; of q4 the
    // narrow and the wide tile and the row have 16, 32 and 8; of values in bytes they have 8, 16 and 4.
    const relaxed = flavour === "relaxed";
    if (!relaxed) expect([count(code, relaxedMadd), count(code, relaxedDot)]).toEqual([0, 0]);
    else expect([count(code, relaxedMadd) >= 100, count(code, relaxedDot) >= 140]).toEqual([true, true]);
    // 16-bit dots: relaxed, one for each sum of q8's row, of each half in its tiles, and of q4; plain, q8's tile for two steps and its row.
    expect(count(code, dot)).toBeGreaterThanOrEqual(40);
  });

  test("waits in one place, the barrier, and only where memory is shared", () => {
    const code = sections(bytes).get(sectionCode)!;
    expect(countAtomic(code, atomicWait)).toBe(shared ? 1 : 0);
    expect(countAtomic(code, atomicNotify)).toBe(shared ? 1 : 0);
    if (shared) expect(countAtomic(code, atomicLoad)).toBeGreaterThanOrEqual(3);
    else expect(countAtomic(code, atomicLoad)).toBe(0);
  });

  test("keys and values are bytes where bytes are multiplied, and never beside weights of more", async () => {
    const backend = await wasm({ binary: flavour, threads: shared ? 2 : 1 }).open();
    const held: unknown[] = [];
    for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
      const model = await backend.load(checkpoint, { dtype });
      held.push(model.details?.kvDtype);
    }
    await backend.close();
    expect(held).toEqual(["f32", "bf16", ...(flavour === "relaxed" ? ["q8", "q8"] : ["bf16", "bf16"])]);
  });

  test("the provider says which one runs", async () => {
    const answer = await wasm({ binary: flavour, threads: shared ? 2 : 1 }).probe();
    expect(answer).toMatchObject({
      available: true,
      device: `${flavour === "relaxed" ? "wasm relaxed-simd" : "wasm simd128"}${shared ? " x2" : ""}`,
    });
  });
});

describe("a team", () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test("leaves the calling thread no instance to compute with: it packs weights, which never waits, and keeps nothing", async () => {
    fusedDots(); // probes once
    const made = [vi.spyOn(WebAssembly, "instantiate"), vi.spyOn(WebAssembly, "Instance")];
    const backend = await wasm({ threads: 2 }).open();
    const model = await backend.load(checkpoint);
    expect(made[0]!.mock.calls.length + made[1]!.mock.calls.length).toBe(2); // the known answer's weights, and these
    for (const spy of made) spy.mockClear();
    expect((await model.forward([{ sequence: model.sequence(), tokens: prompt }]))[0]!.length).toBe(40);
    await backend.close();
    for (const spy of made) expect(spy).not.toHaveBeenCalled();
  });

  test("a worker answers a message with one call of run() or with an instance, and does nothing by itself", () => {
    expect(workerSource.match(/\brun\(/g)).toHaveLength(1);
    expect(workerSource.match(/postMessage/g)).toHaveLength(1);
    expect(workerSource).not.toMatch(/setTimeout|setInterval|while|for \(|import|require|fetch/);
  });
});

test("the fields of the records do not overlap", () => {
  const records = ["MATRIX", "LAYER", "MODEL", "JOB", "CURSOR", "TOKEN", "GROUP", "ROW"];
  const fields = Object.entries(descriptor) as [string, number][];
  // Fields wider than 32 bits.
  const matrices = ["LAYER_QKV", "LAYER_OUTPUT", "LAYER_DELTA", "LAYER_GATE_UP", "LAYER_DOWN", "LAYER_ROUTER"];
  const doubles = ["ROW_TEMPERATURE", "ROW_TOP_P", "ROW_MIN_P", "ROW_PENALTY"];
  const width = (name: string) => {
    if (matrices.includes(name) || name === "MODEL_EMBEDDING" || name === "MODEL_HEAD") return descriptor.MATRIX_BYTES;
    return doubles.includes(name) || name.startsWith("MODEL_COST_") ? 8 : 4;
  };
  for (const record of records) {
    const own = fields.filter(([name]) => name.startsWith(`${record}_`) && name !== `${record}_BYTES`);
    own.sort(([, a], [, b]) => a - b);
    own.push([`${record}_BYTES`, fields.find(([name]) => name === `${record}_BYTES`)![1]]);
    for (let index = 0; index + 1 < own.length; index++) {
      const [name, at] = own[index]!;
      expect(at + width(name), `${name} and ${own[index + 1]![0]}`).toBeLessThanOrEqual(own[index + 1]![1]);
    }
  }
});
