// The code blocks of the documentation that are for a browser, built as the documentation says and run in a headless Chromium;
// and the test file of a new backend, run by the test runner.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request as requestOf, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import * as esbuild from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromium } from "./browser.ts";
import { answerOfPage, serveFile } from "./packages/page.ts";
import { type Block, demo, hubOf, Place, readBlocks, root } from "./snippets/blocks.ts";

const blocks = await readBlocks();
const hub = await hubOf(blocks);
let place: Place;

/** Milliseconds for a build, a browser and a model, or for a suite, on a busy machine. */
const timeout = 180_000;

/** The name that a block begins with, where it is a file. */
const nameOf = ({ code }: Block): string | undefined => /^\/\/ ([\w.]+\.tsx?)\n/.exec(code)?.[1];

/** The programs for pages, by where they stand. Files of one section are one program, which begins with the last of them. */
const programs = new Map<string, Block[]>();
for (const block of blocks.filter(({ mark }) => mark === "page")) {
  const key = nameOf(block) === undefined ? block.where : block.section;
  programs.set(key, [...(programs.get(key) ?? []), block]);
}
const builders = blocks.filter(({ mark }) => mark === "esbuild");
const vite = blocks.find(({ mark }) => mark === "vite");
const suites = blocks.filter(({ mark }) => mark === "suite");

beforeAll(async () => {
  place = await Place.make();
});
afterAll(async () => {
  await hub.stop();
  await place.remove();
});

/** The package with the hub of this machine, which is behind the page's own address. */
const WITH_HUB = `import { load as loadFrom } from ${JSON.stringify(join(root, "packages/backend-wasm/src/index.ts"))};
export * from ${JSON.stringify(join(root, "packages/backend-wasm/src/index.ts"))};
export const load = (source, options) => loadFrom(source, { endpoint: location.origin, ...options });
`;

/** Runs a program and posts what it wrote on the page, once there is as much as is expected. A file input is given the model. */
const harness = (entry: string | undefined, writes: boolean, asks: boolean): string => `
const post = (body: string) => fetch("/answer/", { method: "POST", body });
addEventListener("error", ({ message }) => void post("error: " + message));
addEventListener("unhandledrejection", ({ reason }) => void post("error: " + reason));
const input = document.querySelector<HTMLInputElement>("input[type=file]")!;
${entry === undefined ? "" : `await import("./${entry}");`}
const transfer = new DataTransfer();
for (const name of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
  transfer.items.add(new File([await (await fetch("/models/doge/" + name)).blob()], name));
}
input.files = transfer.files;
input.dispatchEvent(new Event("change"));
// A form is filled in as a person would; what counts is then its answer.
const asks = ${asks};
while (asks && document.querySelector("form") === null) await new Promise((resolve) => setTimeout(resolve, 50));
const form = document.querySelector("form");
if (form !== null) {
  form.querySelector("input")!.value = "What is the capital of France?";
  form.requestSubmit();
}
const text = () => (form === null ? document.body.innerText : document.querySelector("output")!.textContent).trim();
const whole = form === null ? /./ : /[.!?]$/;
while (${writes} && !whole.test(text())) await new Promise((resolve) => setTimeout(resolve, 50));
await post("done: " + text());
`;

/** Whether a program has a form that asks the model, and whether it writes what it answers on the page. */
const asks = ({ code }: Block): boolean => code.includes("<form");
const writes = (block: Block): boolean => asks(block) || block.code.includes("document.body.append(");

/** Writes a program with its page into a folder of the place. */
async function writeProgram(folder: string, parts: readonly Block[]): Promise<string> {
  for (const part of parts) await place.write(`${folder}/${nameOf(part) ?? "program.ts"}`, part.code);
  const { language, code } = parts.at(-1)!;
  const entry = language === "html" ? undefined : (nameOf(parts.at(-1)!) ?? "program.ts");
  await place.write(`${folder}/harness.ts`, harness(entry, parts.some(writes), parts.some(asks)));
  await place.write(`${folder}/with-hub.ts`, WITH_HUB);
  await place.write(
    `${folder}/index.html`,
    `${language === "html" ? code : "<!doctype html><title>Doge</title><body>"}
<input type="file" multiple><script type="module" src="./harness.ts"></script>`,
  );
  return join(place.folder, folder);
}

