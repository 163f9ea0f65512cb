// The table of sizes: what each package weighs, beside its limits and beside what it weighed when the table was last written down, so that
// growth is seen in every run.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";
import { folderSize, limitOf, type Packed } from "./pack.ts";
import type { Installed, Project } from "./project.ts";
import { root } from "./steps.ts";

/** Bytes, and how many packages an install brings beside this one. */
export interface Size {
  readonly packed: number;
  readonly unpacked: number;
  /** All that a page can load of it, core and dependencies included, bundled, minified and gzipped, with its largest binary. */
  readonly page?: number;
  readonly dependencies: number;
  readonly installed: number;
}
export type Sizes = Readonly<Record<string, Size>>;

const file = join(root, "tools", "packages", "sizes.json");
/** Packages that no page loads. */
const notForPages: readonly string[] = [
  "@doge-lm/cli",
  "@doge-lm/conformance",
  "@doge-lm/cuda",
  "@doge-lm/cuda-linux-x64",
  "@doge-lm/demo-model",
];

export const recordedSizes = (): Sizes => (existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Sizes) : {});
export const recordSizes = (sizes: Sizes): void => writeFileSync(file, `${JSON.stringify(sizes, null, 2)}\n`);

/** What `packed` weighs, installed alone in `project`. */
export async function sizeOf(
  { tarball, folder, manifest }: Packed,
  project: Project,
  { packages, bytes }: Installed,
): Promise<Size> {
  const { name } = manifest;
  const page = notForPages.includes(name) ? {} : { page: await pageSize(project, name, folder) };
  return {
    packed: statSync(tarball).size,
    unpacked: folderSize(folder),
    ...page,
    dependencies: packages - 1,
    installed: bytes,
  };
}

async function pageSize(project: Project, name: string, folder: string): Promise<number> {
  const { outputFiles } = await esbuild.build({
    stdin: { contents: `export * from "${name}";`, resolveDir: project.folder },
    ...{ bundle: true, minify: true, write: false, format: "esm", platform: "browser", target: "es2022" },
  });
  const gzipped = (bytes: Uint8Array): number => gzipSync(bytes, { level: 9 }).length;
  const binaries = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((entry) => entry.endsWith(".wasm"))
    .map((entry) => gzipped(readFileSync(join(folder, entry))));
  return gzipped(outputFiles[0]!.contents) + Math.max(0, ...binaries);
}

/** A line for each package: what it is, what it may be, and by how much it has changed. */
export function sizeTable(sizes: Sizes, before: Sizes): string {
  const rows = Object.entries(sizes).map(([name, size]) => {
    const old = before[name];
    return [
      name,
      cell(size.packed, old?.packed),
      `${cell(size.unpacked, old?.unpacked)} of ${kilo(limitOf(name).bytes)}`,
      size.page === undefined ? "" : cell(size.page, old?.page),
      `${size.dependencies}${old !== undefined && old.dependencies !== size.dependencies ? ` (was ${old.dependencies})` : ""}`,
      cell(size.installed, old?.installed),
    ];
  });
  const gone = Object.keys(before).filter((name) => !(name in sizes));
  const all = [["kB", "packed", "unpacked, of its limit", "in a page, gzipped", "brings", "installed"], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const lines = all.map((row) =>
    row
      .map((text, column) => (column === 0 ? text.padEnd(widths[column]!) : text.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
  return [...lines, ...gone.map((name) => `${name} was not packed here`)].join("\n");
}

const kilo = (bytes: number): string => (bytes / 1000).toFixed(bytes < 1e5 ? 1 : 0);

/** "184 (+3.2)": changes under 50 bytes are none. */
function cell(bytes: number, before: number | undefined): string {
  if (before === undefined) return `${kilo(bytes)} (new)`;
  const change = bytes - before;
  return Math.abs(change) < 50
    ? kilo(bytes)
    : `${kilo(bytes)} (${change > 0 ? "+" : "-"}${(Math.abs(change) / 1000).toFixed(1)})`;
}
