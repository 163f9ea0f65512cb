// The WebGPU backend on every software adapter that can be had here, each with a part of the conformance suite that it computes
// in seconds: goldens of every layout made by transformers, every dtype, prompts and steps, the window, draws against core's.
// `npm test` runs the whole suite on SwiftShader under Dawn; this is what other drivers, compilers and browsers make of it.
//
//   Dawn in Node on lavapipe    f16, subgroups of eight, every form of the kernels
//   Deno (wgpu, naga)           another implementation of WebGPU and of WGSL, that of Firefox
//   Chromium, headless          the page's WebGPU, on SwiftShader
//   Firefox, headless           the same, by wgpu as it is in that browser
//
//   node tools/adapters.ts [--bring] [WORD ...]    --bring: fetch what is missing, as continuous integration does; only steps
//                                                  whose names hold one of the words
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import * as esbuild from "esbuild";
import type { Variant } from "../packages/backend-webgpu/src/variant.ts";
import { lavapipe } from "./adapters/lavapipe.ts";
import type { SuiteReport } from "./adapters/suite.ts";
import { chromium, firefox, type TestBrowser } from "./browser.ts";
import { answerOfPage, serveFile, serveModel } from "./packages/page.ts";
import { programOf, RUNTIMES } from "./packages/runtimes.ts";
import { failed, root, Skipped, step } from "./packages/steps.ts";
import { softwareGpu } from "./software-gpu.mjs";

const bring = process.argv.includes("--bring") || Boolean(process.env.CI);
const words = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const program = join(root, "tools", "adapters", "program.ts");
const compile = join(root, "tools", "adapters", "compile.ts");
const fixtures = join(root, "packages", "conformance", "fixtures");

/** What a form is asked that takes long to compile: q8 against f32, both in one call and in steps. */
const ROUNDED = ["weights are held as core rounds them: q8"];
/** And what a form with teams does that a barrier-free one does not: deal a step's keys to several. */
const SLICED = [
  ...ROUNDED,
  "golden logits: native",
  "golden greedy",
  "a prompt in one call = single steps",
  "heads of 128: a prompt = steps of one text = steps of two: q8",
];
const FEW = [
  "golden logits: native",
  "golden greedy text: window",
  "golden logits: moe",
  "weights are held as core rounds them:",
  "filters together, in their order",
];
/** What an adapter is asked in the form that it would get. */
const MANY = [
  ...FEW,
  "golden logits:",
  "golden greedy text: moe",
  "golden scores",
  "golden hidden states",
  "a prompt in one call = single steps",
  "a key that is dropped stays dropped",
  "draws without filters",
  "greedy: the most likely id",
  "masks: only what is allowed",
  "rows of one call stop each for itself",
  "logprobs and alternatives are those",
];

const forms = {
  "barrier-free": { serial: true, subgroups: false, f16: false, packed: false },
  "barrier-free + packed": { serial: true, subgroups: false, f16: false, packed: true },
  "barrier-free + f16 + packed": { serial: true, subgroups: false, f16: true, packed: true },
  "subgroups + f16 + packed": { serial: false, subgroups: true, f16: true, packed: true },
} as const satisfies { readonly [name: string]: Variant };
type Form = keyof typeof forms;

/** Milliseconds for one adapter: the form with subgroups on lavapipe has taken 600 s alone and over 1,500 beside other work. */
const PATIENCE = 2_700_000;

interface Choice {
  readonly options: { readonly variant: Variant };
  readonly only: readonly string[];
}
const choiceOf = (form: Form, only: readonly string[]): Choice => ({ options: { variant: forms[form] }, only });

/** @throws when anything failed; Skipped when there is no adapter. */
function judge(text: string, form?: Form): string {
  const { device, absent, passed, failures, seconds } = JSON.parse(text) as SuiteReport;
  if (absent) throw new Skipped(device);
  if (failures.length > 0) throw new Error(`${device}: ${failures.join("\n")}`);
  if (form !== undefined && !device.endsWith(`, ${form} kernels`))
    throw new Error(`${device} ran in place of ${form} kernels.`);
  return `${passed} checks in ${seconds.toFixed(0)} s on ${device}`;
}

