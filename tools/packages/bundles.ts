// Bundles the packed @doge-lm/wasm and @doge-lm/webgpu with Vite, webpack and esbuild, for pages and for Node, as a user's project would.
import { readdirSync, readFileSync, renameSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";
import * as vite from "vite";
import webpack from "webpack";
import type { Project } from "./project.ts";
import { kilobytes } from "./steps.ts";

/** What a page may download before the model: the whole runtime, gzipped. */
const PAGE_LIMIT = 150_000;

/** Ask the model and give the text to `say`; `before` that does something else with it. */
const ask = (source: string, options: string, say: string, before = ""): string => `
const doge = await load(${source}, ${options});
${before}
const answer = doge.generate([{ role: "user", content: "Hi, how are you doing today?" }], { maxNewTokens: 40, temperature: 0 });
let text = "";
for await (const piece of answer) text += piece.text;
await doge.close();
${say};
`;

/** A program for Node and its like: the folder of the model is its argument. */
const script = (imports = "", options = "{}"): string =>
  `${LOAD}${imports}${ask("process.argv[2]", options, "console.log(text)")}`;

/** The program of a page, which has the model's `files` under model/ and posts what is answered to answer/. */
const page = (imports: string, work: string): string => `${imports}
const post = (body) => fetch("answer/", { method: "POST", body });
addEventListener("error", ({ message }) => post("error: " + message));
addEventListener("unhandledrejection", ({ reason }) => post("error: " + reason));
const files = {};
for (const name of ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
  files[name] = await (await fetch("model/" + name)).blob();
}
${work}`;

/** What a page found out: its answer, how many threads computed, and how it fared meanwhile. */
export interface PageReport {
  readonly text: string;
  readonly device: string;
  readonly threads: number;
  /** How often the page had its turn while a long text was read, and the longest time that it did not, in milliseconds. */
  readonly turns: number;
  readonly gap: number;
}

/** Ask the model for a report; while it reads 4,000 tokens the page counts its turns. */
const askForReport = (source: string, options: string, say: (report: string) => string): string =>
  ask(
    source,
    options,
    say("JSON.stringify({ text, device: doge.info().device, threads: doge.info().threads, turns, gap })"),
    `
const long = "Once upon a time there was a dog. ".repeat(40);
await doge.score(long);
let [turns, gap, last, reading] = [0, 0, performance.now(), true];
const turn = () => {
  const now = performance.now();
  gap = Math.max(gap, now - last);
  last = now;
  turns++;
  if (reading) setTimeout(turn);
};
setTimeout(turn);
for (let time = 0; time < 10; time++) await doge.score(long);
reading = false;
`,
  );

const LOAD = 'import { load } from "@doge-lm/wasm";\n';

/** A worker that answers from the files it is sent, and the page that has it. */
const WORKER = `${LOAD}
addEventListener("unhandledrejection", ({ reason }) => postMessage("error: " + reason));
onmessage = async ({ data: files }) => {
${askForReport("files", "{}", (report) => `postMessage(${report})`)}
};
`;
const WITH_WORKER = `
const worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
worker.onmessage = ({ data }) => post(data);
worker.onerror = ({ message }) => post("error: " + message);
worker.postMessage(files);
`;

/** esbuild copies no files for new URL(): there, the binaries are imported and handed to load. */
const BINARIES = `import relaxed from "@doge-lm/wasm/doge-relaxed.wasm";
import relaxedShared from "@doge-lm/wasm/doge-relaxed-shared.wasm";
import simd from "@doge-lm/wasm/doge-simd.wasm";
import simdShared from "@doge-lm/wasm/doge-simd-shared.wasm";
`;
const ASSETS = "{ assets: { simd, relaxed, simdShared, relaxedShared } }";

/** A page whose policy allows no worker from a Blob has the worker's script as a file of its own; Vite would make so small a file part
 *  of the code. */
const WORKER_FILE = `import worker from "@doge-lm/wasm/worker.js?url&no-inline";
`;

export function writeSources(project: Project): void {
  const html = (program: string): string =>
    `<!doctype html><title>Doge</title><script type="module" src="./${program}"></script>\n`;
  project.write("script.mjs", script());
  project.write("script-assets.mjs", script(BINARIES, ASSETS));
  project.write("index.html", html("page.mjs"));
  const post = (report: string) => `await post(${report})`;
  project.write("page.mjs", page(LOAD, askForReport("files", "{}", post)));
  project.write("page-assets.mjs", page(LOAD + BINARIES, askForReport("files", ASSETS, post)));
  project.write("strict.html", html("page-strict.mjs"));
  const strict = "{ threads: 2, assets: { worker } }";
  project.write("page-strict.mjs", page(LOAD + WORKER_FILE, askForReport("files", strict, post)));
  project.write("with-worker.html", html("page-with-worker.mjs"));
  project.write("page-with-worker.mjs", page("", WITH_WORKER));
  project.write("worker.mjs", WORKER);
}

/** A page that answers on WebGPU, of whatever kind there is. @see answerOfBuild for how a software adapter is had. */
export function writeGpuSources(project: Project): void {
  project.write("index.html", '<!doctype html><title>Doge</title><script type="module" src="./page.mjs"></script>\n');
  const say = "await post(JSON.stringify({ text, device: doge.info().device }))";
  const program = page(
    'import { load } from "@doge-lm/webgpu";\n',
    ask("files", '{ software: true, dtype: "q8" }', say),
  );
  project.write("page.mjs", program);
  project.write("page-assets.mjs", program); // nothing beside the code has to be handed over
}

/** How Vite works on the project, without a word. @returns also its warnings as they come. */
function viteOptions(project: Project): { options: vite.InlineConfig; warnings: string[] } {
  const warnings: string[] = [];
  const customLogger = vite.createLogger("silent");
  customLogger.warn = (message) => void warnings.push(message);
  customLogger.warnOnce = customLogger.warn;
  customLogger.error = customLogger.warn;
  const options = { root: project.folder, base: "./", configFile: false, logLevel: "silent", customLogger } as const;
  return { options, warnings };
}

/** Vite's build of one of the project's .html files, as index.html into `outDir`. @throws on any warning. */
export async function buildVite(project: Project, html: string, outDir: string): Promise<void> {
  const { options, warnings } = viteOptions(project);
  await vite.build({
    ...options,
    build: { outDir, target: "es2022", rolldownOptions: { input: join(project.folder, html) } },
  });
  if (html !== "index.html") renameSync(join(project.folder, outDir, html), join(project.folder, outDir, "index.html"));
  if (warnings.length > 0) throw new Error(warnings.join("\n"));
}

/** What `ask` gets from the page as Vite's development server serves it: packages bundled beforehand, sources as they are. */
export async function withViteServer<T>(
  project: Project,
  middleware: vite.Connect.NextHandleFunction,
  ask: (address: string) => Promise<T>,
): Promise<T> {
  const { options, warnings } = viteOptions(project);
  const serve = {
    name: "model",
    configureServer: ({ middlewares }: vite.ViteDevServer) => void middlewares.use(middleware),
  };
  const server = await vite.createServer({
    ...options,
    base: "/",
    plugins: [serve],
    server: { host: "127.0.0.1", port: 0, hmr: false },
  });
  try {
    await server.listen();
    const { port } = server.httpServer!.address() as AddressInfo;
    return await ask(`http://127.0.0.1:${port}/`);
  } catch (error) {
    throw warnings.length === 0 ? error : new Error(`${String(error)}\n${warnings.join("\n")}`);
  } finally {
    await server.close();
  }
}

/** webpack's build of the page or of the program for Node, as main.mjs into dist-webpack-TARGET. @throws on any warning. */
export async function buildWebpack(project: Project, target: "web" | "node"): Promise<void> {
  const stats = await new Promise<webpack.Stats | undefined>((resolve, reject) => {
    webpack(
      {
        mode: "production",
        context: project.folder,
        entry: target === "web" ? "./page.mjs" : "./script.mjs",
        target: target === "web" ? ["web", "es2022"] : "node22",
        output: {
          path: join(project.folder, `dist-webpack-${target}`),
          module: true,
          filename: "main.mjs",
          ...(target === "web" ? { publicPath: "auto" } : {}),
        },
        experiments: { outputModule: true },
        performance: false,
      },
      (error, stats) => (error === null ? resolve(stats) : reject(error)),
    );
  });
  const { errors = [], warnings = [] } = stats?.toJson({ all: false, errors: true, warnings: true }) ?? {};
  const faults = [...errors, ...warnings].map(({ moduleName, message }) => `${moduleName}: ${message}`);
  if (faults.length > 0) throw new Error(faults.join("\n"));
}

/** esbuild's build, as main.mjs into dist-esbuild-TARGET: files beside the page's bundle, one file alone for Node.
 *  @throws on any warning. */
export async function buildEsbuild(project: Project, target: "web" | "node"): Promise<void> {
  const outdir = join(project.folder, `dist-esbuild-${target}`);
  const { warnings } = await esbuild.build({
    entryPoints: { main: join(project.folder, target === "web" ? "page-assets.mjs" : "script-assets.mjs") },
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    minify: true,
    splitting: target === "web",
    format: "esm",
    target: "es2022",
    platform: target === "web" ? "browser" : "node",
    loader: { ".wasm": target === "web" ? "file" : "binary" },
    logLevel: "silent",
  });
  if (warnings.length > 0) throw new Error((await esbuild.formatMessages(warnings, { kind: "warning" })).join("\n"));
}

/** What a page of the build in `folder` downloads. @throws when that is too much, when not all `wanted` binaries are there, when a
 *  module of Node is asked for, or when what chooses between several backends is loaded before it is needed. */
export function weigh(project: Project, folder: string, wanted: number): string {
  let code = 0;
  const binaries: number[] = [];
  const scripts = new Map<string, string>();
  const root = join(project.folder, folder);
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const content = readFileSync(join(entry.parentPath, entry.name));
    const bytes = gzipSync(content, { level: 9 }).length;
    if (entry.name.endsWith(".wasm")) binaries.push(bytes);
    if (!/\.m?js$/.test(entry.name)) continue;
    code += bytes;
    scripts.set(entry.name, content.toString());
    const builtin =
      /(?:\bfrom|\bimport|\brequire)\s*\(?\s*["'`](?:node:[^"'`]*|fs|path|url)["'`]|__vite-browser-external/;
    const found = builtin.exec(content.toString());
    if (found !== null) throw new Error(`${folder}/${entry.name} asks for a module of Node: ${found[0]}.`);
  }
  if (binaries.length !== wanted) throw new Error(`${folder} holds ${binaries.length} .wasm files, not ${wanted}.`);
  if (wanted === 0) {
    if (code > PAGE_LIMIT) throw new Error(`A page downloads ${kilobytes(code)}: over ${kilobytes(PAGE_LIMIT)}.`);
    return `${kilobytes(code)} of code, gzipped`;
  }
  // Of a backend's binaries a page takes one.
  const all = code + Math.max(...binaries);
  const text = `${kilobytes(code)} of code + ${kilobytes(Math.max(...binaries))} of WebAssembly, gzipped`;
  if (all > PAGE_LIMIT) throw new Error(`A page downloads ${text}: over ${kilobytes(PAGE_LIMIT)}.`);
  return `${text}${aside(scripts)}`;
}

/** In the code that chooses, and nowhere else. */
const CHOOSING = "no memory is fast enough for";

/** Says how much code a page with one backend never loads. @throws when one of its `scripts` brings it at once. A worker is one script,
 *  where the bundler makes it so. */
function aside(scripts: ReadonlyMap<string, string>): string {
  const atOnce = new Set([...scripts.keys()].filter((name) => /^(main|index|page)\b/.test(name)));
  for (const name of atOnce) {
    for (const [, path] of scripts.get(name)!.matchAll(/(?:\bfrom|\bimport)\s*["'`]([^"'`]+)["'`]/g)) {
      const imported = path!.split("/").at(-1)!;
      if (scripts.has(imported)) atOnce.add(imported);
    }
  }
  const [name, own] = [...scripts].find(([, content]) => content.includes(CHOOSING)) ?? [];
  if (name === undefined || own === undefined || name.startsWith("worker")) return "";
  if (atOnce.has(name))
    throw new Error(`${name} holds what chooses between backends, and is loaded where there is one.`);
  return `, ${kilobytes(gzipSync(own, { level: 9 }).length)} of it only for those who choose`;
}

/** What `name` adds to a page that has core already: bundled and minified by itself, gzipped. @throws over `limit` bytes. */
export async function weighBeside(project: Project, name: string, limit: number): Promise<string> {
  const { outputFiles } = await esbuild.build({
    stdin: { contents: `export * from "${name}";`, resolveDir: project.folder },
    ...{ bundle: true, minify: true, write: false, format: "esm", platform: "browser", external: ["@doge-lm/core"] },
  });
  const bytes = gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
  if (bytes > limit) throw new Error(`${name} adds ${kilobytes(bytes)}, gzipped: over ${kilobytes(limit)}.`);
  return `${kilobytes(bytes)}, gzipped`;
}
