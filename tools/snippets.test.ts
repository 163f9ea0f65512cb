// Every code block of the README and of the documentation, run as it stands. `ts` runs in a process of its own, `ts no-run` (a
// browser, a test runner) is type-checked like all others, `sh` runs on the command line. Hub names are answered by a hub on
// this machine that serves the demo model under every name; ./Doge-60M-Instruct and path/to/a/doge are the demo model's folder.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { COMMIT, TestHub } from "../packages/core/test/hub/server.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = join(root, "packages", "demo-model");
const doge = join(root, "apps", "cli", "src", "bin.ts");
const hub = new TestHub({});
let place: string;

interface Block {
  readonly where: string;
  readonly language: string;
  readonly run: boolean;
  readonly code: string;
}

/** The fenced blocks of a page that name a language, with what indents them (in a list) taken off. */
function blocksOf(file: string, text: string): Block[] {
  return [...text.matchAll(/^( *)```(\w+)([^\n]*)\n([\s\S]*?)^\1```$/gm)].map((match) => {
    const [, indent = "", language = "", marks = "", body = ""] = match;
    return {
      where: `${relative(root, file)}:${text.slice(0, match.index).split("\n").length}`,
      language,
      run: !/\bno-run\b/.test(marks),
      code: body.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
    };
  });
}

const pages = [
  "README.md",
  ...(await readdir(join(root, "docs"), { recursive: true })).map((name) => join("docs", name)),
  ...(await readdir(join(root, "packages"))).map((name) => join("packages", name, "README.md")),
]
  .filter((name) => name.endsWith(".md") && !/node_modules|[\\/]api[\\/]|[\\/]\.vitepress[\\/]/.test(name))
  .sort()
  .map((name) => join(root, name));
const blocks = (await Promise.all(pages.map(async (page) => blocksOf(page, await readFile(page, "utf8"))))).flat();
const scripts = blocks.filter(({ language }) => language === "ts");
const commands = blocks
  .filter(({ language }) => language === "sh")
  .flatMap(({ where, code }) =>
    code
      .split("\n")
      .map((line) => line.replace(/(^|\s)#.*/, "").trim())
      .filter((line) => line !== "")
      .map((line) => ({ where, line })),
  );
const fileOf = (index: number) => join(place, "page", `block-${index}.ts`);

beforeAll(async () => {
  place = await realpath(await mkdtemp(join(tmpdir(), "doge-snippets-")));
  const files: Record<string, Uint8Array> = {};
  for (const name of await readdir(demo)) {
    if (/^(.*config|tokenizer|special_tokens_map)\.json$|safetensors$/.test(name)) {
      files[name] = await readFile(join(demo, name));
    }
  }
  for (const { code } of blocks) {
    for (const [name] of code.matchAll(/SmallDoge\/[\w.-]+/g)) hub.repositories[name] = { commit: COMMIT, files };
  }
  await hub.start();
  // The packages as an install would put them, and what a snippet takes from its own project.
  for (const [name, target] of [
    ["core", "core"],
    ["wasm", "backend-wasm"],
    ["cuda", "backend-cuda"],
    ["reference", "backend-reference"],
    ["conformance", "conformance"],
    ["demo-model", "demo-model"],
  ] as const) {
    await link(join(root, "packages", target), "node_modules", "@doge-lm", name);
  }
  await link(join(root, "node_modules", "@types"), "node_modules", "@types");
  await link(demo, "page", "Doge-60M-Instruct");
  await link(demo, "page", "path", "to", "a", "doge");
  await mkdir(join(place, "src"));
  await writeFile(join(place, "src", "index.ts"), 'export { reference as mine } from "@doge-lm/reference";\n');
  await writeFile(join(place, "package.json"), '{ "type": "module" }\n');
  await writeFile(
    join(place, "tsconfig.json"),
    JSON.stringify({
      extends: join(root, "tsconfig.base.json"),
      compilerOptions: { noEmit: true, moduleDetection: "force", typeRoots: [join(place, "node_modules", "@types")] },
      include: ["page/*.ts"],
    }),
  );
  for (const [index, { code }] of scripts.entries()) await writeFile(fileOf(index), code);
});
afterAll(async () => {
  await hub.stop();
  await rm(place, { recursive: true, force: true });
});

async function link(target: string, ...path: readonly string[]): Promise<void> {
  const at = join(place, ...path);
  await mkdir(dirname(at), { recursive: true });
  await symlink(target, at, "junction");
}

/** A program in the snippets' folder; the hub answers from this process, which must not be blocked. */
function start(program: string, args: readonly string[], input = "") {
  const child = spawn(program, args, {
    cwd: join(place, "page"),
    env: {
      PATH: process.env.PATH,
      NO_COLOR: "1",
      HOME: place,
      HF_HOME: join(place, "home"),
      HF_ENDPOINT: hub.url,
    },
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.stderr.on("data", (data) => {
    err += data;
  });
  child.stdin.on("error", () => {}); // a program need not read what it is told
  child.stdin.end(input);
  return new Promise<{ status: number | null; out: string; err: string }>((resolve) =>
    child.on("close", (status) => resolve({ status, out, err })),
  );
}

const node = (args: readonly string[], input?: string) =>
  start(process.execPath, ["--disable-warning=ExperimentalWarning", ...args], input);

describe("code blocks of the documentation", () => {
  test("there are some, and each is in a language that is tested", () => {
    expect(scripts.length).toBeGreaterThan(10);
    expect(commands.length).toBeGreaterThan(5);
    const others = blocks.filter(({ language }) => language !== "ts" && language !== "sh");
    expect(others.map(({ where, language }) => `${where}: ${language}`)).toEqual([]);
  });

  test("all TypeScript has the right types", async () => {
    const { out } = await start(process.execPath, [
      join(root, "node_modules", "typescript", "bin", "tsc"),
      "-p",
      join(place, "tsconfig.json"),
    ]);
    const named = out.replace(/(?:[\w./-]*\/)?block-(\d+)\.ts/g, (_, index) => scripts[Number(index)]!.where);
    expect(named).toBe("");
  });

  test.concurrent.each(scripts.map((block, index) => ({ ...block, index })).filter(({ run }) => run))(
    "$where runs",
    async ({ index }) => {
      const { status, out, err } = await node([fileOf(index)]);
      expect({ status, err }).toEqual({ status: 0, err: "" });
      expect(out).not.toBe("");
    },
  );

  test.concurrent.each(commands)("$where: $line", async ({ line }) => {
    const install = /^npm install (.+)$/.exec(line);
    if (install) {
      // Packed and installed by `npm run check`; here, that there are packages of these names.
      for (const name of install[1]!.split(" ")) {
        const manifest = join(place, "node_modules", name, "package.json");
        expect(JSON.parse(await readFile(manifest, "utf8"))).toMatchObject({ name });
      }
      return;
    }
    const command = /^(?:npm run --silent doge --|npx @doge-lm\/cli|npm run(?= chat$)) (.+)$/.exec(line);
    expect(command, "a command of doge, npm run chat, or npm install").not.toBeNull();
    const args = [...command![1]!.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
    // Ids are those of the published models' tokenizer; the demo model has fewer.
    const at = args.indexOf("--prompt-ids") + 1;
    if (at > 0) args[at] = args[at]!.replaceAll(/\d+/g, (id) => `${Number(id) % 1792}`);
    const { status, out, err } = await node([doge, ...args], args[0] === "chat" ? "Hello!\n" : "");
    expect({ status, err: status === 0 ? "" : err }).toEqual({ status: 0, err: "" });
    expect(out).not.toBe("");
  });
});