/** Run the suite in a process of its own; its report. */
async function report(
  runtime: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<string> {
  // Deno has no Vulkan loader of its own either; SwiftShader's package brings one.
  const { stdout } = await promisify(execFile)(runtime, args, {
    env: { ...process.env, ...softwareGpu().env, VK_ADD_DRIVER_FILES: "", NO_COLOR: "1", ...env },
    timeout: PATIENCE,
  }).catch((error: Error & { killed?: boolean }) => {
    throw error.killed ? new Error(`it took longer than ${PATIENCE / 1000} s, and was ended.`) : error;
  });
  return stdout.trim().split("\n").at(-1)!;
}

async function inNode(form: Form, only: readonly string[]): Promise<string> {
  const args = ["--disable-warning=ExperimentalWarning", program, JSON.stringify(choiceOf(form, only))];
  return judge(await report(process.execPath, args, { VK_DRIVER_FILES: lavapipe(bring) }), form);
}

const DENO = ["run", "--quiet", "--no-prompt", "--no-check", "--unstable-webgpu", "--allow-all"];
const deno = (): string => programOf(RUNTIMES.find(({ name }) => name.startsWith("Deno"))!, bring);

async function inDeno(form: Form, only: readonly string[]): Promise<string> {
  const variables = { VK_DRIVER_FILES: lavapipe(bring) };
  return judge(await report(deno(), [...DENO, program, JSON.stringify(choiceOf(form, only))], variables), form);
}

/** Every kernel in every form through naga. */
async function compiledByDeno(): Promise<string> {
  return judge(await report(deno(), [...DENO, compile], { VK_DRIVER_FILES: lavapipe(bring) }));
}

async function inBrowser(browser: TestBrowser, form: Form, only: readonly string[]): Promise<string> {
  if (browser.path === undefined) throw new Skipped(`no ${browser.name} in PATH`);
  const { outputFiles } = await esbuild.build({
    entryPoints: [join(root, "tools", "adapters", "page.ts")],
    ...{ bundle: true, write: false, format: "esm", target: "es2022", platform: "browser", logLevel: "silent" },
    // The suite reads fixtures from disk where it is not given others.
    external: ["node:url", "@doge-lm/core/node", "@doge-lm/demo-model"],
  });
  const { promise: answer, resolve } = Promise.withResolvers<string>();
  const server = createServer((request, response) => {
    if (serveModel(request, response, resolve)) return;
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    const own: Record<string, readonly [string, string]> = {
      "/": ["text/html", '<!doctype html><title>Doge</title><script type="module" src="main.mjs"></script>'],
      "/main.mjs": ["text/javascript", outputFiles[0]!.text],
      "/choice.json": ["application/json", JSON.stringify(choiceOf(form, only))],
    };
    const folder = /^\/fixtures\/([\w-]+)\/$/.exec(pathname)?.[1];
    if (own[pathname] !== undefined) {
      const [type, content] = own[pathname];
      response.setHeader("content-type", type).end(content);
    } else if (folder !== undefined && existsSync(join(fixtures, folder))) {
      response.setHeader("content-type", "application/json").end(JSON.stringify(readdirSync(join(fixtures, folder))));
    } else void serveFile(join(fixtures, pathname.slice("/fixtures/".length)), response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  try {
    return judge(await answerOfPage(address, answer, { browser, gpu: true, patience: PATIENCE }), form);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** The longest first. */
const STEPS: readonly (readonly [name: string, work: () => Promise<string>])[] = [
  ["Dawn in Node on lavapipe, subgroups + f16 + packed", () => inNode("subgroups + f16 + packed", SLICED)],
  ["Dawn in Node on lavapipe, barrier-free + f16 + packed", () => inNode("barrier-free + f16 + packed", FEW)],
  ["Dawn in Node on lavapipe, barrier-free", () => inNode("barrier-free", MANY)],
  ["Deno, every kernel in every form", compiledByDeno],
  ["Deno on lavapipe, barrier-free + packed", () => inDeno("barrier-free + packed", ROUNDED)],
  ["Chromium on SwiftShader, barrier-free", () => inBrowser(chromium, "barrier-free", FEW)],
  ["Firefox on SwiftShader, barrier-free", () => inBrowser(firefox, "barrier-free", FEW)],
];
const chosen = STEPS.filter(([name]) => words.length === 0 || words.some((word) => name.includes(word)));
/** One after the other, from where the others are. */
async function go(): Promise<void> {
  for (let next = chosen.shift(); next !== undefined; next = chosen.shift()) await step(...next);
}
// Two at a time: a driver that compiles for the CPU takes one processor.
await Promise.all([go(), go()]);
console.log(failed() === 0 ? "Every adapter that is here agrees." : `${failed()} adapters failed.`);
process.exit(failed() === 0 ? 0 : 1);
