// Choosing in a browser: a worker measures two backends, and a second one finds in IndexedDB what the first has kept.
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as esbuild from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromium } from "./browser.ts";
import { answerOfPage, serveFile, serveModel } from "./packages/page.ts";
import { root } from "./packages/steps.ts";

const source = (path: string): string => JSON.stringify(join(root, "packages", path));

/** The binaries are beside the worker's own script. */
const WORKER = `
import { choose } from ${source("core/src/index.ts")};
import { reference } from ${source("backend-reference/src/index.ts")};
import { wasm } from ${source("backend-wasm/src/index.ts")};
try {
  const assets = { simd: "/doge-simd.wasm", relaxed: "/doge-relaxed.wasm" };
  const choice = await choose([reference(), wasm({ threads: 1, assets })], { budget: 20_000 });
  postMessage({ name: choice.backend.name, tried: choice.tried.map(({ name, state, rate }) => ({ name, state, rate })) });
  await choice.backend.close();
} catch (error) {
  postMessage({ error: String(error) });
}
`;
const PAGE = `
const ask = () => new Promise((resolve) => {
  const worker = new Worker("/worker.mjs", { type: "module" });
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = ({ message }) => resolve({ error: message });
});
await fetch("/answer/", { method: "POST", body: JSON.stringify([await ask(), await ask()]) });
`;

let folder: string;
beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "doge-choosing-page-")));
  await writeFile(join(folder, "worker.ts"), WORKER);
  await writeFile(join(folder, "main.mjs"), PAGE);
  await esbuild.build({
    ...{ entryPoints: [join(folder, "worker.ts")], outdir: folder, outExtension: { ".js": ".mjs" } },
    ...{ bundle: true, splitting: true, format: "esm", target: "es2022", platform: "browser", logLevel: "error" },
  });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe(`in a browser${chromium.absence}`, () => {
  test.skipIf(chromium.path === undefined)(
    "rates are kept in IndexedDB, and a worker finds those of another",
    { timeout: 120_000 },
    async () => {
      const { promise, resolve } = Promise.withResolvers<string>();
      const server = createServer((request, response) => {
        if (serveModel(request, response, resolve)) return;
        const { pathname } = new URL(request.url ?? "/", "http://localhost");
        const binary = /^\/(doge-\w+\.wasm)$/.exec(pathname)?.[1];
        const path =
          binary === undefined ? join(folder, pathname) : join(root, "packages", "backend-wasm", "build", binary);
        void serveFile(
          path,
          response,
          '<!doctype html><title>Doge</title><script type="module" src="/main.mjs"></script>',
        );
      });
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
      try {
        const { port } = server.address() as AddressInfo;
        type Said = {
          name: string;
          tried: { state: string; rate: { tokensPerSecond: number; kept: boolean } }[];
          error?: string;
        };
        const [first, second] = JSON.parse(await answerOfPage(`http://127.0.0.1:${port}/`, promise)) as [Said, Said];
        expect([first.error, second.error]).toEqual([undefined, undefined]);
        expect(second.name).toBe(first.name);
        expect(first.tried.map(({ rate }) => rate.kept)).toEqual([false, false]);
        expect(second.tried.map(({ rate }) => rate.kept)).toEqual([true, true]);
        expect(second.tried.map(({ rate }) => rate.tokensPerSecond)).toEqual(
          first.tried.map(({ rate }) => rate.tokensPerSecond),
        );
      } finally {
        server.closeAllConnections();
        server.close();
      }
    },
  );
});
