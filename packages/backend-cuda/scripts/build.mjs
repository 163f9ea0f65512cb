#!/usr/bin/env node
// Compiles the native half. No node-gyp, no CMake: one call of nvcc, or of a C++ compiler for the host shim of the tests.
//
//   node scripts/build.mjs [build]          build/doge_cuda.node with nvcc, for every architecture
//       --arch 90a,120                      for some architectures only
//       --if-possible                       without nvcc say so in one line and succeed
//       --bring                             where nvcc is missing, get it by pip into the checkout's ignored .cache folder
//   node scripts/build.mjs shim             build/doge_shim.node and the shim's library, with a C++ compiler: for tests
//   node scripts/build.mjs release          the same for every architecture, copied into the platform's package
//   node scripts/build.mjs resources        registers and shared memory of every kernel of the last build, as a table
//   node scripts/build.mjs runner           build/doge_runner, the C test runner, over nvcc's library; with --shim over the shim's
//
// Nothing is compiled again when nothing has changed. Published with the package: npx @doge-lm/cuda build.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { faultsOf, readResources, tableOf } from "./resources.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const native = join(root, "native");
const build = join(root, "build");
/** Where --bring puts CUDA's compiler. */
const brought = join(root, "..", "..", ".cache", "cuda", "nvidia", "cu13");

/** What the published binary has: code for each, and PTX that newer GPUs compile. "90a" runs on 9.0 only, so 90 has PTX too. */
const CODE = ["75", "80", "86", "89", "90a", "100", "120"];
const PTX = ["90", "120"];
/** The five parts of CUDA 13.0 that compile a kernel: 271 MB unpacked. */
const WHEELS = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-runtime==13.0.96",
  "nvidia-cuda-cccl==13.0.85",
];
/** What ptxas said of the kernels of the last build. */
const resources = join(build, "resources.json");
/** Bytes that the published binary may have. */
const LIMIT = 5_000_000;

class Failure extends Error {}

/** Runs a program; its messages are shown, or returned when asked for. */
function run(program, args, keep = false) {
  const stdio = keep ? ["ignore", 2, "pipe"] : ["ignore", 2, 2];
  const result = spawnSync(program, args, { stdio, encoding: "utf8", maxBuffer: 1 << 28 });
  if (result.error) throw new Failure(`${program} could not be started: ${result.error.message}.`);
  if (result.status !== 0 && keep) process.stderr.write(result.stderr);
  if (result.status !== 0) throw new Failure(`${program} failed (${result.status}). See its messages above.`);
  return result.stderr ?? "";
}

function inPath(names) {
  const folders = (process.env.PATH ?? "").split(delimiter).filter(Boolean);
  for (const name of names) for (const folder of folders) if (existsSync(join(folder, name))) return join(folder, name);
  return undefined;
}

/** A C++ compiler, or undefined. */
export const compiler = () => process.env.CXX ?? inPath(["g++", "c++", "clang++"]);

function requireCompiler() {
  const found = compiler();
  if (found === undefined) throw new Failure("There is no C++ compiler: install g++ or clang, or set CXX.");
  return found;
}

/** nvcc, or undefined. */
function nvcc() {
  const home = process.env.CUDA_HOME ?? process.env.CUDA_PATH;
  const places = [
    home && join(home, "bin", "nvcc"),
    inPath(["nvcc"]),
    join(brought, "bin", "nvcc"),
    "/usr/local/cuda/bin/nvcc",
  ];
  return places.find((place) => place && existsSync(place));
}

function bring() {
  const target = join(brought, "..", "..");
  process.stderr.write("doge-cuda: bringing CUDA's compiler (once, 271 MB)\n");
  mkdirSync(target, { recursive: true });
  const quiet = ["--quiet", "--no-deps", "--no-input", "--disable-pip-version-check", "--target", target];
  run("python3", ["-m", "pip", "install", ...quiet, ...WHEELS]);
}

/** The folder of node_api.h: of the package of headers, or of this Node. */
function headers() {
  try {
    return createRequire(import.meta.url)("node-api-headers").include_dir;
  } catch {
    const beside = join(dirname(dirname(process.execPath)), "include", "node");
    if (existsSync(join(beside, "node_api.h"))) return beside;
    throw new Failure(
      "There is no node_api.h: install the package node-api-headers, or a Node that comes with its headers.",
    );
  }
}

