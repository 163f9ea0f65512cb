// @doge-lm/wasm: Doge on any CPU, by AssemblyScript kernels in WebAssembly SIMD.
import type { Availability, Backend, Capabilities, Checkpoint, LoadOptions, Model, Provider } from "@doge-lm/core";
import { aborted, checked, type Doge, DogeError, type LoadDogeOptions, loadDoge, type Source } from "@doge-lm/core";
import { type Binary, chooseBinary } from "./features.ts";
import { Heap } from "./heap.ts";
import { type Assets, compile, type Exports, instantiate } from "./instantiate.ts";
import { assertKnownAnswer } from "./known-answer.ts";
import { planMemory, writeModel } from "./layout.ts";
import { WasmModel } from "./model.ts";
import { writeAngles } from "./rope.ts";
import { loadWeights } from "./weights.ts";

export type * from "@doge-lm/core";
export { DogeError, isDogeError } from "@doge-lm/core";
export type { Binary } from "./features.ts";
export type { Assets, Exports } from "./instantiate.ts";

export interface WasmOptions {
  /** Plain SIMD everywhere, or the relaxed build with fused multiply-adds. Default: what this engine can run best. */
  readonly binary?: Binary | undefined;
  /** Threads wanted. This version computes on one, and says so in `device`. */
  readonly threads?: number | undefined;
  /** Where the binaries are, when not beside this package. */
  readonly assets?: Assets | undefined;
  /** Sees the exports of every instance before they are used, and may wrap them: to count calls, for instance. */
  readonly onInstance?: ((exports: Exports) => Exports) | undefined;
}

/** The backend for any CPU. Making one touches nothing. */
export function wasm(options: WasmOptions = {}): Provider {
  const capabilities = (binary: Binary): Capabilities => ({
    device: deviceOf(binary, options.threads),
    dtypes: ["f32", "bf16", "q8", "q4"],
    trains: false,
  });
  return {
    name: "wasm",
    async probe(): Promise<Availability> {
      const choice = chooseBinary(options.binary);
      if ("why" in choice) return { available: false, code: "unavailable", why: choice.why };
      return { available: true, ...capabilities(choice.binary) };
    },
    async open(signal?: AbortSignal): Promise<Backend> {
      if (signal?.aborted) throw aborted(signal, "wasm");
      const choice = chooseBinary(options.binary);
      if ("why" in choice) throw new DogeError("unavailable", choice.why, { scope: "wasm" });
      const module = await compile(choice.binary, options.assets, signal);
      const backend = new WasmBackend(module, capabilities(choice.binary), options);
      await assertKnownAnswer(backend);
      if (signal?.aborted) throw aborted(signal, "wasm");
      return checked(backend);
    },
  };
}

/** Where and how to load a Doge with this backend: its own options beside those of every backend. */
export type WasmLoadOptions = Omit<LoadDogeOptions, "backend"> &
  Partial<Pick<LoadDogeOptions, "backend">> &
  WasmOptions;

/** Load the Doge in `source` (a folder, a browser's files, or files by name) on this backend. Errors: loadDoge's. */
export function load(source: Source, options: WasmLoadOptions = {}): Promise<Doge> {
  const { binary, threads, assets, onInstance, ...rest } = options;
  return loadDoge(source, { backend: wasm({ binary, threads, assets, onInstance }), ...rest });
}

function deviceOf(binary: Binary, threads = 1): string {
  const name = binary === "relaxed" ? "wasm relaxed-simd" : "wasm simd128";
  return threads > 1 ? `${name}, 1 thread of ${threads} asked for` : name;
}

class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly can: Capabilities;
  readonly #module: WebAssembly.Module;
  readonly #options: WasmOptions;

  constructor(module: WebAssembly.Module, can: Capabilities, options: WasmOptions) {
    this.#module = module;
    this.can = can;
    this.#options = options;
  }

  /** A model has a memory and an instance of its own: closing it gives all of it back. */
  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    const { config } = checkpoint;
    const { dtype = "f32", context = config.maxPositions, room = context, signal } = options;
    if (config.window !== null && config.biasHeads !== config.kvHeads) {
      throw new DogeError(
        "unsupported-layout",
        `A keep window of ${config.window} needs one bias per key/value head: the checkpoint has ${config.biasHeads} biases for ${config.kvHeads} heads.`,
        { scope: "wasm" },
      );
    }
    if (room < context) {
      throw new DogeError(
        "invalid-argument",
        `room is ${room} tokens, less than one context of ${context}: leave it out or ask for more.`,
        { scope: "wasm" },
      );
    }
    const routing = config.experts === null ? "per-token" : (options.routing ?? "reference");
    const layout = planMemory(config, dtype, context, room);
    const heap = new Heap(layout.heapAt, `A model of ${dtype} weights with room for ${room} tokens`);
    const exports = await instantiate(this.#module, heap.memory);
    await loadWeights(heap, layout, exports, checkpoint, signal);
    writeAngles(heap.floats.subarray(layout.rope / 4), config, context);
    writeModel(heap, layout);
    const resident = { heap, layout, exports: this.#options.onInstance?.(exports) ?? exports };
    return new WasmModel(resident, { dtype, routing, room });
  }

  async close(): Promise<void> {}
}
