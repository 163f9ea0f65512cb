// From the binary's bytes to an instance: the only file that knows where it is and what it exports (crate/src/exports.rs).
import { DogeError } from "@doge-lm/core";

/** Where the binary is when it is not beside this package: an address (a relative one begins at the page or worker, or else
 *  at this module), its bytes, or what they compile to. */
export type Asset = URL | string | Uint8Array | WebAssembly.Module;

/** What crate/src/exports.rs describes. Numbers and results are addresses in `memory` or lengths. */
export interface Exports {
  readonly memory: WebAssembly.Memory;
  reserve_bytes(length: number): number;
  reserve_words(length: number): number;
  build(): void;
  encode(count: number, around: number, special: number): number;
  decode(count: number, skipSpecial: number): number;
  begin_counts(pattern: number): void;
  feed_counts(count: number): void;
  learn(count: number, size: number, leastCount: number, lengthLimit: number): number;
}

// Written out: bundlers find assets by this very form.
const built = (): URL => new URL("../wasm/tokenizer.wasm", import.meta.url);

let own: Promise<WebAssembly.Module> | undefined;

/** The compiled binary; this package's own is compiled once. Errors: "unavailable" when it cannot be had. */
export function compile(asset?: Asset): Promise<WebAssembly.Module> {
  if (asset !== undefined) return compileFrom(asset);
  if (own === undefined) {
    own = compileFrom(built());
    // What failed for want of a connection may succeed the next time.
    own.catch(() => (own = undefined));
  }
  return own;
}

async function compileFrom(asset: Asset): Promise<WebAssembly.Module> {
  try {
    if (asset instanceof WebAssembly.Module) return asset;
    return await WebAssembly.compile(asset instanceof Uint8Array ? new Uint8Array(asset) : await fetchBytes(asset));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const [where, way] =
      asset instanceof Uint8Array
        ? ["the bytes given", ""]
        : [String(asset), " If it is elsewhere, say where, or give its bytes, with the option `wasm`."];
    throw fault("unavailable", `The tokenizer's binary could not be compiled from ${where}: ${why}.${way}`, cause);
  }
}

async function fetchBytes(address: URL | string): Promise<Uint8Array<ArrayBuffer>> {
  const url = new URL(address, globalThis.location?.href ?? import.meta.url);
  if (url.protocol === "file:") {
    // Asked of the process, not imported: a bundler would look for the module, whatever it bundles for.
    const { readFile } = process.getBuiltinModule("node:fs/promises");
    return new Uint8Array(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

export function fault(code: DogeError["code"], sentence: string, cause?: unknown): DogeError {
  return new DogeError(code, sentence, { scope: "tokenizer-fast", cause });
}
