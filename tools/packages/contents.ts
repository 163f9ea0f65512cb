// What a published package may hold: its compiled sources with their types, README, LICENSE and package.json, and by name what else it needs.
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import type { Manifest } from "./pack.ts";
import { root } from "./steps.ts";

/** Beside dist/, by package. */
const OWN: { readonly [name: string]: readonly RegExp[] } = {
  "@doge-lm/wasm": [/^build\/doge-(simd|relaxed)(-shared)?\.wasm$/, /^build\/worker\.js$/, /^types\/binary\.d\.ts$/],
  "@doge-lm/tokenizer-fast": [/^wasm\/tokenizer\.wasm$/, /^types\/binary\.d\.ts$/],
  // Compiled on the machine of those for whom there is no binary.
  "@doge-lm/cuda": [/^native\/((kernels|runner)\/)?[\w-]+\.(h|cc|cu|cuh)$/, /^scripts\/(build|resources)\.mjs$/],
  "@doge-lm/cuda-linux-x64": [/^doge_cuda\.node$/],
  "@doge-lm/conformance": [/^fixtures\/README\.md$/, /^fixtures\/[\w-]+\/[\w.-]+\.(json|safetensors|bin)$/],
  "@doge-lm/demo-model": [
    /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|golden|questions)\.json$/,
    /^model\.safetensors$/,
  ],
};
const REQUIRED = ["package.json", "README.md", "LICENSE"];

/** Compiled, and from a source that is there: what an earlier build left, or a test, is not. */
function isCompiledFrom(source: string, file: string): boolean {
  const [, name] = /^dist\/(.+?)(?:\.d\.ts|\.js)$/.exec(file) ?? [];
  return name !== undefined && !/\.test$/.test(name) && existsSync(join(source, "src", `${name}.ts`));
}

/** Remove what earlier builds of sources that are gone have left in the package's dist/: tsc does not. */
export function removeStale(source: string): void {
  const dist = join(source, "dist");
  if (!existsSync(dist)) return;
  for (const file of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
    const path = `dist/${file.replaceAll("\\", "/")}`;
    if (/\.(js|d\.ts)$/.test(path) && !isCompiledFrom(source, path)) rmSync(join(source, path));
  }
}

/** @throws with everything that is in a package and should not be, or is not and should be. */
export function assertContents({
  source,
  folder,
  manifest,
}: {
  source: string;
  folder: string;
  manifest: Manifest;
}): void {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll("\\", "/"));
  const own = OWN[manifest.name] ?? [];
  const isCompiled = (file: string): boolean => isCompiledFrom(source, file);
  const faults = [
    ...REQUIRED.filter((file) => !files.includes(file)).map((file) => `${file} is missing`),
    ...files
      .filter((file) => !REQUIRED.includes(file) && !isCompiled(file) && !own.some((pattern) => pattern.test(file)))
      .map((file) => `${file} does not belong into it`),
    ...own
      .filter((pattern) => !files.some((file) => pattern.test(file)))
      .map((pattern) => `nothing is like ${pattern}`),
    ...files
      .filter((file) => /\.js$/.test(file) && isCompiled(file) && !files.includes(file.replace(/js$/, "d.ts")))
      .map((file) => `${file} has no types`),
    ...manifestFaults(folder, manifest),
  ];
  if (faults.length > 0) throw new Error(`${manifest.name}: ${faults.join("; ")}.`);
}

function* manifestFaults(folder: string, manifest: Manifest): Generator<string> {
  const { version, license, engines, publishConfig } = manifest;
  if (license !== "Apache-2.0") yield `its licence is ${license}`;
  if (readFileSync(join(folder, "LICENSE"), "utf8") !== readFileSync(join(root, "LICENSE"), "utf8"))
    yield "its LICENSE is another";
  if (publishConfig?.access !== "public" || publishConfig.provenance !== true)
    yield "publishConfig lacks public access or provenance";
  if (engines !== undefined && engines.node !== ">=22.18") yield `it asks for Node ${engines.node}`;
  for (const [name, wanted] of Object.entries({ ...manifest.dependencies, ...manifest.optionalDependencies })) {
    if (name.startsWith("@doge-lm/") && wanted !== version)
      yield `it depends on ${name} ${wanted} and not on its own version`;
    if (!/^\d+\.\d+\.\d+$/.test(wanted)) yield `it depends on ${name} ${wanted}, which is no exact version`;
  }
}
