// What the browser tests share: the site as it is built, a server, a browser, and the steps that a person takes.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { build } from "vite";
import { openBrowser } from "../../../../tools/browser.ts";
import { type Site, serveSite } from "../../scripts/serve.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Milliseconds for a step on a busy machine. */
const PATIENCE = 40_000;

/** With a GPU that computes on the CPU, for WebGPU without hardware. */
const FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

export interface Playground {
  /** Sends the headers for threads. */
  readonly site: Site;
  /** Sends none, as most static hosts. */
  readonly plain: Site;
  readonly browser: Browser;
  /** Where the built site lies. */
  readonly folder: string;
  /** A person who was never here before. */
  visit(options?: VisitOptions): Promise<Visit>;
  close(): Promise<void>;
}

export interface VisitOptions extends BrowserContextOptions {
  /** Behind the address: "?backend=wasm". */
  readonly query?: string;
  /** Do not wait for the model. */
  readonly unready?: boolean;
  /** The host without the headers. */
  readonly plain?: boolean;
}

export interface Visit {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Errors that the page did not catch, or wrote to its console. */
  readonly faults: string[];
}

export async function openPlayground(): Promise<Playground> {
  const folder = await mkdtemp(join(tmpdir(), "doge-web-"));
  await build({ root, logLevel: "error", build: { outDir: folder, emptyOutDir: true } });
  const site = await serveSite(folder, { isolated: true });
  const plain = await serveSite(folder);
  const browser = await openBrowser(FLAGS);
  return {
    site,
    plain,
    browser,
    folder,
    async visit({ query = "", unready = false, plain: bare = false, ...rest } = {}) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...rest });
      context.setDefaultTimeout(PATIENCE);
      const page = await context.newPage();
      const faults: string[] = [];
      page.on("pageerror", (error) => faults.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error") faults.push(message.text());
      });
      await page.goto(`${(bare ? plain : site).address}${query}`);
      if (!unready) await ready(page);
      return { page, context, faults };
    },
    async close() {
      await browser.close();
      await site.close();
      await plain.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Until a model answers. */
export async function ready(page: Page): Promise<void> {
  await page.locator('.model-button[data-state="ready"]').waitFor();
}

/** Say something and wait for the whole answer. @returns its text */
export async function ask(page: Page, text: string): Promise<string> {
  const before = await page.locator(".turn.answer").count();
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
  await page.locator(".turn.answer").nth(before).locator(".ways").waitFor();
  return answerText(page);
}

/** Of the last answer. */
export async function answerText(page: Page): Promise<string> {
  return ((await page.locator(".turn.answer .markdown").last().textContent()) ?? "").trim();
}
