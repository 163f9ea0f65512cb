// The one-file demo, opened from a file in headless browsers: it answers, by keyboard, and asks nothing of any network.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromium, firefox, type TestBrowser } from "./browser.ts";
import { writeDemo } from "./demo-html.ts";
import { KEYS, WebKit, webkitAbsence } from "./webkit.ts";

/** Milliseconds for a browser, the model and an answer, on a busy machine. */
const PATIENCE = 20_000;

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "doge-demo-"));
  path = join(folder, "doge-demo.html");
  await writeDemo(path);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The demo, ready to be asked, and the addresses that it and its workers asked for. `before` runs ahead of its own scripts. */
async function withPage(
  { open }: TestBrowser,
  before: string,
  work: (page: Page, requests: readonly string[]) => Promise<void>,
): Promise<void> {
  const browser = await open();
  try {
    const context = await browser.newContext();
    context.setDefaultTimeout(PATIENCE);
    await context.addInitScript(before);
    const requests: string[] = [];
    context.on("request", (request) => requests.push(request.url()));
    const page = await context.newPage();
    await page.goto(pathToFileURL(path).href);
    await idle(page);
    await work(page, requests);
  } finally {
    await browser.close();
  }
}

const idle = (page: Page): Promise<void> => page.locator("#send:enabled", { hasText: /^Send$/ }).waitFor();
const lastAnswer = async (page: Page): Promise<string> => (await page.locator(".doge p").last().textContent()) ?? "";
const text = (page: Page, id: string): Promise<string | null> => page.locator(`#${id}`).textContent();
const engine = (page: Page): Promise<string | null> => page.locator("html").getAttribute("data-engine");

/** Type a question where the focus is, and wait for the answer. */
async function ask(page: Page, question: string): Promise<string> {
  const before = await page.locator(".doge p").count();
  await page.keyboard.insertText(question);
  await page.keyboard.press("Enter");
  await page.locator(".doge p").nth(before).waitFor();
  await idle(page);
  return lastAnswer(page);
}

test("the demo in one file names nothing outside itself", async () => {
  const text = await readFile(path, "utf8");
  const markup = text.replaceAll(/(<(script|style)\b[^>]*>)[\s\S]*?<\/\2>/g, "$1");
  expect(markup).toContain("default-src 'none'");
  expect(markup).not.toMatch(/\b(?:src|href|action|srcset|data|poster)=|url\(|@import/);
  expect(text.match(/<style>[\s\S]*?<\/style>/)?.[0]).not.toMatch(/url\(|@import/);
});

describe.each([chromium, firefox].map((browser) => ({ label: `${browser.name}${browser.absence}`, browser })))(
  "the demo in one file, in $label",
  ({ browser }) => {
    test.skipIf(browser.path === undefined)("answers by keyboard, in a worker, and asks for nothing", async () => {
      await withPage(browser, "", async (page, requests) => {
        expect(await engine(page)).toBe("worker");
        expect(await ask(page, "What is the capital of France?")).toMatch(/\bParis\b/);
        expect(await ask(page, "What is 7 plus 8?")).toMatch(/\b15\b/);
        expect(await text(page, "speed")).toMatch(/^\d+ tokens, \d+ tokens\/s$/);
        expect(await text(page, "device")).toMatch(/^wasm (relaxed-simd|simd128)/);
        expect(await page.locator("#log").getAttribute("aria-busy")).toBe("false");
        // What cannot be answered is told, leaves no empty answer, and is no end.
        await page.keyboard.insertText("word ".repeat(700));
        await page.keyboard.press("Enter");
        await page
          .locator("#status", { hasText: /^That did not work: The last message alone .* Shorten it\.$/ })
          .waitFor();
        expect(await page.locator(".doge").count()).toBe(2);
        // The end of what is said is in sight, above the field.
        expect(await ask(page, "Tell me a story about a fox.")).toContain("fox");
        expect(
          await page.evaluate(() => {
            const [foot, last] = [document.querySelector("footer")!, [...document.querySelectorAll(".doge p")].at(-1)!];
            return last.getBoundingClientRect().bottom <= foot.getBoundingClientRect().top;
          }),
        ).toBe(true);
        const own = (address: string) => address === pathToFileURL(path).href || address.startsWith("blob:");
        // Playwright is not told by Firefox of what is asked of files and of the page itself.
        if (browser === chromium) expect(requests).not.toEqual([]);
        expect(requests.filter((address) => !own(address))).toEqual([]);
        // And could not: the page's policy stops what would ask.
        const blocked = page.evaluate(
          () =>
            new Promise((resolve) => {
              addEventListener("securitypolicyviolation", ({ effectiveDirective }) => resolve(effectiveDirective));
              fetch("http://127.0.0.1:9/").catch(() => {});
            }),
        );
        expect(await blocked).toBe("connect-src");
      });
    });

    test.skipIf(browser.path === undefined)("stops at Escape and goes on, without workers too", async () => {
      await withPage(browser, "delete globalThis.Worker;", async (page) => {
        expect(await engine(page)).toBe("page");
        // At once, so that no machine is quick enough to have finished.
        await page.evaluate(() => {
          document.querySelector<HTMLInputElement>("#input")!.value = "Tell me a story about a fox.";
          document.querySelector<HTMLFormElement>("#form")!.requestSubmit();
          document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
        });
        await page.locator("#status", { hasText: "Stopped." }).waitFor();
        await idle(page);
        expect((await lastAnswer(page)).split(/[.!?]/).length).toBeLessThan(4);
        expect(await ask(page, "What is the capital of France?")).toMatch(/\bParis\b/);
      });
    });
  },
);

test.skipIf(webkitAbsence !== "")(`the demo in one file, in WebKit${webkitAbsence}`, async () => {
  const page = await WebKit.open();
  try {
    await page.open(pathToFileURL(path).href);
    await page.until(() => document.querySelector("#send:enabled") !== null);
    expect(await page.run(() => document.documentElement.dataset.engine)).toBe("worker");
    await page.type(`What is the capital of France?${KEYS.enter}`);
    await page.shows("#status", "Answered.");
    expect(await page.run(() => document.querySelector(".doge p")?.textContent)).toMatch(/\bParis\b/);
    await page.shows("#device", "wasm simd128");
  } finally {
    await page.close();
  }
});
