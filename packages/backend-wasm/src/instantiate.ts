// From a binary's bytes to an instance over its own memory: the only file that touches @assemblyscript/loader, and the only
// one that knows where the binaries are.
import { instantiate as instantiateModule } from "@assemblyscript/loader";
import { DogeError } from "@doge-lm/core";

/** What the binaries export, beside their memory. */
export interface Exports extends Record<string, unknown>, KernelExports {
  /** Work on the job at this address, as one of its threads, until it is done or about `budget` multiply-adds are spent: a
   *  STATUS of descriptor.ts. */
  run(job: number, thread: number, budget: number): number;
}

/** The kernels over addresses, as assembly/kernels describes them. */
type KernelExports = {
  readonly [name in
    | "attention"
    | "draw"
    | "embed"
    | "experts"
    | "keep"
    | "matmul"
    | "pack"
    | "packTable"
    | "rmsnorm"
    | "rope"
    | "swiglu"]: (...numbers: number[]) => number;
};

/** Where to find the binaries when they are not beside this package: an address (a relative one begins at the page or worker,
 *  or else at this module), or the bytes themselves. */
export interface Assets {
  readonly simd?: URL | string | Uint8Array | undefined;
  readonly relaxed?: URL | string | Uint8Array | undefined;
  /** The same for several threads over one memory. */
  readonly simdShared?: URL | string | Uint8Array | undefined;
  readonly relaxedShared?: URL | string | Uint8Array | undefined;
  /** An address of worker.js, for pages whose content security policy forbids workers from a Blob. */
  readonly worker?: URL | string | undefined;
}

/** Which of the four binaries. */
export type BinaryFile = Exclude<keyof Assets, "worker">;

// Written out one by one: bundlers find assets by this very form.
const built = {
  simd: () => new URL("../build/doge-simd.wasm", import.meta.url),
  relaxed: () => new URL("../build/doge-relaxed.wasm", import.meta.url),
  simdShared: () => new URL("../build/doge-simd-shared.wasm", import.meta.url),
  relaxedShared: () => new URL("../build/doge-relaxed-shared.wasm", import.meta.url),
} satisfies Record<BinaryFile, () => URL>;

/** Compile a binary, as `change` makes it of its bytes. Errors: "unavailable" when it cannot be had. */
export async function compile(
  binary: BinaryFile,
  assets: Assets = {},
  signal?: AbortSignal,
  change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> = (bytes) => bytes,
): Promise<WebAssembly.Module> {
  const asset = assets[binary] ?? built[binary]();
  try {
    const bytes = asset instanceof Uint8Array ? new Uint8Array(asset) : await fetchBytes(asset, signal);
    return await WebAssembly.compile(change(bytes));
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    const [where, way] =
      asset instanceof Uint8Array
        ? ["the bytes given as an asset", ""]
        : [String(asset), ` If it is elsewhere, say where, or give its bytes, with the option assets: { ${binary} }.`];
    throw new DogeError(
      "unavailable",
      `The binary "${binary}" could not be compiled from ${where}: ${reason(cause)}.${way}`,
      { scope: "wasm", cause },
    );
  }
}

async function fetchBytes(address: URL | string, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
  const url = new URL(address, globalThis.location?.href ?? import.meta.url);
  if (url.protocol === "file:") {
    // Asked of the process, not imported: a bundler would look for the module, whatever it bundles for.
    const { readFile } = process.getBuiltinModule("node:fs/promises");
    return new Uint8Array(await readFile(url));
  }
  const response = await fetch(url, signal === undefined ? {} : { signal });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** An instance over `memory`. */
export async function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<Exports> {
  const { instance } = await instantiateModule<Exports>(module, { env: { memory } });
  return instance.exports as Exports;
}

const reason = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
