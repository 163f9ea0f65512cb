// Checks what would be published, after `turbo run build`: every package is packed, linted and weighed, then installed from its
// tarball into an empty folder and imported. There, @doge-lm/wasm alone must answer in every runtime, type-check, and answer
// from the bundles of every bundler, in Node and in a page. Each is a step of its own.
//
//   node tools/packages.ts [--full] [--record]     --full: bring the runtimes that are missing, as continuous integration does
//                                                  --record: write the sizes down, for later runs to be compared with
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import {
  buildEsbuild,
  buildVite,
  buildWebpack,
  type PageReport,
  weigh,
  weighBeside,
  withViteServer,
  writeGpuSources,
  writeSources,
} from "./packages/bundles.ts";
import { clearPacks, inspect, missingBinary, type Packed, pack, published } from "./packages/pack.ts";
import { answerOfBuild, answerOfPage, STRICT, serveModel } from "./packages/page.ts";
import { Project } from "./packages/project.ts";
import { programOf, RUNTIMES } from "./packages/runtimes.ts";
import { recordedSizes, recordSizes, type Size, sizeOf, sizeTable } from "./packages/sizes.ts";
import { demoModel, expectAnswer, failed, root, run, Skipped, step } from "./packages/steps.ts";
import { checkTokenizer } from "./packages/tokenizer.ts";
import { checkTypes } from "./packages/types.ts";

const bring = process.argv.includes("--full") || Boolean(process.env.CI);

clearPacks();
const packed = new Map<string, Packed>();
for (const folder of published()) {
  const binary = missingBinary(folder);
  if (binary !== undefined) {
    await step(`${basename(folder)}, packed`, () => {
      throw new Skipped(`its ${binary} is made by the release`);
    });
    continue;
  }
  const one = pack(folder);
  packed.set(one.manifest.name, one);
  await step(`${one.manifest.name}, packed`, () => inspect(one));
}

const sizes: Record<string, Size> = {};
for (const [name, one] of packed) {
  const { manifest } = one;
  using project = new Project();
  await step(`${name}, installed alone`, async () => {
    const installed = project.install(name, packed);
    sizes[name] = await sizeOf(one, project, installed);
    // The suite itself is imported by a test runner only.
    const entries = Object.keys(manifest.exports ?? {}).filter(
      (entry) =>
        !/[*]|\.json$|\.wasm$|\.node$|worker\.js$/.test(entry) && !(name === "@doge-lm/conformance" && entry === "."),
    );
    const imports = entries.map((entry) => `import * as _${entries.indexOf(entry)} from "${name}${entry.slice(1)}";`);
    project.write("entries.mjs", imports.join("\n"));
    run(process.execPath, ["entries.mjs"], project.folder);
    return `${installed.packages} packages, ${(installed.bytes / 1e6).toFixed(2)} MB; ${entries.length} entry points import`;
  });
  if (name === "@doge-lm/wasm") await checkWasm(project);
  if (name === "@doge-lm/tokenizer-fast") await checkTokenizer(project);
  if (name === "@doge-lm/webgpu") await checkWebgpu(project);
  if (name === "@doge-lm/cli") await step("doge, from its package", () => checkCommand(project));
}

