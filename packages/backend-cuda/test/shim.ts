// The core on the host shim, as a backend for tests only: the kernels run as plain C++ fibers, with no GPU. It is named for what
// it is and lives among the tests, so that nobody is offered it.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Capabilities, checkedProvider, type Provider } from "@doge-lm/core";
import { CudaBackend, dtypes } from "../src/backend.ts";
import { type Binding, type BindingWithKernels, loadBinding } from "../src/binding.ts";

/** The binding over the shim: faults can be injected into it. */
export interface ShimBinding extends BindingWithKernels {
  /** The n-th memory from now on is refused (0: the next), the n-th piece of work ends the device's context; -1: never. */
  fail(allocation: number, operation: number): void;
  /** Blocks of memory, streams and graphs that the process has on all devices. */
  made(): number;
  /** Whether the driver refuses launches beside the one before them (1), and graphs that have such; how many such launches there were. */
  alone(launches: number, graphs: number): void;
  beside(): number;
  /** What the driver refuses: launches with clusters (1), the question how many fit too (2), all launches whose blocks wait for each other (3);
   *  how many launches had clusters. */
  unclustered(what: number): void;
  clustered(): number;
}

interface Builder {
  compiler(): string | undefined;
  buildShim(kind?: "node" | "library"): string;
  buildRunner(options: { readonly shim: boolean }): string;
}
export const builder = (await import(new URL("../scripts/build.mjs", import.meta.url).href)) as Builder;

/** Why nothing of the shim can run here, or undefined. */
export const withoutShim: string | undefined =
  builder.compiler() === undefined ? "there is no C++ compiler to build the host shim with" : undefined;

let binding: ShimBinding | undefined;
export function shimBinding(): ShimBinding {
  binding ??= loadBinding(builder.buildShim()) as ShimBinding;
  return binding;
}

/** What a program over the shim's headers says on standard error under each of some arguments. */
export function errorsOf<Name extends string>(source: string, names: readonly Name[]): Record<Name, string> {
  const folder = mkdtempSync(join(tmpdir(), "doge-cuda-"));
  try {
    const [file, program] = [join(folder, "main.cc"), join(folder, "main")];
    writeFileSync(file, source);
    execFileSync(builder.compiler()!, ["-std=c++17", "-DDOGE_SHIM", file, "-lpthread", "-o", program]);
    const said = names.map((name) => [name, spawnSync(program, [name], { encoding: "utf8" }).stderr]);
    return Object.fromEntries(said) as Record<Name, string>;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const can: Capabilities = { device: "host shim, no GPU", dtypes, trains: false };

/** Wraps the functions of a binding so that `run` is counted. */
export function counting(original: ShimBinding, note: () => void): ShimBinding {
  const run = (...args: Parameters<ShimBinding["run"]>) => {
    note();
    return original.run(...args);
  };
  return { ...original, run: run as ShimBinding["run"] };
}

/** A test double of cuda(): the same TypeScript and the same kernels over the host shim. */
export function cudaOnHostShim(use: Binding = shimBinding()): Provider {
  return checkedProvider({
    name: "cuda-on-host-shim",
    probe: async () =>
      withoutShim === undefined
        ? { available: true, ...can }
        : { available: false, code: "unavailable", why: withoutShim },
    open: () => CudaBackend.open("cuda-on-host-shim", use, 0, can),
  });
}
