// @doge-lm/wasm: Doge on any CPU, by AssemblyScript kernels in WebAssembly SIMD.
import type { Availability, Backend, Capabilities, Checkpoint, LoadOptions, Model, Provider } from "@doge-lm/core";
import { aborted, checked, type Doge, DogeError, type LoadDogeOptions, loadDoge, type Source } from "@doge-lm/core";
import { assertKnownAnswer, planLoad, writeRotaryAngles } from "@doge-lm/core/backend-kit";
import { type Binary, chooseBinary, fusedDots, unshared, vectors } from "./features.ts";
import { Heap } from "./heap.ts";
import { type Assets, compile, type Exports, instantiate } from "./instantiate.ts";
import { cacheDType, planMemory } from "./layout.ts";
import { type Engine, WasmModel } from "./model.ts";
import { writeModel } from "./records.ts";
import { solo } from "./solo.ts";
import { Team } from "./team.ts";
import { assertThreads, usualThreads } from "./threads.ts";
import { loadWeights } from "./weights.ts";

export type * from "@doge-lm/core";
export { DogeError, isDogeError, TextStreamer, tokenMask } from "@doge-lm/core";
export type { Binary } from "./features.ts";
export type { Assets, Exports } from "./instantiate.ts";

export interface WasmOptions {
  /** Plain SIMD everywhere, or the relaxed build with fused multiply-adds. Default: what this engine can run best. */
  readonly binary?: Binary | undefined;
  /** Threads that compute, each in a worker, so that the calling thread stays free. 1: none, the calling thread computes, in
   *  slices of about 25 ms. Default: what suits this machine. Where memory cannot be shared the calling thread computes, and
   *  `warnings` says why. */
  readonly threads?: number | undefined;
  /** Where the binaries are, when not beside this package. */
  readonly assets?: Assets | undefined;
  /** Sees the exports of every instance before they are used, and may wrap them: to count calls, for instance. Instances in
   *  workers are out of its reach, so with it the calling thread computes unless `threads` says otherwise. */
  readonly onInstance?: ((exports: Exports) => Exports) | undefined;
}

/** How a backend is going to compute. */
interface Way {
  readonly binary: Binary;
  /** Workers that compute; 0: the calling thread does. */
  readonly workers: number;
  /** Why fewer threads compute than were wanted. */
  readonly warnings: readonly string[];
}

/** The way to compute here, or why there is none. */
function findWay({ binary, threads, onInstance }: WasmOptions): Way | { readonly why: string } {
  const choice = chooseBinary(binary);
  if ("why" in choice) return choice;
  if (threads === 1 || (threads === undefined && onInstance !== undefined))
    return { ...choice, workers: 0, warnings: [] };
  const why = unshared();
  if (why === undefined) return { ...choice, workers: threads ?? usualThreads(), warnings: [] };
  return { ...choice, workers: 0, warnings: [`One thread computes, and the caller waits for it: ${why}.`] };
}

function capabilities({ binary, workers, warnings }: Way): Capabilities {
  const name = binary === "relaxed" ? "wasm relaxed-simd" : "wasm simd128";
  const wide = vectors.wide ? " revectorized" : "";
  return {
    device: `${name}${workers > 1 ? ` x${workers}` : ""}${wide}`,
    dtypes: ["f32", "bf16", "q8", "q4"],
    trains: false,
    threads: Math.max(1, workers),
    details: { binary: workers > 0 ? `${binary}-shared` : binary, revectorized: vectors.wide },
    warnings,
  };
}

/** The backend for any CPU. Making one touches nothing. Errors: "invalid-argument" for a number of threads that is none. */
export function wasm(options: WasmOptions = {}): Provider {
  assertThreads(options.threads);
  return {
    name: "wasm",
    async probe(): Promise<Availability> {
      const way = findWay(options);
      if ("why" in way) return { available: false, code: "unavailable", why: way.why };
      return { available: true, ...capabilities(way) };
    },
    async open(signal?: AbortSignal): Promise<Backend> {
      if (signal?.aborted) throw aborted(signal, "wasm");
      const way = findWay(options);
      if ("why" in way) throw new DogeError("unavailable", way.why, { scope: "wasm" });
      const backend = await openBackend(way, options, signal);
      hint(backend.can.warnings);
      try {
        await backend.prove();
        if (signal?.aborted) throw aborted(signal, "wasm");
      } catch (error) {
        await backend.close();
        throw error;
      }
      return checked(backend);
    },
  };
}

