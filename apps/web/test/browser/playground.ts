// What the browser tests share: the site as it is built, a server, a browser, and the steps that a person takes.
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContext, BrowserContextOptions, Locator, Page } from "playwright-core";
import { build } from "vite";
import { expect, vi } from "vitest";
import type { TestBrowser } from "../../../../tools/browser.ts";
import { type Site, serveSite } from "../../scripts/serve.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Milliseconds for a step on a busy machine. */
const PATIENCE = 40_000;

export interface Playground {
  /** Sends the headers for threads. */
  readonly site: Site;
  /** Sends none, as most static hosts. */
  readonly plain: Site;
  readonly browser: Browser;
  /** Where the built site lies. */
  readonly folder: string;
  /** What `page` saves when `work` is done: its name and its path. */
  saved(page: Page, work: () => Promise<void>): Promise<readonly [name: string, path: string]>;
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
  /** Runs in the page ahead of its own programs. */
  readonly before?: () => void;
}

export interface Visit {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Errors that the page did not catch, or wrote to its console. */
  readonly faults: string[];
}

/** The site in `wanted`, which has WebGPU that computes on the CPU if `gpu` says so. */
export async function openPlayground(wanted: TestBrowser, gpu = false): Promise<Playground> {
  const folder = await mkdtemp(join(tmpdir(), "doge-web-"));
  const downloads = await mkdtemp(join(tmpdir(), "doge-saved-"));
  await build({ root, logLevel: "error", build: { outDir: folder, emptyOutDir: true } });
  const site = await serveSite(folder, { isolated: true });
  const plain = await serveSite(folder);
  const browser = await wanted.open({ gpu, downloads });
  return {
    site,
    plain,
    browser,
    folder,
    async saved(page, work) {
      const told = wanted.name === "Chromium" ? page.waitForEvent("download") : undefined;
      await work();
      if (told !== undefined) return [(await told).suggestedFilename(), await (await told).path()];
      // Firefox tells of files that pages fetch, and not of those that they make.
      for (let tries = 0; ; tries++) {
        const [name] = (await readdir(downloads)).filter((one) => !one.endsWith(".part"));
        if (name !== undefined) return [name, join(downloads, name)];
        if (tries === 100) throw new Error("Nothing was saved.");
        await page.waitForTimeout(50);
      }
    },
    async visit({ query = "", unready = false, plain: bare = false, before, ...rest } = {}) {
      const context = await browser.newContext({
        viewport: { width: 1280, height: 800 },
        // Where the host sends the headers, it would only keep what no such test comes back for.
        serviceWorkers: bare ? "allow" : "block",
        ...rest,
      });
      context.setDefaultTimeout(PATIENCE);
      if (before !== undefined) await context.addInitScript(before);
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
      for (const path of [folder, downloads]) await rm(path, { recursive: true, force: true });
    },
  };
}

/** Until a model answers. */
export async function ready(page: Page): Promise<void> {
  await page.locator('.model-button[data-state="ready"]').waitFor();
}

/** Write over what is in a field, as a person does. */
export async function write(field: Locator, text: string): Promise<void> {
  await field.press("ControlOrMeta+A");
  await field.pressSequentially(text);
  await field.press("Tab");
}

/** Say something and wait for the whole answer. @returns its text */
export async function ask(page: Page, text: string): Promise<string> {
  const whole = page.locator(".turn.answer .ways");
  const before = await whole.count();
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
  await whole.nth(before).waitFor();
  return answerText(page);
}

/** What the menu of a conversation in the list offers. */
export async function choose(page: Page, title: string, what: "Rename" | "Export" | "Delete"): Promise<void> {
  await page.getByRole("button", { name: `More: ${title}` }).click();
  await page.getByRole("menuitem", { name: what }).click();
}

/** Ask for a model of a hub by its name. */
export async function loadFrom(hub: string, page: Page, name: string): Promise<void> {
  await page.locator(".model-button").click();
  await page.getByText("Revision, hub and token").click();
  await page.getByLabel("Address of the hub").fill(hub);
  await page.locator("#hub-name").fill(name);
  await page.getByRole("button", { name: "Load", exact: true }).first().click();
}

/** Of the last answer. */
export async function answerText(page: Page): Promise<string> {
  return ((await page.locator(".turn.answer .markdown").last().textContent()) ?? "").trim();
}

/** Checks until it holds. `expect.poll` has no test to belong to where several run at once. */
export const eventually = (check: () => Promise<void>): Promise<void> =>
  vi.waitFor(check, { timeout: PATIENCE, interval: 50 });

/** One person's visit, in which the page has no errors. */
export async function faultless(
  playground: Playground,
  options: VisitOptions,
  work: (visit: Visit) => Promise<void>,
): Promise<void> {
  const visit = await playground.visit(options);
  try {
    await work(visit);
    expect(visit.faults).toEqual([]);
  } finally {
    await visit.context.close();
  }
}
