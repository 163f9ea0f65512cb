// Builds the four binaries from the one AssemblyScript source: build/doge-simd.wasm and build/doge-relaxed.wasm for one thread,
// build/doge-simd-shared.wasm and build/doge-relaxed-shared.wasm for several over one memory.
// And build/worker.js, the worker's script as a file. Does nothing when neither the sources nor the compiler have changed since the last build.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { flags } from "./flags.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const build = join(root, "build");
const shared = ["--sharedMemory", "--maximumMemory", "65536"];
const binaries = {
  "doge-simd": ["--enable", "simd"],
  "doge-relaxed": ["--enable", "simd,relaxed-simd"],
  "doge-simd-shared": ["--enable", "simd,threads", ...shared],
  "doge-relaxed-shared": ["--enable", "simd,relaxed-simd,threads", ...shared],
};

/** Every file under `path`, in a fixed order. */
function filesUnder(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesUnder(join(path, name)));
}

const compiler = JSON.parse(readFileSync(join(root, "node_modules/assemblyscript/package.json"), "utf8")).version;
const hash = createHash("sha256").update(JSON.stringify([compiler, flags, binaries]));
for (const file of [
  join(root, "assembly"),
  join(root, "src/descriptor.ts"),
  join(root, "src/worker-source.ts"),
].flatMap(filesUnder)) {
  hash.update(file.slice(root.length)).update(readFileSync(file));
}
const stamp = hash.digest("hex");
const stampFile = join(build, "stamp");
const outputs = [...Object.keys(binaries).map((name) => join(build, `${name}.wasm`)), join(build, "worker.js")];
const built = existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp && outputs.every(existsSync);

if (!built) {
  const { default: asc } = await import("assemblyscript/asc");
  mkdirSync(build, { recursive: true });
  for (const [name, own] of Object.entries(binaries)) {
    const { error, stderr } = await asc.main(
      ["assembly/index.ts", "--baseDir", root, "-o", `build/${name}.wasm`, ...flags, ...own],
      { stdout: process.stdout },
    );
    if (error) {
      console.error(stderr.toString());
      throw error;
    }
  }
  const { workerSource } = await import("../src/worker-source.ts");
  writeFileSync(join(build, "worker.js"), workerSource);
  writeFileSync(stampFile, stamp);
}
