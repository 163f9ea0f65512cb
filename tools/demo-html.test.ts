// The one-file demo, opened from a file in a headless browser: it answers, by keyboard, and asks nothing of any network.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Page } from "./demo-html/browser.ts";
import { writeDemo } from "./demo-html.ts";
import { findBrowser } from "./packages/page.ts";

let browser: string | undefined;
let absence = "";
try {
  browser = findBrowser();
} catch (error) {
  absence = ` (skipped: ${(error as Error).message})`;
}

/** Milliseconds for a browser, the model and an answer, on a busy machine. */
const PATIENCE = 20_000;
const IDLE = 'document.querySelector("#send:enabled")?.textContent === "Send"';
const ANSWER = '[...document.querySelectorAll(".doge p")].at(-1)?.textContent';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "doge-demo-"));
  path = join(folder, "doge-demo.html");
  await writeDemo(path);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function withPage(before: string, work: (page: Page) => Promise<void>): Promise<void> {
  const page = await Page.start(browser!, before);
  try {
    await page.open(pathToFileURL(path).href);
    await page.until(IDLE, PATIENCE);
    await work(page);
  } finally {
    await page.close();
  }
}

/** Type a question where the focus is, and wait for the answer. */
async function ask(page: Page, question: string): Promise<unknown> {
  await page.type(question);
  await page.press("Enter");
  await page.until(`${IDLE} && ${ANSWER}`, PATIENCE);
  return page.evaluate(ANSWER);
}

describe(`the demo in one file${absence}`, () => {
  test("names nothing outside itself", async () => {
    const text = await readFile(path, "utf8");
    const markup = text.replaceAll(/(<(script|style)\b[^>]*>)[\s\S]*?<\/\2>/g, "$1");
    expect(markup).toContain("default-src 'none'");
    expect(markup).not.toMatch(/\b(?:src|href|action|srcset|data|poster)=|url\(|@import/);
    expect(text.match(/<style>[\s\S]*?<\/style>/)?.[0]).not.toMatch(/url\(|@import/);
  });

  test.skipIf(browser === undefined)("answers by keyboard, in a worker, and asks for nothing", async () => {
    await withPage("", async (page) => {
      expect(await page.evaluate("location.protocol")).toBe("file:");
      expect(await page.evaluate("document.documentElement.dataset.engine")).toBe("worker");
      expect(await ask(page, "What is the capital of France?")).toMatch(/\bParis\b/);
      expect(await ask(page, "What is 7 plus 8?")).toMatch(/\b15\b/);
      expect(await page.evaluate('document.getElementById("speed").textContent')).toMatch(
        /^\d+ tokens, \d+ tokens\/s$/,
      );
      expect(await page.evaluate('document.getElementById("device").textContent')).toMatch(
        /^wasm (relaxed-simd|simd128)/,
      );
      expect(await page.evaluate('document.getElementById("log").getAttribute("aria-busy")')).toBe("false");
      const own = (address: string) => address === pathToFileURL(path).href || address.startsWith("blob:");
      expect(page.requests).not.toEqual([]);
      expect(page.requests.filter((address) => !own(address))).toEqual([]);
      // And could not: the page's policy stops what would ask.
      const blocked = `new Promise((resolve) => {
        addEventListener("securitypolicyviolation", ({ effectiveDirective }) => resolve(effectiveDirective));
        fetch("http://127.0.0.1:9/").catch(() => {});
      })`;
      expect(await page.evaluate(blocked)).toBe("connect-src");
    });
  });

  test.skipIf(browser === undefined)("stops at Escape and goes on, without workers too", async () => {
    await withPage("delete globalThis.Worker;", async (page) => {
      expect(await page.evaluate("document.documentElement.dataset.engine")).toBe("page");
      // At once, so that no machine is quick enough to have finished.
      await page.evaluate(`document.getElementById("input").value = "Tell me a story about a fox.";
      document.getElementById("form").requestSubmit();
      document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));`);
      await page.until(`${IDLE} && ${ANSWER}`, PATIENCE);
      const part = (await page.evaluate(ANSWER)) as string;
      expect(await page.evaluate('document.getElementById("status").textContent')).toBe("Stopped.");
      expect(part.split(/[.!?]/).length).toBeLessThan(4);
      expect(await ask(page, "What is the capital of France?")).toMatch(/\bParis\b/);
    });
  });
});
