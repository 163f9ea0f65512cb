// Where the compiled half is, or in a sentence why there is none that this machine can load.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ABI, type Binding, loadBinding } from "./binding.ts";

/** What of the machine matters; a test hands over another. */
export interface Machine {
  readonly platform: string;
  readonly arch: string;
  /** Version of glibc, or undefined where another library is used. */
  glibc(): string | undefined;
  exists(path: string): boolean;
  /** The path of a file of a package. @throws when the package is not installed. */
  resolve(specifier: string): string;
  /** @throws when the system cannot load the file. */
  load(path: string): Binding;
}

/** The one this code runs on. */
export const thisMachine: Machine = {
  platform: process.platform,
  arch: process.arch,
  glibc() {
    const { report } = process as { readonly report?: NodeJS.ProcessReport & { excludeNetwork?: boolean } };
    if (report === undefined) return undefined;
    // Else it looks up the name of the other end of every open connection, one after the other.
    const { excludeNetwork } = report;
    report.excludeNetwork = true;
    try {
      return (report.getReport() as { header?: { glibcVersionRuntime?: string } }).header?.glibcVersionRuntime;
    } finally {
      report.excludeNetwork = excludeNetwork ?? false;
    }
  },
  exists: existsSync,
  resolve: (specifier) => createRequire(import.meta.url).resolve(specifier),
  load: loadBinding,
};

/** Platforms with a package of binaries. */
const PACKAGES: Record<string, string> = { "linux-x64": "@doge-lm/cuda-linux-x64" };

/** What a build from this package's sources leaves behind. */
const built = fileURLToPath(new URL("../build/doge_cuda.node", import.meta.url));

const BUILD = "build it from source with `npx @doge-lm/cuda build`, which needs CUDA's nvcc and a C++ compiler";

export type Located = { readonly binding: Binding; readonly path: string } | { readonly why: string };

/** Finds and loads the binding: the file asked for, a build from source, or the platform's package, in this order. */
export function locate(asked: string | undefined, machine: Machine = thisMachine): Located {
  const found = asked === undefined ? search(machine) : given(asked, machine);
  return "why" in found ? found : open(found.path, machine);
}

function given(path: string, machine: Machine): { readonly path: string } | { readonly why: string } {
  // From the working directory, as every other path; a module would look beside itself, or among packages.
  return machine.exists(path)
    ? { path: resolve(path) }
    : { why: `There is no file ${path}, which the option \`binary\` names.` };
}

function search(machine: Machine): { readonly path: string } | { readonly why: string } {
  if (machine.exists(built)) return { path: built };
  const platform = `${machine.platform}-${machine.arch}`;
  const name = PACKAGES[platform];
  if (name === undefined) {
    // The sources are for Linux: elsewhere building is no way out.
    const way = machine.platform === "linux" ? BUILD : "use another backend";
    return { why: `There is no binary for ${platform}, only for ${Object.keys(PACKAGES).join(", ")}: ${way}.` };
  }
  if (machine.glibc() === undefined) {
    return {
      why: `The binaries for ${platform} need glibc, and this system has another C library, such as musl: ${BUILD}.`,
    };
  }
  let path: string;
  try {
    // A file that is not there would not resolve, as if the package were not.
    path = join(dirname(machine.resolve(`${name}/package.json`)), "doge_cuda.node");
  } catch {
    return {
      why: `The package ${name} is not installed; it is an optional dependency, which --omit=optional and some lockfiles leave out: install it, or ${BUILD}.`,
    };
  }
  if (!machine.exists(path)) {
    return { why: `The package ${name} has no binary in it, as in a checkout of the sources: ${BUILD}.` };
  }
  return { path };
}

function open(path: string, machine: Machine): Located {
  let binding: Binding;
  try {
    binding = machine.load(path);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const needed = [...message.matchAll(/GLIBC_([\d.]+)/g)].map(([, version]) => version!).at(-1);
    if (needed !== undefined) {
      return {
        why: `The binary needs glibc ${needed} and this system has ${machine.glibc() ?? "an unknown version"}: use a newer system, or ${BUILD}.`,
      };
    }
    const [said = ""] = message.split("\n");
    return {
      why: `The binary ${path} could not be loaded: ${said.replace(/\.$/, "")}. Install it again, or ${BUILD}.`,
    };
  }
  if (binding.abi !== ABI) {
    return {
      why: `The binary ${path} speaks version ${binding.abi} of doge.h and this package version ${ABI}: install both in the same version.`,
    };
  }
  return { binding, path };
}
