// Packs every package that is published and looks at each tarball: what is in it, what it weighs, what the linters say.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { assertContents } from "./contents.ts";
import { kilobytes, root, run, tool } from "./steps.ts";

export const packs: string = join(root, ".cache", "packs");

/** Bytes that a published package may unpack to, with the reason. */
interface Limit {
  readonly bytes: number;
  readonly why: string;
}
const LIMITS: Record<string, Limit> = {
  "@doge-lm/demo-model": { bytes: 4_000_000, why: "the bundled model is a taste, not a download" },
  "@doge-lm/tokenizer-fast": {
    bytes: 300_000,
    why: "a page loads it for its speed: it must not cost the time it saves",
  },
  "@doge-lm/conformance": { bytes: 4_000_000, why: "fixtures and goldens travel with the suite" },
  "@doge-lm/cuda-linux-x64": { bytes: 5_100_000, why: "code for every GPU since 2018 in one file of 5 MB at most" },
};
const DEFAULT_LIMIT: Limit = {
  bytes: 1_000_000,
  why: "install size is a feature: 3 MB for a backend with all it depends on",
};

export const limitOf = (name: string): Limit => LIMITS[name] ?? DEFAULT_LIMIT;

/** What the checks read of a packed package.json. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly license?: string;
  readonly engines?: Record<string, string>;
  readonly publishConfig?: { readonly access?: string; readonly provenance?: boolean };
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
  readonly scripts?: Record<string, string>;
  readonly exports?: Record<string, unknown>;
}

/** A packed package: where it is made, its tarball, the folder that holds what is in it, and its manifest as published. */
export interface Packed {
  readonly source: string;
  readonly tarball: string;
  readonly folder: string;
  readonly manifest: Manifest;
}

const manifestIn = (folder: string): Manifest => JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));

/** Bytes of all files in `folder`. */
export function folderSize(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size;
  }
  return bytes;
}

/** Folders of the packages that are published. */
export function published(): string[] {
  return ["packages", "apps"]
    .flatMap((group) => readdirSync(join(root, group)).map((name) => join(root, group, name)))
    .filter((folder) => !manifestIn(folder).private);
}

/** The compiled file that a package of one holds and that only a release makes, while it is not there. */
export function missingBinary(folder: string): string | undefined {
  const entries = Object.values(manifestIn(folder).exports ?? {});
  return entries.find(
    (entry): entry is string =>
      typeof entry === "string" && entry.endsWith(".node") && !existsSync(join(folder, entry)),
  );
}

/** Begin with an empty folder of tarballs. */
export function clearPacks(): void {
  rmSync(packs, { recursive: true, force: true });
  mkdirSync(packs, { recursive: true });
}

/** Pack the package in `folder`. */
export function pack(folder: string): Packed {
  const printed = run("pnpm", ["pack", "--json", "--pack-destination", packs], folder);
  const { filename: tarball } = JSON.parse(printed) as { filename: string };
  const unpacked = join(packs, manifestIn(folder).name.replace("/", "+"));
  mkdirSync(unpacked);
  run("tar", ["xzf", tarball, "-C", unpacked], root);
  const content = join(unpacked, "package");
  return { source: folder, tarball, folder: content, manifest: manifestIn(content) };
}

/** What a packed package weighs. @throws when it may not be published like this. */
export function inspect({ source, tarball, folder, manifest }: Packed): string {
  const bytes = folderSize(folder);
  const limit = limitOf(manifest.name);
  if (bytes > limit.bytes) throw new Error(`It unpacks to ${bytes} bytes, over ${limit.bytes}: ${limit.why}.`);
  assertContents({ source, folder, manifest });
  for (const hook of ["preinstall", "install", "postinstall"]) {
    if (manifest.scripts?.[hook] !== undefined) throw new Error(`It has a script, ${hook}, that runs at install.`);
  }
  tool("publint/src/cli.js", ["--strict", tarball]);
  // Published as ES modules alone. Binaries and the worker's script are entry points for bundlers and loaders, and have no types.
  const files = Object.keys(manifest.exports ?? {}).filter((entry) => /\.(wasm|node)$|worker\.js$/.test(entry));
  tool("@arethetypeswrong/cli/dist/index.js", [
    tarball,
    "--profile=esm-only",
    "--no-color",
    ...(files.length === 0 ? [] : ["--exclude-entrypoints", ...files]),
  ]);
  return `${kilobytes(statSync(tarball).size)} packed, ${kilobytes(bytes)} unpacked`;
}
