// Packs what a machine with a GPU but without network needs to run this backend into the checkout's ignored folder .gpuweb: Dawn,
// the measurements in one file, the fixtures of the conformance suite, and the libraries of a Vulkan loader. gpu-run.sh uses all of it.
// Node itself travels as .gpu/node.xz (packages/backend-cuda/scripts/gpu-pack.mjs).
//
//   node packages/backend-webgpu/scripts/gpu-pack.mjs
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const folder = join(root, ".gpuweb");
const scripts = join(root, "packages", "backend-webgpu", "scripts");
/** Bytes that may travel. */
const LIMIT = 22 * 1024 * 1024;
/** Debian's packages of the Vulkan loader, and of what NVIDIA's Vulkan driver links against. */
const DEBIAN = [
  "libvulkan1",
  "libx11-6",
  "libxext6",
  "libxcb1",
  "libxau6",
  "libxdmcp6",
  "libbsd0",
  "libmd0",
  "libglvnd0",
];

function run(program, args, cwd = root) {
  const { status, error } = spawnSync(program, args, { stdio: ["ignore", 2, 2], cwd });
  if (error || status !== 0) {
    process.stderr.write(`gpu-pack: ${program} ${args[0]} failed${error ? `: ${error.message}` : ""}.\n`);
    process.exit(1);
  }
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });

const tools = createRequire(join(root, "tools", "package.json"));
const { build } = await import(tools.resolve("esbuild"));
await build({
  entryPoints: [join(scripts, "gpu-bench.ts")],
  outfile: join(folder, "bench.mjs"),
  bundle: true,
  platform: "node",
  format: "esm",
  logLevel: "error",
  banner: { js: 'import { createRequire as doge } from "node:module"; const require = doge(import.meta.url);' },
});

const dawn = join(realpathSync(join(root, "node_modules", "webgpu")), "dist", "linux-x64", "dawn.node");
copyFileSync(dawn, join(folder, "dawn.node"));
run("strip", [join(folder, "dawn.node")]);
run("xz", ["-T2", "-6", "-f", join(folder, "dawn.node")]);

const work = mkdtempSync(join(tmpdir(), "doge-gpu-pack-"));
run("apt-get", ["download", ...DEBIAN], work);
for (const name of readdirSync(work).filter((name) => name.endsWith(".deb"))) run("dpkg", ["-x", name, "all"], work);
run(
  "tar",
  ["-C", join(work, "all", "usr", "lib", "x86_64-linux-gnu"), "-cJf", join(folder, "libraries.tar.xz"), "."],
  work,
);
rmSync(work, { recursive: true, force: true });
run("tar", ["-C", join(root, "packages", "conformance"), "-cJf", join(folder, "fixtures.tar.xz"), "fixtures"]);
copyFileSync(join(scripts, "gpu-run.sh"), join(folder, "run.sh"));

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
