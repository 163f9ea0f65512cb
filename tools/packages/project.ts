// A user's project: an empty folder outside the checkout, where packages are installed from their tarballs by npm.
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { folderSize, type Packed } from "./pack.ts";
import { run } from "./steps.ts";

/** What installing one backend may bring, itself included. */
const BACKEND = { packages: 5, bytes: 3_000_000 };
const BACKENDS: readonly string[] = ["@doge-lm/wasm", "@doge-lm/webgpu", "@doge-lm/cuda", "@doge-lm/reference"];

export interface Installed {
  /** Itself included. */
  readonly packages: number;
  readonly bytes: number;
}

export class Project implements Disposable {
  readonly folder: string = realpathSync(mkdtempSync(join(tmpdir(), "doge-pack-")));

  /** Write a file of the project; its path. */
  write(name: string, content: string): string {
    const path = join(this.folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return path;
  }

  /** Install `name` alone; how much that brings. @throws when a backend is more than its bars, or a script wants to run. */
  install(name: string, packed: ReadonlyMap<string, Packed>): Installed {
    // Tarballs depend on each other by version; overrides point npm at the packed files.
    const overrides = Object.fromEntries([...packed].map(([name, { tarball }]) => [name, `file:${tarball}`]));
    const dependencies = { [name]: overrides[name] };
    this.write("package.json", JSON.stringify({ private: true, type: "module", dependencies, overrides }));
    const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    run("npm", ["install", "--ignore-scripts", "--omit=peer", ...quiet], this.folder);
    const installed = readFileSync(join(this.folder, "node_modules", ".package-lock.json"), "utf8");
    const { packages: entries } = JSON.parse(installed) as { packages: Record<string, { hasInstallScript?: boolean }> };
    for (const [path, { hasInstallScript }] of Object.entries(entries)) {
      if (hasInstallScript) throw new Error(`${path} runs a script at install; nothing that a package brings may.`);
    }
    const packages = Object.keys(entries).length;
    const bytes = folderSize(join(this.folder, "node_modules"));
    if (BACKENDS.includes(name) && (packages > BACKEND.packages || bytes > BACKEND.bytes)) {
      throw new Error(
        `A backend is at most ${BACKEND.packages} packages and ${BACKEND.bytes / 1e6} MB, not ${packages} and ${(bytes / 1e6).toFixed(2)}.`,
      );
    }
    return { packages, bytes };
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
