// The files that a release changes, in a checkout or in a copy of what matters of one.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export const CHANGELOG = "CHANGELOG.md";
export const UPGRADING = "UPGRADING.md";
/** Core says its version in code, for what is kept between runs: a browser has no package.json. */
export const VERSION = join("packages", "core", "src", "version.ts");

export const readJson = (path: string): Manifest => JSON.parse(readFileSync(path, "utf8")) as Manifest;

/** Folders of all packages, relative to `root`; the root itself is "". */
const folders = (root: string): string[] => [
  "",
  ...["packages", "apps"].flatMap((group) => readdirSync(join(root, group)).map((name) => join(group, name))),
  ...["benchmarks", "docs", "tools"],
];

/** Manifests of the packages that are published, by folder. */
export function published(root: string): Map<string, Manifest> {
  const found = folders(root)
    .filter((folder) => existsSync(join(root, folder, "package.json")))
    .map((folder): [string, Manifest] => [folder, readJson(join(root, folder, "package.json"))]);
  return new Map(found.filter(([, { private: hidden }]) => hidden !== true));
}

/** Copy what versions and plans are made of, and nothing else, into an empty folder. */
export function copyWorkspace(root: string, to: string): void {
  const files = [
    ...folders(root).map((folder) => join(folder, "package.json")),
    ...[".changeset", "pnpm-workspace.yaml", "pnpm-lock.yaml", CHANGELOG, UPGRADING, VERSION],
  ];
  for (const file of files.filter((file) => existsSync(join(root, file)))) {
    mkdirSync(dirname(join(to, file)), { recursive: true });
    cpSync(join(root, file), join(to, file), { recursive: true });
  }
}