/** A hash of every source and of what is asked of the compiler. */
function fingerprint(command) {
  const hash = createHash("sha256").update(JSON.stringify(command));
  for (const entry of readdirSync(native, { recursive: true }).sort()) {
    const path = join(native, entry);
    if (statSync(path).isFile()) hash.update(entry).update(readFileSync(path));
  }
  return hash.digest("hex");
}

/** Run `command(output)`s unless `output` was made by the same from the same sources. `judge` gets their messages, and may refuse. */
function make(output, commands, judge) {
  const stamp = `${output}.stamp`;
  const wanted = fingerprint(commands(output));
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return output;
  mkdirSync(build, { recursive: true });
  // Two test files may build at once: each makes its own file and puts it in place whole.
  const own = `${output}.${process.pid}`;
  try {
    for (const [program, ...args] of commands(own)) {
      const messages = run(program, args, judge !== undefined);
      judge?.(messages);
    }
  } catch (error) {
    rmSync(own, { force: true });
    throw error;
  }
  renameSync(own, output);
  writeFileSync(stamp, wanted);
  return output;
}

const SOURCES = ["doge.cu", "device.cu", "probe.cu"];
/** The binding for Node over them. */
const ADDON = ["addon.cc", "addon_run.cc", "addon_kernels.cc"];
const addonOf = (kind) => (kind === "node" ? [`-I${headers()}`, ...ADDON.map((name) => join(native, name))] : []);

/** The binding over the host shim, or with `kind` "library" the core alone: of the same objects. @throws Failure without a C++ compiler. */
export function buildShim(kind = "node") {
  const cxx = requireCompiler();
  const flags = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off"];
  const compile = [cxx, "-DDOGE_SHIM", ...flags, "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"];
  const objects = SOURCES.map((name) =>
    make(join(build, `${basename(name, ".cu")}.shim.o`), (output) => [
      [...compile, "-x", "c++", "-c", join(native, name), "-o", output],
    ]),
  );
  const libraries = process.platform === "darwin" ? ["-undefined", "dynamic_lookup"] : ["-ldl", "-lpthread"];
  return make(join(build, kind === "node" ? "doge_shim.node" : "libdoge_shim.so"), (output) => [
    [...compile, "-shared", ...addonOf(kind), ...objects, ...libraries, "-o", output],
  ]);
}

function buildCuda({ arch, kind }) {
  const found = nvcc();
  if (found === undefined)
    throw new Failure("There is no nvcc (CUDA 12.8 or newer): install CUDA's toolkit, set CUDA_HOME, or use --bring.");
  const code = arch ?? CODE;
  const ptx = arch === undefined ? PTX : [];
  const generate = [
    ...code.map((name) => `-gencode=arch=compute_${name},code=sm_${name}`),
    ...ptx.map((name) => `-gencode=arch=compute_${name},code=compute_${name}`),
  ];
  const home = dirname(dirname(found));
  const libraries = ["lib", "lib64", join("targets", "x86_64-linux", "lib")]
    .map((name) => join(home, name))
    .filter(existsSync);
  const command = (output) => [
    [
      found,
      ...[
        "-O3",
        "-std=c++17",
        "--threads",
        "2",
        "-shared",
        "-cudart",
        "static",
        "--compress-mode=size",
        "-Xptxas",
        "-v",
      ],
      ...["-Xcompiler", "-fPIC,-fvisibility=hidden,-fno-strict-aliasing"],
      ...generate,
      `-DDOGE_CODE="${code.join(",")}"`,
      `-DDOGE_PTX="${ptx.join(",")}"`,
      ...SOURCES.map((name) => join(native, name)),
      ...addonOf(kind),
      ...libraries.map((folder) => `-L${folder}`),
      ...["-Xlinker", "--exclude-libs,ALL,--gc-sections,-s,-z,noexecstack", "-ldl", "-lpthread", "-lrt", "-o", output],
    ],
  ];
  return make(join(build, kind === "node" ? "doge_cuda.node" : "libdoge_cuda.so"), command, (messages) => {
    const { rows, others } = readResources(messages);
    for (const line of others) process.stderr.write(`${line}\n`);
    const faults = faultsOf(rows);
    if (faults.length > 0) throw new Failure(`these kernels are not to be shipped: ${faults.join("; ")}.`);
    writeFileSync(resources, JSON.stringify(rows));
  });
}

