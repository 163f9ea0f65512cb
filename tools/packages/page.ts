// Serves a build on this machine and opens it in a headless browser, where there is one: the page posts what it answered.
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { chromium, type TestBrowser } from "../browser.ts";
import { demoModel, Skipped } from "./steps.ts";

const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".json": "application/json",
};
const INDEX = '<!doctype html><title>Doge</title><script type="module" src="./main.mjs"></script>';

/** Milliseconds that a browser may take to start, load the page and answer. */
const PATIENCE = 60_000;

/** Answer what is asked below model/ and answer/. False: it is something else. */
export function serveModel(request: IncomingMessage, response: ServerResponse, say: (text: string) => void): boolean {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  if (request.method === "POST" && pathname === "/answer/") {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (part: string) => {
      body += part;
    });
    request.on("end", () => {
      response.end();
      say(body);
    });
    return true;
  }
  if (!pathname.startsWith("/model/")) return false;
  void serveFile(join(demoModel, pathname.slice("/model/".length)), response);
  return true;
}

export async function serveFile(path: string, response: ServerResponse, otherwise?: string): Promise<void> {
  try {
    const content = await readFile(path);
    response.setHeader("content-type", TYPES[extname(path)] ?? "application/octet-stream");
    response.end(content);
  } catch {
    response.statusCode = otherwise === undefined ? 404 : 200;
    response.setHeader("content-type", "text/html");
    response.end(otherwise);
  }
}

/** What a page must be sent to share memory between threads. */
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
/** The strictest policy that the package runs under: WebAssembly, and scripts and workers from files of the page's own. */
export const STRICT = {
  "content-security-policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; object-src 'none'",
};

interface PageOptions {
  /** Chromium, unless it is another one. */
  readonly browser?: TestBrowser;
  /** With WebGPU that computes on the CPU. */
  readonly gpu?: boolean;
  /** Milliseconds until the answer must be there. */
  readonly patience?: number;
}

/** Open the page of the build in `folder`, `isolated` or not; what it posts. @throws when it posts an error, or nothing in time. */
export async function answerOfBuild(
  folder: string,
  isolated: boolean,
  headers: Readonly<Record<string, string>> = {},
  options: PageOptions = {},
): Promise<string> {
  const { promise: answer, resolve } = Promise.withResolvers<string>();
  const sent = new Headers({ ...(isolated ? ISOLATION : {}), ...headers });
  const server = createServer((request, response) => {
    response.setHeaders(sent);
    if (serveModel(request, response, resolve)) return;
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    if (pathname === "/") void serveFile(join(folder, "index.html"), response, INDEX);
    else void serveFile(join(folder, pathname), response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  try {
    return await answerOfPage(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, answer, options);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** Open `address` in a browser until `answer` comes. @throws Skipped where there is no such browser */
export async function answerOfPage(
  address: string,
  answer: Promise<string>,
  { browser: wanted = chromium, gpu = false, patience = PATIENCE }: PageOptions = {},
): Promise<string> {
  if (wanted.path === undefined) throw new Skipped(`no ${wanted.name} in PATH`);
  const browser = await wanted.open({ gpu });
  let timer: NodeJS.Timeout | undefined;
  try {
    const page = await browser.newPage();
    const failed = new Promise<never>((_, reject) => {
      const fail = (what: string) => reject(new Error(`In the page: ${what}`));
      page.on("pageerror", ({ message }) => fail(message));
      page.on("crash", () => fail("it crashed"));
      browser.on("disconnected", () => fail("the browser ended before it answered"));
      timer = setTimeout(() => fail(`no answer in ${patience / 1000} seconds`), patience);
    });
    failed.catch(() => {});
    await page.goto(address, { timeout: PATIENCE });
    const text = await Promise.race([answer, failed]);
    if (text.startsWith("error: ")) throw new Error(`In the page: ${text.slice("error: ".length)}`);
    return text;
  } finally {
    clearTimeout(timer);
    await browser.close();
  }
}
