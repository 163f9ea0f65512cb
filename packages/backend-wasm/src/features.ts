// What this machine's WebAssembly can do, probed with the smallest modules that need it.

import { haveWorkers } from "./worker.ts";

export type Binary = "simd" | "relaxed";

/** What revectorize.ts has found: whether V8 makes one vector instruction of two. */
export const vectors = { wide: false };

/** Which tiles suit the engine and the processor: all give the same results. */
export interface Tiles {
  /** Vectors that stand side by side become one of 256 bits. */
  readonly wide: boolean;
  /** A dot of four bytes, added to a sum, is one instruction. */
  readonly fused: boolean;
}

// Each module of these is: (module (func (drop (OP (v128.const ...) ...)))), by hand, since probing must not need a compiler.
const header = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const oneFunction = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00]; // (type (func)) (func (type 0))

/** A module whose one function is `body`: instructions without locals and without the final `end`. */
function moduleOf(body: readonly number[]): Uint8Array<ArrayBuffer> {
  const code = [0x00, ...body, 0x0b];
  return new Uint8Array([...header, ...oneFunction, 0x0a, code.length + 2, 0x01, code.length, ...code]);
}
const zero = [0x41, 0x00, 0xfd, 0x11]; // (i32x4.splat (i32.const 0))

/** (drop (i32x4.add (i32x4.splat (i32.const 0)) (i32x4.splat (i32.const 0)))) */
const simdModule = moduleOf([...zero, ...zero, 0xfd, 0xae, 0x01, 0x1a]);
/** (drop (f32x4.relaxed_madd (i32x4.splat (i32.const 0)) (i32x4.splat (i32.const 0)) (i32x4.splat (i32.const 0)))) */
const relaxedModule = moduleOf([...zero, ...zero, ...zero, 0xfd, 0x85, 0x02, 0x1a]);

/** (i32x4.extract_lane 0 (i32x4.relaxed_dot_i8x16_i7x16_add_s (i8x16.splat 127) (i8x16.splat -1) (i32x4.splat 0))), exported as "f". */
const dotModule = new Uint8Array([
  ...header,
  ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f, 0x03, 0x02, 0x01, 0x00], // (type (func (result i32))) (func (type 0))
  ...[0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00, 0x0a, 0x17, 0x01, 0x15, 0x00],
  ...[0x41, 0xff, 0x00, 0xfd, 0x0f, 0x41, 0x7f, 0xfd, 0x0f, ...zero, 0xfd, 0x93, 0x02, 0xfd, 0x1b, 0x00, 0x0b],
]);

/** Whether a dot of four bytes is one instruction, told by what it makes of a second factor that it need not take: -1 is 255 to all
 *  x86 processors, whose older instructions stop the sum of two products at 32767. */
export function fusedDots(): boolean {
  fused ??= WebAssembly.validate(dotModule) && probe() !== 2 * 32767;
  return fused;
}
let fused: boolean | undefined;

function probe(): number {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(dotModule));
  return (exports as { f(): number }).f();
}

/** Why several threads cannot share a memory here, or undefined when they can. */
export function unshared(): string | undefined {
  if (globalThis.crossOriginIsolated === false)
    return "this page is not cross-origin isolated: its server has to send the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp";
  // WebKitGTK has none on isolated pages either.
  if (typeof SharedArrayBuffer !== "function") return "this JavaScript engine has no shared memory";
  if (!haveWorkers()) return "this JavaScript engine has no workers";
  try {
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return buffer instanceof SharedArrayBuffer ? undefined : "this WebAssembly engine has no shared memory";
  } catch (error) {
    return `this WebAssembly engine gives no shared memory (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** Why WebAssembly cannot run here, or undefined when it can. Some pages forbid it by a content security policy. */
function forbidden(): string | undefined {
  if (typeof WebAssembly !== "object") return "there is no WebAssembly in this JavaScript engine";
  try {
    new WebAssembly.Module(new Uint8Array(header));
    return undefined;
  } catch (error) {
    return `this page may not compile WebAssembly (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** The binary to run, or why there is none. Without a wish, the relaxed one where it runs. */
export function chooseBinary(wish?: Binary): { readonly binary: Binary } | { readonly why: string } {
  const why = forbidden();
  if (why !== undefined) return { why: `${capital(why)}.` };
  if (!WebAssembly.validate(simdModule)) {
    return {
      why: "This WebAssembly engine has no SIMD: Chrome 91, Firefox 89, Safari 16.4 or Node 16.4 are the first that do.",
    };
  }
  // Both of its kinds of instructions: WebKitGTK 2.50, told to know relaxed SIMD, knows the sums of products and not the dots.
  const relaxed = WebAssembly.validate(relaxedModule) && WebAssembly.validate(dotModule);
  if (wish === "relaxed" && !relaxed) {
    return {
      why: 'This WebAssembly engine has no relaxed SIMD (Chrome 114, Firefox 145 or Node 21 are the first that do): leave out `binary`, or ask for "simd".',
    };
  }
  return { binary: wish ?? (relaxed ? "relaxed" : "simd") };
}

const capital = (sentence: string): string => sentence.charAt(0).toUpperCase() + sentence.slice(1);
