// The packed @doge-lm/tokenizer-fast in a user's project: it must give core's ids in Node and from the bundles of every bundler.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createTokenizer } from "@doge-lm/core";
import { buildEsbuild, buildVite, buildWebpack, weigh } from "./bundles.ts";
import { answerOfBuild } from "./page.ts";
import type { Project } from "./project.ts";
import { demoModel, run, step } from "./steps.ts";

const TEXT = "Hi, how're you doing today? <|end_of_text|> 1234 你好 \u0085\ufeff";

/** A program that says which ids TEXT has. */
const program = (imports: string, json: string, options: string, say: string): string => `
import { createFastTokenizer } from "@doge-lm/tokenizer-fast";
${imports}
const tokenizer = await createFastTokenizer(${json}, undefined, ${options});
const ids = tokenizer.encode(${JSON.stringify(TEXT)});
const text = ids.join(" ") + (tokenizer.decode(ids, { skipSpecial: false }).length > 0 ? "" : " without text");
${say};
`;
const FILE = 'JSON.parse(readFileSync(process.argv[2] + "/tokenizer.json", "utf8"))';
const READ = 'import { readFileSync } from "node:fs";';
const BINARY = 'import wasm from "@doge-lm/tokenizer-fast/tokenizer.wasm";';
const POST = 'await fetch("answer/", { method: "POST", body: text })';
const FETCH = 'await (await fetch("model/tokenizer.json")).json()';
const GUARD =
  'addEventListener("unhandledrejection", ({ reason }) => fetch("answer/", { method: "POST", body: "error: " + reason }));';

export async function checkTokenizer(project: Project): Promise<void> {
  const json = JSON.parse(readFileSync(join(demoModel, "tokenizer.json"), "utf8"));
  const wanted = createTokenizer(json).encode(TEXT).join(" ");
  const expectIds = (printed: string): string => {
    if (printed.trim() !== wanted) throw new Error(`The ids are ${printed.trim()}, not ${wanted}.`);
    return `${wanted.split(" ").length} ids as core gives them`;
  };
  const print = "console.log(text)";
  project.write("script.mjs", program(READ, FILE, "{}", print));
  project.write("script-assets.mjs", program(READ + BINARY, FILE, "{ wasm }", print));
  project.write("page.mjs", program(GUARD, FETCH, "{}", POST));
  project.write("page-assets.mjs", program(BINARY + GUARD, FETCH, "{ wasm }", POST));
  project.write("index.html", '<!doctype html><title>Doge</title><script type="module" src="./page.mjs"></script>\n');

  await step("the tokenizer in node", () =>
    expectIds(run(process.execPath, ["script.mjs", demoModel], project.folder)),
  );
  const pages = [
    { name: "Vite", folder: "dist-vite", build: () => buildVite(project, "index.html", "dist-vite") },
    { name: "webpack", folder: "dist-webpack-web", build: () => buildWebpack(project, "web") },
    { name: "esbuild", folder: "dist-esbuild-web", build: () => buildEsbuild(project, "web") },
  ];
  for (const { name, folder, build } of pages) {
    await step(`the tokenizer by ${name}, for a page`, async () => {
      await build();
      return weigh(project, folder, 1);
    });
    await step(`the tokenizer by ${name}, in a page`, async () =>
      expectIds(await answerOfBuild(join(project.folder, folder), false)),
    );
  }
  for (const [name, build] of [["webpack", buildWebpack] as const, ["esbuild", buildEsbuild] as const]) {
    await step(`the tokenizer by ${name}, for Node`, async () => {
      await build(project, "node");
      return expectIds(run(process.execPath, [`dist-${name}-node/main.mjs`, demoModel], project.folder));
    });
  }
}