let hinted = false;
/** Once in a page that could have threads: whoever builds it may not know. Elsewhere `warnings` is enough. */
function hint(warnings: readonly string[] = []): void {
  if (hinted || warnings.length === 0 || globalThis.crossOriginIsolated !== false) return;
  hinted = true;
  console.warn(`[doge:wasm] ${warnings.join(" ")}`);
}

/** A backend whose threads run. Without a wish for threads, it makes do with the calling one where workers cannot be had. */
async function openBackend(way: Way, options: WasmOptions, signal: AbortSignal | undefined): Promise<WasmBackend> {
  if (way.workers === 0) return new WasmBackend(await compile(way.binary, options.assets, signal), way, options);
  try {
    const module = await compile(`${way.binary}Shared`, options.assets, signal);
    return new WasmBackend(module, way, options, await Team.start(way.workers, options.assets?.worker, module));
  } catch (error) {
    if (options.threads !== undefined || signal?.aborted) throw error;
    const why = error instanceof Error ? error.message : String(error);
    const warnings = [`One thread computes, and the caller waits for it: ${why}`];
    return openBackend({ ...way, workers: 0, warnings }, options, signal);
  }
}

/** Where and how to load a Doge with this backend: its own options beside those of every backend. */
export type WasmLoadOptions = Omit<LoadDogeOptions, "backend"> &
  Partial<Pick<LoadDogeOptions, "backend">> &
  WasmOptions;

/** Load the Doge in `source` (a folder, a browser's files, or files by name) on this backend. Errors: those of loadDoge and of wasm. */
export async function load(source: Source, options: WasmLoadOptions = {}): Promise<Doge> {
  const { binary, threads, assets, onInstance, ...rest } = options;
  return loadDoge(source, { backend: wasm({ binary, threads, assets, onInstance }), ...rest });
}

class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly can: Capabilities;
  readonly #module: WebAssembly.Module;
  readonly #binary: Binary;
  readonly #workers: number;
  readonly #options: WasmOptions;
  /** A team that no model has, so that the next one need not wait for workers to start. */
  #spare: Team | undefined;
  readonly #teams = new Set<Team>();
  #proving = false;

  constructor(module: WebAssembly.Module, way: Way, options: WasmOptions, team?: Team) {
    this.#module = module;
    this.can = capabilities(way);
    this.#binary = way.binary;
    this.#workers = way.workers;
    this.#options = options;
    this.#spare = team;
  }

  /** Errors: "known-answer" when something else is computed than is right. */
  async prove(): Promise<void> {
    this.#proving = true;
    await assertKnownAnswer(this, "This WebAssembly engine");
    this.#proving = false;
  }

  /** A model has a memory and an instance of its own: closing it gives all of it back. */
  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    const { config } = checkpoint;
    const { dtype, routing, context, room } = planLoad("wasm", config, options);
    const tiles = { wide: vectors.wide, fused: fusedDots() };
    const cache = cacheDType(dtype, this.#binary);
    const layout = planMemory(config, dtype, cache, context, room, Math.max(1, this.#workers), tiles);
    const shared = this.#workers > 0;
    const what = `A model of ${dtype} weights with room for ${room} tokens`;
    const heap = new Heap(layout.pagesAt, what, { shared, most: layout.heapAt });
    const engine = await this.#engine(heap);
    try {
      // With a team this is the calling thread's only instance: it packs and is let go, since run() would make it wait.
      const { pack, packTable } = await instantiate(this.#module, heap.memory);
      await loadWeights(heap, layout, { pack, packTable }, checkpoint, options.signal);
      writeRotaryAngles(heap.floats.subarray(layout.rope / 4), config, context);
      writeModel(heap, layout);
    } catch (error) {
      engine.end();
      throw error;
    }
    return new WasmModel({ heap, layout, engine }, { dtype, routing, room });
  }

  /** What computes over `heap`, for one model alone. */
  async #engine({ memory }: Heap): Promise<Engine> {
    if (this.#workers === 0) {
      const exports = await instantiate(this.#module, memory);
      return solo(this.#options.onInstance?.(exports) ?? exports);
    }
    const spare = this.#spare;
    this.#spare = undefined;
    const team = spare ?? (await Team.start(this.#workers, this.#options.assets?.worker, this.#module));
    this.#teams.add(team);
    await team.attach(this.#module, memory);
    return { run: (job, budget) => team.run(job, budget), end: () => this.#release(team) };
  }

  #release(team: Team): void {
    if (this.#proving) {
      this.#spare = team;
      return;
    }
    void team.end().then(() => this.#teams.delete(team));
  }

  async close(): Promise<void> {
    if (this.#spare !== undefined) this.#teams.add(this.#spare);
    await Promise.all(Array.from(this.#teams, (team) => team.end()));
  }
}
