// wllama, llama.cpp compiled to WebAssembly, in headless Chromium on a page of its own; the times are those of its server.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { options, serve } from "./serve.mjs";

const { shape, kind, threads, models, chromium: executablePath } = options({ chromium: { type: "string" } });
const model = join(models, `llama-${shape}-${kind}.gguf`);
const library = fileURLToPath(new URL("node_modules/@wllama/wllama/esm", import.meta.url));
const types = { js: "text/javascript", wasm: "application/wasm", html: "text/html" };

const server = createServer((request, response) => {
  const path = decodeURIComponent(request.url.split("?")[0]);
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  if (path === "/") {
    response.setHeader("content-type", types.html);
    response.end("<!doctype html><title>wllama</title>");
    return;
  }
  const file = path === "/model.gguf" ? model : path.startsWith("/wllama/") ? join(library, path.slice(8)) : "";
  if ((file !== model && !file.startsWith(library + sep)) || !existsSync(file)) {
    response.statusCode = 404;
    response.end();
    return;
  }
  response.setHeader("content-type", types[file.split(".").at(-1)] ?? "application/octet-stream");
  response.setHeader("content-length", statSync(file).size);
  createReadStream(file).pipe(response);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
process.on("exit", () => browser.close());
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const version = await page.evaluate(async (threads) => {
  const { Wllama } = await import("/wllama/index.js");
  const binary = `${location.origin}/wllama/wasm/wllama.wasm`;
  const paths = { default: binary, "single-thread/wllama.wasm": binary, "multi-thread/wllama.wasm": binary };
  globalThis.engine = new Wllama(paths, { suppressNativeLog: true });
  await globalThis.engine.loadModel([await (await fetch("/model.gguf")).blob()], {
    ...{ n_ctx: 2048, n_batch: 512, n_ubatch: 512, n_threads: threads, n_gpu_layers: 0, n_parallel: 1 },
    ...{ warmup: true, cache_idle_slots: false, n_cache_reuse: 0, jinja: false },
  });
  return Wllama.getLibllamaVersion();
}, threads);

/** Timings of one completion. In the stand-ins' vocabulary "w5" is one token. */
const complete = (ids, count) =>
  page.evaluate(
    async ([prompt, count]) => {
      const { timings } = await globalThis.engine.createCompletion({
        ...{ prompt, max_tokens: count, temperature: 0, top_k: 1, samplers: ["top_k"] },
        ...{ ignore_eos: true, cache_prompt: false, stream: false },
      });
      return timings;
    },
    [ids.map((id) => `w${id}`).join(" "), count],
  );

await serve({
  name: "wllama",
  version,
  async read(ids) {
    const { prompt_ms: milliseconds, prompt_n: count } = await complete(ids, 1);
    return (milliseconds / count) * ids.length;
  },
  async write(ids, count) {
    const { predicted_ms: milliseconds, predicted_n: drawn } = await complete(ids, count);
    return (milliseconds / drawn) * count;
  },
});