/** The page in `folder`, its models and hub, until it posts. */
async function open(folder: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const server = createServer((request, response) => answer(request, response, folder, resolve));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  try {
    return await answerOfPage(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, promise);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function answer(request: IncomingMessage, response: ServerResponse, folder: string, say: (text: string) => void): void {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  // Isolated, so that threads may share memory.
  response.setHeader("cross-origin-opener-policy", "same-origin");
  response.setHeader("cross-origin-embedder-policy", "require-corp");
  if (pathname === "/answer/") {
    let body = "";
    request.setEncoding("utf8").on("data", (part: string) => {
      body += part;
    });
    request.on("end", () => {
      response.end();
      say(body);
    });
  } else if (/^\/api\/|\/resolve\//.test(pathname)) {
    const { method, url, headers } = request;
    const onward = requestOf(`${hub.url}${url}`, { method, headers }, (found) => {
      response.writeHead(found.statusCode!, found.headers);
      found.pipe(response);
    });
    request.pipe(onward);
  } else if (pathname.startsWith("/models/doge/")) {
    void serveFile(join(demo, pathname.slice("/models/doge/".length)), response);
  } else if (/^\/tokenizer(_config)?\.json$/.test(pathname)) {
    void serveFile(join(demo, pathname), response);
  } else if (pathname === "/scripts/worker.js") {
    void serveFile(join(root, "packages/backend-wasm/build/worker.js"), response);
  } else {
    void serveFile(join(folder, pathname === "/" ? "index.html" : pathname), response);
  }
}

/** Runs Vite with the configuration that the documentation gives. */
async function buildWithVite(folder: string): Promise<string> {
  const { build } = await import("vite");
  const outDir = join(folder, "dist");
  await build({
    root: folder,
    configFile: await place.write("vite.config.ts", vite!.code),
    logLevel: "error",
    resolve: { alias: { "@doge-lm/wasm": join(folder, "with-hub.ts") } },
    build: { outDir, target: "es2022" },
  });
  return outDir;
}

/** Runs esbuild as the documentation says: the loader "file" for binaries, which are imported. */
async function buildWithEsbuild(folder: string): Promise<string> {
  const outdir = join(folder, "dist");
  await esbuild.build({
    entryPoints: [join(folder, "harness.ts")],
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    target: "es2022",
    platform: "browser",
    loader: { ".wasm": "file" },
    logLevel: "error",
    plugins: [
      {
        name: "the hub of this machine",
        setup: ({ onResolve }) =>
          onResolve({ filter: /^@doge-lm\/wasm$/ }, () => ({ path: join(folder, "with-hub.ts") })),
      },
    ],
  });
  const page = (await readFile(join(folder, "index.html"), "utf8")).replace("harness.ts", "harness.js");
  await place.write(join(outdir.slice(place.folder.length), "index.html"), page);
  return outdir;
}

describe(`code blocks for pages${chromium.absence}`, () => {
  test("there are some", () => {
    expect([programs.size > 4, builders.length, vite !== undefined, suites.length]).toEqual([true, 2, true, 2]);
  });

  test.skipIf(chromium.path === undefined).each([...programs])("%s runs", { timeout }, async (section, parts) => {
    const folder = await writeProgram(`program-${[...programs.keys()].indexOf(section)}`, parts);
    const text = await open(await buildWithVite(folder));
    expect(text).toMatch(parts.some(asks) ? /^done: .*Paris/s : parts.some(writes) ? /^done: .+/s : /^done:/);
  });

  test.skipIf(chromium.path === undefined).each(builders)("$where runs", { timeout }, async (block) => {
    const folder = await writeProgram(`program-esbuild-${builders.indexOf(block)}`, [block]);
    expect(await open(await buildWithEsbuild(folder))).toMatch(/^done:/);
  });
});

describe("the test file of a backend", () => {
  test.each(suites)("$where runs", { timeout }, async ({ code }) => {
    const file = await place.write(`packages-${suites.findIndex((suite) => suite.code === code)}/suite.test.ts`, code);
    const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
    const child = spawn(process.execPath, [vitest, "run", "--root", place.folder, dirname(file), "-t", "contract"], {
      cwd: place.folder,
      env: { ...process.env, NO_COLOR: "1" },
    });
    let out = "";
    child.stdout.on("data", (data) => {
      out += data;
    });
    const status = await new Promise((resolve) => child.on("close", resolve));
    expect({ status, passed: Number(/Tests +(\d+) passed/.exec(out)?.[1] ?? 0) > 10 }, out).toEqual({
      status: 0,
      passed: true,
    });
  });
});
