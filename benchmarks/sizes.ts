// What an install brings: our packages from their tarballs with all they depend on, and the peers that lie beside this folder.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { clearPacks, folderSize, missingBinary, type Packed, pack, published } from "../tools/packages/pack.ts";
import { Project } from "../tools/packages/project.ts";
import { type Failure, origin, root, type SizeResult } from "./results.ts";

const OURS = [
  "@doge-lm/wasm",
  "@doge-lm/webgpu",
  "@doge-lm/cuda",
  "@doge-lm/reference",
  "@doge-lm/tokenizer-fast",
  "@doge-lm/cli",
];
const PEERS = ["node-llama-cpp", "@wllama/wllama", "onnxruntime-node", "onnxruntime-web"];

/** null when our packages cannot be built here. */
export async function measureSizes(say: (line: string) => void, failures: Failure[]): Promise<SizeResult[] | null> {
  const turbo = join(root, "node_modules", ".bin", "turbo");
  const build = spawnSync(turbo, ["run", "build", "--filter=!@doge-lm/docs", "--output-logs=errors-only"], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1" },
  });
  const fail = (why: string): null => {
    failures.push({ engine: "sizes", what: "what an install brings", kind: "failed", why, ...origin() });
    return null;
  };
  if (build.status !== 0) return fail(`The packages could not be built: ${build.stderr.trim().split("\n").at(-1)}`);
  try {
    clearPacks();
    const packed = new Map<string, Packed>();
    for (const folder of published().filter((folder) => missingBinary(folder) === undefined)) {
      const one = pack(folder);
      packed.set(one.manifest.name, one);
    }
    const sizes: SizeResult[] = [];
    for (const name of OURS.filter((name) => packed.has(name))) {
      using project = new Project();
      project.install(name, packed);
      const modules = join(project.folder, "node_modules");
      const { packages } = JSON.parse(readFileSync(join(modules, ".package-lock.json"), "utf8")) as {
        packages: object;
      };
      sizes.push({ name, packages: Object.keys(packages).length, bytes: folderSize(modules), ours: true, ...origin() });
    }
    for (const name of PEERS) {
      const folders = dependenciesOf(name, join(root, "benchmarks", "peers", "node_modules"));
      if (folders.size === 0) continue;
      const bytes = [...folders].reduce((sum, folder) => sum + ownSize(folder), 0);
      sizes.push({ name, packages: folders.size, bytes, ours: false, ...origin() });
    }
    for (const { name, bytes, packages } of sizes)
      say(`${name}: ${(bytes / 1e6).toFixed(2)} MB in ${packages} packages`);
    return sizes;
  } catch (error) {
    return fail((error as Error).message);
  }
}

const ownSize = (folder: string): number => {
  const inner = join(folder, "node_modules");
  return folderSize(folder) - (existsSync(inner) ? folderSize(inner) : 0);
};

/** Folders of a package and of all it depends on, as Node finds them. */
function dependenciesOf(name: string, modules: string): Set<string> {
  const found = new Set<string>();
  const add = (name: string, places: readonly string[]): void => {
    const place = places.find((place) => existsSync(join(place, name, "package.json")));
    if (place === undefined) return;
    const folder = realpathSync(join(place, name));
    if (found.has(folder)) return;
    found.add(folder);
    const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
      dependencies?: object;
      optionalDependencies?: object;
    };
    const next = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
    for (const other of next) add(other, [join(folder, "node_modules"), ...places]);
  };
  add(name, [modules]);
  return found;
}
