// Worker scripts that misbehave, or tell what they do: the real one behind a few lines that get at it first.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { setEnvironmentData } from "node:worker_threads";
import { workerSource } from "../src/worker-source.ts";

const folder = mkdtempSync(join(tmpdir(), "doge-worker-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
let scripts = 0;

/** A script that does `first`, then what every worker does. Shared `words` can be had there by this name. */
export function workerScript(first: string): { readonly script: URL; readonly words: Int32Array } {
  const words = new Int32Array(new SharedArrayBuffer(64));
  const name = `doge-${process.pid}-${scripts++}`;
  setEnvironmentData(name, words);
  const path = join(folder, `${name}.cjs`);
  writeFileSync(
    path,
    `const words = require("node:worker_threads").getEnvironmentData(${JSON.stringify(name)});\n${first}\n${workerSource}`,
  );
  return { script: pathToFileURL(path), words };
}

/** The same, with every instance's run() replaced: `body` sees run, job, thread, budget and words. */
export function wrappedRun(body: string): { readonly script: URL; readonly words: Int32Array } {
  return workerScript(`
const { Instance } = WebAssembly;
WebAssembly.Instance = class {
  constructor(module, imports) {
    const { run, ...kernels } = new Instance(module, imports).exports;
    const counted = Object.fromEntries(
      Object.entries(kernels).filter(([, value]) => typeof value === "function").map(([name]) => [name, () => { throw new Error(name + " was called"); }]),
    );
    this.exports = { ...counted, run(job, thread, budget) { ${body} } };
  }
};`);
}