/** The steps with a project that has @doge-lm/wasm alone. */
async function checkWasm(project: Project): Promise<void> {
  writeSources(project);
  const answer = (program: string, args: readonly string[]): string =>
    expectAnswer(run(program, [...args, demoModel], project.folder));

  for (const runtime of RUNTIMES) {
    await step(`@doge-lm/wasm in ${runtime.name}`, () =>
      answer(programOf(runtime, bring), [...runtime.args, "script.mjs"]),
    );
  }
  await step("the README's first program", () => {
    const [, program] = /```ts[^\n]*\n(.*?)```/s.exec(readFileSync(join(root, "README.md"), "utf8")) ?? [];
    const name = /load\("([^"]+)"/.exec(program ?? "")?.[1];
    if (program === undefined || name === undefined) throw new Error("README.md has no ts block that loads a model.");
    project.write("readme.mts", program.replace(JSON.stringify(name), JSON.stringify(demoModel)));
    return expectAnswer(run(process.execPath, ["readme.mts"], project.folder));
  });
  await step("types, NodeNext", () => checkTypes(project, "NodeNext", "NodeNext"));
  await step("types, Bundler", () => checkTypes(project, "ESNext", "Bundler"));

  const builds = [
    { name: "Vite", folder: "dist-vite", build: () => buildVite(project, "index.html", "dist-vite") },
    {
      name: "Vite and a worker",
      folder: "dist-worker",
      build: () => buildVite(project, "with-worker.html", "dist-worker"),
    },
    { name: "webpack", folder: "dist-webpack-web", build: () => buildWebpack(project, "web") },
    { name: "esbuild", folder: "dist-esbuild-web", build: () => buildEsbuild(project, "web") },
  ];
  for (const { name, folder, build } of builds) {
    let built = false;
    await step(`${name}, for a page`, async () => {
      await build();
      const size = weigh(project, folder, 4);
      built = true;
      return size;
    });
    for (const isolated of [false, true]) {
      await step(`${name}, in a page ${isolated ? "that is isolated" : "that is not"}`, async () => {
        if (!built) throw new Skipped("it was not built");
        const posted = await answerOfBuild(join(project.folder, folder), isolated);
        return expectReport(posted, isolated);
      });
    }
  }
  await step("Vite, in an isolated page under a strict policy", async () => {
    await buildVite(project, "strict.html", "dist-strict");
    const posted = await answerOfBuild(join(project.folder, "dist-strict"), true, STRICT);
    return expectReport(posted, true);
  });
  await step("Vite, in a page while developing", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const model: Parameters<typeof withViteServer>[1] = (request, response, next) =>
      serveModel(request, response, resolve) || next();
    const posted = await withViteServer(project, model, (address) => answerOfPage(address, promise));
    return expectReport(posted, false);
  });
  await step("webpack, for Node", async () => {
    await buildWebpack(project, "node");
    return answer(process.execPath, ["dist-webpack-node/main.mjs"]);
  });
  await step("esbuild, for Node, in one file", async () => {
    await buildEsbuild(project, "node");
    return answer(process.execPath, ["dist-esbuild-node/main.mjs"]);
  });
}

/** The steps with a project that has @doge-lm/webgpu alone. */
async function checkWebgpu(project: Project): Promise<void> {
  await step("@doge-lm/webgpu, bundled beside core", () => weighBeside(project, "@doge-lm/webgpu", 60_000));
  writeGpuSources(project);
  for (const { name, folder, build } of [
    { name: "Vite", folder: "dist-vite", build: () => buildVite(project, "index.html", "dist-vite") },
    { name: "webpack", folder: "dist-webpack-web", build: () => buildWebpack(project, "web") },
    { name: "esbuild", folder: "dist-esbuild-web", build: () => buildEsbuild(project, "web") },
  ]) {
    await step(`@doge-lm/webgpu by ${name}, in a page`, async () => {
      await build();
      const size = weigh(project, folder, 0);
      const posted = await answerOfBuild(join(project.folder, folder), false, {}, { gpu: true });
      const { text, device } = JSON.parse(posted) as PageReport;
      return `${size}; ${expectAnswer(text)} (${device})`;
    });
  }
}

/** @throws unless a page answered, on threads where they can be had, and had its turns meanwhile. */
function expectReport(posted: string, isolated: boolean): string {
  const { text, device, threads, turns, gap } = JSON.parse(posted) as PageReport;
  const most = isolated ? 2 : 1;
  if (isolated ? threads < most : threads > most) throw new Error(`${threads} threads computed (${device}).`);
  if (turns < 5) throw new Error(`The page had ${turns} turns while a long text was read.`);
  return `${expectAnswer(text)} (${device}; ${turns} turns meanwhile, ${gap.toFixed()} ms apart at most)`;
}

/** The command line in its own project, started by name. */
function checkCommand(project: Project): string {
  const generate = ["generate", "--prompt", "Hello", "--max-new-tokens", "4", "--json"];
  const printed = run("npx", ["--no-install", "doge", ...generate], project.folder);
  const { ids } = JSON.parse(printed) as { ids?: unknown };
  if (!Array.isArray(ids) || ids.length === 0) throw new Error(`It printed ${JSON.stringify(printed)}.`);
  return `${ids.length} ids`;
}

console.log(sizeTable(sizes, recordedSizes()));
if (process.argv.includes("--record")) recordSizes({ ...recordedSizes(), ...sizes });
console.log(failed() === 0 ? "Every package is fit to publish." : `${failed()} steps failed.`);
process.exitCode = failed() === 0 ? 0 : 1;
