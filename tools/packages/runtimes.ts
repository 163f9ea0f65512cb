// The runtimes that a package must answer in: this Node, the oldest that the packages promise, Bun and Deno. What npm has of
// them lies in the cache; it is brought in continuous integration, or when asked for.
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, run, Skipped } from "./steps.ts";

/** How a runtime starts a script: a program, and arguments before the script's path. */
export interface Runtime {
  readonly name: string;
  /** The npm package that holds the program and its path in there; null: the Node that runs this. */
  readonly from: { readonly package: string; readonly version: string; readonly path: string } | null;
  readonly args: readonly string[];
}

const { platform, arch } = process;
const exe = platform === "win32" ? ".exe" : "";
const short = platform === "win32" ? "win" : platform;
const bunPlatform = `${platform === "win32" ? "windows" : platform}-${arch === "arm64" ? "aarch64" : arch}`;

export const RUNTIMES: readonly Runtime[] = [
  { name: `Node ${process.versions.node}`, from: null, args: [] },
  {
    name: "Node 22.18.0",
    from: { package: `node-${short}-${arch}`, version: "22.18.0", path: join("bin", `node${exe}`) },
    args: [],
  },
  {
    name: "Bun 1.4.5",
    from: { package: `@oven/bun-${bunPlatform}`, version: "1.4.5", path: join("bin", `bun${exe}`) },
    args: [],
  },
  {
    name: "Deno 2.9.6",
    from: {
      package: `@deno/${platform}-${arch}${platform === "linux" ? "-glibc" : ""}`,
      version: "2.9.6",
      path: `deno${exe}`,
    },
    // Reading the packages and the model is all it may do.
    args: ["run", "--quiet", "--no-prompt", "--allow-read"],
  },
];

/** The program of a runtime. @throws Skipped when it is not here and may not, or cannot, be brought. */
export function programOf({ name, from }: Runtime, bring: boolean): string {
  if (from === null) return process.execPath;
  const folder = join(root, ".cache", "runtimes", name.toLowerCase().replace(" ", "-"));
  const program = join(folder, "node_modules", from.package, from.path);
  if (existsSync(program)) return program;
  if (!bring) throw new Skipped("not in the cache; node tools/packages.ts --full brings it");
  // Adapters and packages may bring the same at once: each its own, put in place whole.
  const half = `${folder}.${process.pid}`;
  mkdirSync(half, { recursive: true });
  writeFileSync(join(half, "package.json"), '{ "private": true }\n');
  const spec = `${from.package}@${from.version}`;
  try {
    run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", spec], half);
  } catch (error) {
    rmSync(half, { recursive: true, force: true });
    throw new Skipped(`npm could not install ${spec}: ${(error as { stderr?: string }).stderr ?? String(error)}`);
  }
  if (existsSync(program)) rmSync(half, { recursive: true, force: true });
  else {
    rmSync(folder, { recursive: true, force: true });
    renameSync(half, folder);
  }
  if (!existsSync(program)) throw new Skipped(`${spec} has no ${from.path}`);
  return program;
}
