// Serves a build on this machine and opens it in a headless Chromium, where there is one: the page posts what it answered.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, extname, join } from "node:path";
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

/** The Chromium or Chrome in PATH. @throws Skipped without one. */
export function findBrowser(): string {
  for (const name of ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]) {
    for (const folder of (process.env.PATH ?? "").split(delimiter)) {
      if (existsSync(join(folder, name))) return join(folder, name);
    }
  }
  throw new Skipped("no Chromium in PATH");
}

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

/** Open the page of the build in `folder`, `isolated` or not; what it posts. @throws when it posts an error, or nothing in time. */
export async function answerOfBuild(
  browser: string,
  folder: string,
  isolated: boolean,
  headers: Readonly<Record<string, string>> = {},
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
    return await answerOfPage(browser, `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, answer);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** Open `address` in the browser until `answer` comes; `more` arguments for it, and how long it may take in milliseconds. */
export async function answerOfPage(
  browser: string,
  address: string,
  answer: Promise<string>,
  more: readonly string[] = [],
  patience = PATIENCE,
): Promise<string> {
  const profile = mkdtempSync(join(tmpdir(), "doge-page-"));
  const child = spawn(
    browser,
    [
      "--headless",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      // Its sandbox does not start for root, and root is who runs in containers. The page is our own.
      ...(process.getuid?.() === 0 ? ["--no-sandbox", "--disable-dev-shm-usage"] : []),
      ...more,
      address,
    ],
    { stdio: "ignore" },
  );
  const ended = new Promise<never>((_, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`The browser ended with ${code} before the page answered.`)));
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`The page did not answer in ${patience / 1000} seconds.`)), patience);
  });
  try {
    const text = await Promise.race([answer, ended, late]);
    if (text.startsWith("error: ")) throw new Error(`In the page: ${text.slice("error: ".length)}`);
    return text;
  } finally {
    clearTimeout(timer);
    ended.catch(() => {});
    const gone = new Promise((done) => child.on("close", done));
    if (child.exitCode === null && child.kill()) await gone;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
