// Packs what a machine with a GPU but without network needs into the checkout's ignored folder .gpu: the compiled core, the runner,
// the binding, a stripped Node, and the conformance suite and `npm run agreement` in one file each. scripts/gpu-run.sh uses all of it.
// Needs what scripts/build.mjs does, xz and strip.
//
//   node packages/backend-cuda/scripts/gpu-pack.mjs [--arch 90a]
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const folder = join(root, ".gpu");
const scripts = join(root, "packages", "backend-cuda", "scripts");
const build = join(root, "packages", "backend-cuda", "build");
/** Bytes that may travel: with the checkout, 64 MiB. */
const LIMIT = 48 * 1024 * 1024;

function run(program, args) {
  const { status, error } = spawnSync(program, args, { stdio: ["ignore", 2, 2], cwd: root });
  if (error || status !== 0) {
    process.stderr.write(`gpu-pack: ${program} ${args[0]} failed${error ? `: ${error.message}` : ""}.\n`);
    process.exit(1);
  }
}

const arch = process.argv.slice(2);
if (arch.includes("--help")) {
  console.log(
    "Use: gpu-pack.mjs [--arch 90a]. Packs what scripts/gpu-run.sh needs on a machine without network into .gpu of the checkout.",
  );
  process.exit(0);
}
// What is missing is said before minutes of compiling. Node 20 reads no TypeScript, which what is bundled is.
const missing = ["xz", "strip"].filter((name) => spawnSync(name, ["--version"]).error !== undefined);
if (!process.features.typescript) missing.unshift(`Node 22.18 or newer (this is ${process.version})`);
if (missing.length > 0) {
  process.stderr.write(`gpu-pack: this machine lacks ${missing.join(", ")}: nothing was packed.\n`);
  process.exit(1);
}
const { bundle } = await import("./gpu-bundle.mjs");
mkdirSync(folder, { recursive: true });
for (const command of ["library", "runner", "build"])
  run(process.execPath, [join(scripts, "build.mjs"), command, ...arch]);
for (const file of ["libdoge_cuda.so", "doge_runner", "doge_cuda.node"])
  copyFileSync(join(build, file), join(folder, file));

await bundle(folder);
// The texts that all are compared with are drawn on the CPU.
run(process.execPath, [join(root, "packages", "backend-wasm", "scripts", "build.mjs")]);
for (const file of ["doge-simd.wasm", "doge-relaxed.wasm"])
  copyFileSync(join(root, "packages", "backend-wasm", "build", file), join(folder, file));

if (!existsSync(join(folder, "node.xz"))) {
  copyFileSync(process.execPath, join(folder, "node"));
  run("strip", [join(folder, "node")]);
  run("xz", ["-T2", "-6", "-f", join(folder, "node")]);
}
rmSync(join(folder, "node"), { force: true });

let bytes = 0;
for (const name of readdirSync(folder)) {
  const { size } = statSync(join(folder, name));
  bytes += size;
  console.log(`${(size / 1e6).toFixed(2).padStart(8)} MB  ${name}`);
}
console.log(`${(bytes / 1e6).toFixed(2).padStart(8)} MB  in all`);
if (bytes > LIMIT) {
  process.stderr.write(`gpu-pack: that is over ${LIMIT} bytes.\n`);
  process.exitCode = 1;
}
