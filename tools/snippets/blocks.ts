// The code blocks of the README and of the documentation, and a folder to run them in: a project with the packages as an
// install would put them, and the demo model where a snippet names a folder.
//
// What stands behind the language says where a block runs: nothing, in a process of its own; `page`, in a browser (blocks of one
// section that begin with a file's name are one program, and `html` is the page itself); `gpu`, nowhere here, but its types are checked; `vite` and `esbuild`, as
// what builds a page; `suite`, as a test file.
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMIT, TestHub } from "../../packages/core/test/hub/server.ts";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const demo = join(root, "packages", "demo-model");

export interface Block {
  /** Page and line. */
  readonly where: string;
  /** Page and last heading. */
  readonly section: string;
  readonly language: string;
  /** "", or where it runs. */
  readonly mark: string;
  readonly code: string;
}

/** The fenced blocks of a page that name a language, with what indents them (in a list) taken off. */
function blocksOf(page: string, text: string): Block[] {
  return [...text.matchAll(/^( *)```(\w+)([^\n]*)\n([\s\S]*?)^\1```$/gm)].map((match) => {
    const [, indent = "", language = "", mark = "", body = ""] = match;
    const before = text.slice(0, match.index);
    const heading = before.match(/^#+ .*$/gm)?.at(-1) ?? "";
    return {
      where: `${relative(root, page)}:${before.split("\n").length}`,
      section: `${relative(root, page)} ${heading}`,
      language,
      mark: mark.trim(),
      code: body.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
    };
  });
}

/** All blocks, page by page. */
export async function readBlocks(): Promise<Block[]> {
  const pages = [
    "README.md",
    ...(await readdir(join(root, "docs"), { recursive: true })).map((name) => join("docs", name)),
    ...(await readdir(join(root, "packages"))).map((name) => join("packages", name, "README.md")),
  ]
    .filter((name) => name.endsWith(".md") && !/node_modules|[\\/]api[\\/]|[\\/]\.vitepress[\\/]/.test(name))
    .sort()
    .map((name) => join(root, name));
  return (await Promise.all(pages.map(async (page) => blocksOf(page, await readFile(page, "utf8"))))).flat();
}

/** The folder in which snippets run. */
export class Place {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(): Promise<Place> {
    const place = new Place(await realpath(await mkdtemp(join(tmpdir(), "doge-snippets-"))));
    for (const [name, target] of [
      ["core", "core"],
      ["wasm", "backend-wasm"],
      ["webgpu", "backend-webgpu"],
      ["cuda", "backend-cuda"],
      ["reference", "backend-reference"],
      ["conformance", "conformance"],
      ["demo-model", "demo-model"],
      ["tokenizer-fast", "tokenizer-fast"],
    ] as const) {
      await place.link(join(root, "packages", target), "node_modules", "@doge-lm", name);
    }
    for (const name of ["react", "react-dom", "@types/react", "@types/react-dom"]) {
      await place.link(join(root, "tools", "node_modules", name), "node_modules", name);
    }
    for (const name of ["@types/node", "vitest"])
      await place.link(join(root, "node_modules", name), "node_modules", name);
    await place.link(demo, "page", "Doge-60M-Instruct");
    await place.link(demo, "page", "path", "to", "a", "doge");
    await place.write("src/index.ts", 'export { reference as mine } from "@doge-lm/reference";\n');
    await place.write("package.json", '{ "type": "module" }\n');
    return place;
  }

  /** @returns its path */
  async write(name: string, text: string): Promise<string> {
    const path = join(this.folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    return path;
  }

  async link(target: string, ...path: readonly string[]): Promise<void> {
    const at = join(this.folder, ...path);
    await mkdir(dirname(at), { recursive: true });
    await symlink(target, at, "junction");
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A hub on this machine that serves the demo model under every name that the blocks use. */
export async function hubOf(blocks: readonly Block[]): Promise<TestHub> {
  const files: Record<string, Uint8Array> = {};
  for (const name of await readdir(demo)) {
    if (/^(.*config|tokenizer|special_tokens_map)\.json$|safetensors$/.test(name)) {
      files[name] = await readFile(join(demo, name));
    }
  }
  const hub = new TestHub({});
  for (const { code } of blocks) {
    for (const [name] of code.matchAll(/SmallDoge\/[\w.-]+/g)) hub.repositories[name] = { commit: COMMIT, files };
  }
  return hub.start();
}
