// V8 can make one 256-bit instruction of two neighbouring 128-bit ones ("revectorize"). That is off unless a flag is set, which
// holds for the whole process and only for code that is compiled later. So it is an entry of its own, for a program to call before
// it loads a model; a library should leave it to its program.
//
// The flag is experimental: it stays set only when the kernels give the very bits that they give without it.
import { chooseBinary, unshared, vectors } from "./features.ts";
import { type Assets, type BinaryFile, compile } from "./instantiate.ts";
import { kernelsOf, type WasmKernels } from "./kernels.ts";

const FLAG = "experimental-wasm-revectorize";
/** Versions of V8 that this has been tried with: Node 24 and 26. */
const [FIRST, LAST] = [13, 14];

export type Revectorized = { readonly on: true } | { readonly on: false; readonly why: string };

/** Turn it on, where it can be and is right. Call it before anything is loaded: `device` then ends in "revectorized".
 *
 *  @param options.set sets a flag of V8: its own function, where a program has a reason to see it */
export async function revectorize(
  options: { readonly assets?: Assets; readonly set?: (flag: string) => void } = {},
): Promise<Revectorized> {
  if (vectors.wide) return { on: true };
  const why = impossible();
  if (why !== undefined) return { on: false, why };
  const choice = chooseBinary();
  if ("why" in choice) return { on: false, why: choice.why };
  const shared = unshared() === undefined;
  const file: BinaryFile = shared ? `${choice.binary}Shared` : choice.binary;
  const set = options.set ?? process.getBuiltinModule("node:v8").setFlagsFromString;
  // The plain code is made of other bytes: V8 keeps what it has compiled, and would take the same bytes for the same code.
  const expected = answers(await kernelsOf(await compile(file, options.assets, undefined, marked), shared));
  set(`--${FLAG}`);
  // Only the optimizing compiler does it: without the other one, all that is called here is its work.
  set("--no-liftoff");
  try {
    const found = answers(await kernelsOf(await compile(file, options.assets), shared));
    vectors.wide = same(expected, found);
  } finally {
    set("--liftoff");
    if (!vectors.wide) set(`--no-${FLAG}`);
  }
  return vectors.wide
    ? { on: true }
    : { on: false, why: "Revectorized code gives other results here: it is not used." };
}

/** Why it cannot be had here at all. */
function impossible(): string | undefined {
  const { arch, versions } = (globalThis.process ?? {}) as Partial<NodeJS.Process>;
  if (versions?.node === undefined || "bun" in versions || "deno" in versions) {
    return "V8's flags can be set in Node only.";
  }
  if (arch !== "x64") return `V8 revectorizes on x64 only; this is ${arch}.`;
  const major = Number.parseInt(versions.v8 ?? "0", 10);
  if (major >= FIRST && major <= LAST) return undefined;
  return `This has been tried with V8 ${FIRST} to ${LAST} only; this is ${versions.v8}.`;
}

/** The same module with an empty custom section, named "plain", behind it. */
function marked(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode("plain");
  return new Uint8Array([...bytes, 0, name.length + 1, name.length, ...name]);
}

/** What the kernels make of numbers of every size, in shapes with and without a rest. */
function answers(kernels: WasmKernels): Float32Array[] {
  const numbers = (count: number, seed: number) =>
    Float32Array.from(
      { length: count },
      (_, index) => Math.sin((index + 1) * 12.9898 * seed) * 2 ** ((index % 13) - 6),
    );
  const [inner, outer, headDim, keys] = [100, 70, 32, 45];
  const weight = numbers(outer * inner, 2);
  const results = [
    kernels.rmsnorm(numbers(3 * inner, 1), numbers(inner, 2), 1e-6),
    kernels.swiglu(numbers(inner, 3), numbers(inner, 4)),
    kernels.rope(numbers(3 * headDim, 5), headDim, 17, 10000),
    kernels.attention(
      numbers(headDim, 6),
      numbers(keys * headDim, 7),
      numbers(keys * headDim, 8),
      numbers(keys, 9),
      headDim,
    ),
  ];
  for (const rows of [1, 2, 4, 7]) {
    const x = numbers(rows * inner, rows);
    results.push(kernels.matmul(x, weight, numbers(outer, 6), rows, inner, outer));
    for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
      for (const wide of [false, true])
        results.push(kernels.matmulAs(dtype, wide)(x, weight, null, rows, inner, outer));
    }
    results.push(kernels.matmulAs("q8", true, true)(x, weight, null, rows, inner, outer));
  }
  return results;
}

/** Whether two lists of arrays are equal to the bit. */
function same(one: readonly Float32Array[], other: readonly Float32Array[]): boolean {
  const bits = ({ buffer, byteOffset, length }: Float32Array) => new Int32Array(buffer, byteOffset, length);
  return one.every((array, index) => bits(array).every((word, at) => word === bits(other[index]!)[at]));
}
