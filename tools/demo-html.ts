// `npm run demo:html`: dist/doge-demo.html, one file with the engine and the demo model in it, which answers where it lies: from a
// disk or a stick, without a server or a network.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "tools", "demo-html");

/** The engine with all that it would otherwise fetch. A page from a file has one thread, which takes one of these two binaries. */
const ENGINE = `
import { serve } from "./engine.ts";
import relaxed from "@doge-lm/wasm/doge-relaxed.wasm";
import simd from "@doge-lm/wasm/doge-simd.wasm";
import config from "@doge-lm/demo-model/config.json";
import generationConfig from "@doge-lm/demo-model/generation_config.json";
import tokenizer from "@doge-lm/demo-model/tokenizer.json";
import tokenizerConfig from "@doge-lm/demo-model/tokenizer_config.json";
import weights from "@doge-lm/demo-model/model.safetensors";
const files = {
  "config.json": config,
  "generation_config.json": generationConfig,
  "tokenizer.json": tokenizer,
  "tokenizer_config.json": tokenizerConfig,
  "model.safetensors": weights,
};
globalThis.dogeEngine = (port) => serve(port, files, { simd, relaxed });
`;

/** A program as one classic script. @throws on any warning */
async function bundle(entry: Pick<esbuild.BuildOptions, "stdin" | "entryPoints">): Promise<string> {
  const { outputFiles, warnings } = await esbuild.build({
    ...entry,
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
    platform: "browser",
    loader: { ".wasm": "binary", ".safetensors": "binary", ".json": "binary" },
    // A classic script has no address of its own; the binaries are given as bytes, so none is asked for.
    define: { "import.meta.url": "location.href" },
    logLevel: "silent",
  });
  if (warnings.length > 0) throw new Error((await esbuild.formatMessages(warnings, { kind: "warning" })).join("\n"));
  return outputFiles![0]!.text.trim();
}

/** Write the page to `path`. @returns its size in bytes */
export async function writeDemo(path: string): Promise<number> {
  const [page, style, engine, program] = await Promise.all([
    readFile(join(folder, "page.html"), "utf8"),
    readFile(join(folder, "page.css"), "utf8"),
    bundle({ stdin: { contents: ENGINE, resolveDir: folder } }),
    bundle({ entryPoints: [join(folder, "page.ts")] }),
  ]);
  const parts: Record<string, string> = { STYLE: `\n${style}`, ENGINE: engine, PAGE: program };
  const text = page.replaceAll(/\/\* (STYLE|ENGINE|PAGE) \*\//g, (_, name: string) => parts[name]!);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  return Buffer.byteLength(text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = join(root, "dist", "doge-demo.html");
  const bytes = await writeDemo(path);
  console.log(`${path}: ${(bytes / 1e6).toFixed(1)} MB. Open it with a browser: a double click will do.`);
}
