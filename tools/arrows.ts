// Fails when an import crosses an arrow of CONTRIBUTING.md the wrong way: which package may import which, that core stays free
// of platform code, and that the files of a package import each other one way. Reads import specifiers as text.
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What the sources of a folder may import from the workspace. Tests may also import the conformance suite and siblings. */
const ARROWS: Record<string, readonly string[]> = {
  "packages/core": ["core"],
  "packages/backend-reference": ["core", "reference"],
  "packages/backend-wasm": ["core", "wasm"],
  "packages/backend-webgpu": ["core", "webgpu"],
  "packages/backend-cuda": ["core", "cuda"],
  "packages/conformance": ["core", "demo-model"],
  "packages/demo-model": [],
  "packages/tokenizer-fast": ["core", "tokenizer-fast"],
  "apps/cli": ["core", "reference", "wasm", "webgpu", "cuda", "demo-model"],
  "apps/web": ["core", "wasm", "webgpu", "demo-model"],
};
/** Tests: the witnesses a package may be compared with. */
const TEST_ARROWS: readonly string[] = ["core", "conformance", "reference", "wasm", "demo-model"];

/** Runtime packages from the registry that sources may import. */
const LIBRARIES: Record<string, readonly string[]> = {
  "packages/core": ["@huggingface/jinja", "@huggingface/tokenizers"],
  "packages/backend-wasm": ["@assemblyscript/loader"],
  "packages/conformance": ["vitest"],
  "apps/cli": ["commander"],
  "apps/web": ["preact", "marked"],
};

/** Files of otherwise platform-free packages that may import node: modules. */
const PLATFORM: readonly RegExp[] = [
  /^packages\/core\/src\/node\//,
  /^packages\/conformance\/src\//,
  /^packages\/backend-wasm\/src\/instantiate\.ts$/,
  /^packages\/backend-cuda\/(src|scripts)\//,
  /^apps\//,
];

export interface Violation {
  readonly file: string;
  readonly specifier: string;
  readonly why: string;
}

/** Every import, export-from and dynamic import specifier of a source text. */
export function specifiers(source: string): string[] {
  const found: string[] = [];
  const pattern =
    /^(?:import|export)\s(?:[^;"'`]*?\bfrom\s+)?["']([^"'\n]+)["']|\bimport\(\s*["']([^"'\n]+)["']\s*\)/gm;
  for (const match of source.matchAll(pattern)) found.push((match[1] ?? match[2])!);
  return found;
}

/** What is wrong with `specifier` imported from `file` (relative to the root, with slashes), or null. */
export function judge(file: string, specifier: string): string | null {
  const owner = Object.keys(ARROWS).find((folder) => file.startsWith(`${folder}/`));
  if (owner === undefined) return null;
  const test = !file.startsWith(`${owner}/src/`);
  if (specifier.startsWith("node:")) {
    return test || PLATFORM.some((pattern) => pattern.test(file))
      ? null
      : "platform code belongs in src/node or an app";
  }
  const workspace = /^@doge-lm\/([^/]+)/.exec(specifier)?.[1];
  if (workspace !== undefined) {
    if (ARROWS[owner]!.includes(workspace) || (test && TEST_ARROWS.includes(workspace))) return null;
    return `${owner} may not import @doge-lm/${workspace}`;
  }
  if (specifier.startsWith(".")) {
    const depth = relative(owner, file).split(sep).length - 1;
    const ups = specifier.split("/").filter((part) => part === "..").length;
    return ups > depth && !test ? "a relative import leaves its package: import the package by name" : null;
  }
  if (test || (LIBRARIES[owner] ?? []).some((name) => specifier === name || specifier.startsWith(`${name}/`)))
    return null;
  return `${owner} does not list ${specifier} among its libraries (tools/arrows.ts)`;
}

/** The files that go round in circles: each list begins and ends with the same file. */
export function circles(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const path: string[] = [];
  const done = new Set<string>();
  const visit = (file: string): void => {
    const at = path.indexOf(file);
    if (at >= 0) found.push([...path.slice(at), file]);
    if (at >= 0 || done.has(file)) return;
    path.push(file);
    for (const next of imports.get(file) ?? []) visit(next);
    path.pop();
    done.add(file);
  };
  for (const file of imports.keys()) visit(file);
  return found;
}

export function violations(): Violation[] {
  const found: Violation[] = [];
  const sources = new Map<string, string[]>();
  for (const group of ["packages", "apps"]) {
    for (const entry of readdirSync(join(root, group), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(ts|tsx|mts|mjs)$/.test(entry.name)) continue;
      const file = relative(root, join(entry.parentPath, entry.name)).split(sep).join("/");
      if (/\/(node_modules|dist|build|assembly)\//.test(file)) continue;
      const all = specifiers(readFileSync(join(root, file), "utf8"));
      const near = all.filter((specifier) => specifier.startsWith("."));
      if (file.includes("/src/"))
        sources.set(
          file,
          near.map((specifier) => posix.join(posix.dirname(file), specifier)),
        );
      for (const specifier of all) {
        const why = judge(file, specifier);
        if (why !== null) found.push({ file, specifier, why });
      }
    }
  }
  for (const [file, next, ...rest] of circles(sources)) {
    found.push({
      file: file!,
      specifier: next!,
      why: `the imports go round in a circle: ${[file, next, ...rest].join(" → ")}`,
    });
  }
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = violations();
  for (const { file, specifier, why } of found) console.error(`${file}: import "${specifier}": ${why}.`);
  console.log(found.length === 0 ? "Every import follows an arrow." : `${found.length} imports cross an arrow.`);
  process.exitCode = found.length === 0 ? 0 : 1;
}