/** The C test runner, beside the library it runs on. */
export function buildRunner({ shim, arch }) {
  const library = shim ? buildShim("library") : buildCuda({ arch, kind: "library" });
  const cxx = requireCompiler();
  return make(join(build, shim ? "doge_runner_shim" : "doge_runner"), (output) => [
    [
      cxx,
      "-std=c++17",
      "-O2",
      "-pthread",
      "-Wall",
      "-Wextra",
      join(native, "runner.cc"),
      // By name and from beside the runner: both travel to another machine.
      ...(process.platform === "darwin" ? [library] : [`-L${build}`, `-l${basename(library, ".so").slice(3)}`]),
      "-Wl,-rpath,$ORIGIN",
      "-o",
      output,
    ],
  ]);
}

const OPTIONS = {
  arch: { type: "string" },
  "if-possible": { type: "boolean", default: false },
  bring: { type: "boolean", default: false },
  shim: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
};

/** What is asked for; a word that nobody knows would else be minutes of building something else. @throws Failure */
function parsed(args) {
  try {
    const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
    if (positionals.length > 1) throw new Error(`One command at a time, not ${positionals.join(" and ")}`);
    return { ...values, command: positionals[0] ?? "build" };
  } catch (error) {
    throw new Failure(`${error.message}${error.message.endsWith(".") ? "" : "."} See --help.`);
  }
}

/** Compute capabilities as nvcc names them, or undefined: all. @throws Failure for what is none. */
function architectures(list) {
  const names = list?.split(",");
  const strange = names?.find((name) => !/^\d{2,3}[af]?$/.test(name));
  if (strange !== undefined)
    throw new Failure(`--arch takes compute capabilities, such as 90a or 80,86: ${JSON.stringify(strange)} is none.`);
  // Without the "a" code for 9.0 lacks its products, and the probe takes none such.
  return names?.map((name) => (name === "90" ? "90a" : name));
}

/** The comment that this file begins with. */
function help() {
  const lines = readFileSync(fileURLToPath(import.meta.url), "utf8")
    .split("\n")
    .slice(1);
  const end = lines.findIndex((line) => !line.startsWith("//"));
  return lines
    .slice(0, end)
    .map((line) => line.slice(3))
    .join("\n");
}

function main(args) {
  const { command, shim, bring: wanted, "if-possible": possible, ...rest } = parsed(args);
  if (rest.help) return help();
  const arch = architectures(rest.arch);
  if (wanted && nvcc() === undefined) {
    try {
      bring();
    } catch (error) {
      if (!possible || !(error instanceof Failure)) throw error;
      process.stderr.write(`doge-cuda: CUDA's compiler could not be brought: ${error.message}\n`);
    }
  }
  if (command === "shim") return buildShim();
  if (command === "runner") return buildRunner({ shim, arch });
  if (command === "library") return shim ? buildShim("library") : buildCuda({ arch, kind: "library" });
  if (command === "resources") {
    if (!existsSync(resources)) throw new Failure("There is no build to tell of: run the command build first.");
    return tableOf(JSON.parse(readFileSync(resources, "utf8")));
  }
  if (command !== "build" && command !== "release")
    throw new Failure(
      `Unknown command ${JSON.stringify(command)}: use build, release, resources, shim, library or runner.`,
    );
  if (nvcc() === undefined && possible) {
    process.stderr.write(
      "doge-cuda: no nvcc here, so the CUDA backend is not compiled (it is unavailable and says so).\n",
    );
    return undefined;
  }
  const output = buildCuda({ arch: command === "release" ? undefined : arch, kind: "node" });
  const bytes = statSync(output).size;
  if (bytes > LIMIT) throw new Failure(`${output} has ${bytes} bytes, over ${LIMIT}: install size is a feature.`);
  if (command === "release") copyFileSync(output, join(root, "..", "cuda-linux-x64", "doge_cuda.node"));
  return `${output} (${bytes} bytes, code for ${(arch ?? CODE).join(", ")})`;
}

if (process.argv[1] && fileURLToPath(import.meta.url) === realpathSync(process.argv[1])) {
  try {
    const output = main(process.argv.slice(2));
    if (output !== undefined) console.log(output);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    process.stderr.write(`doge-cuda: ${error.message}\n`);
    process.exitCode = 1;
  }
}
