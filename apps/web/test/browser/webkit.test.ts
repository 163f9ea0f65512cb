// The playground in WebKit, the engine of Safari: what it shows and says there, with shared memory and without, offline, stopped.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KEYS, WebKit, webkitAbsence } from "../../../../tools/webkit.ts";
import { type Site, serveSite } from "../../scripts/serve.ts";
import { demoFiles } from "./hub.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const timeout = 180_000;
const FRANCE = "The capital of France is Paris.";

describe.skipIf(webkitAbsence !== "")(`the playground in WebKit${webkitAbsence}`, { timeout }, () => {
  let folder: string;
  /** Sends the headers for threads, or none. */
  let [site, plain]: Site[] = [];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "doge-webkit-"));
    await build({ root, logLevel: "error", build: { outDir: join(folder, "site") } });
    site = await serveSite(join(folder, "site"), { isolated: true });
    plain = await serveSite(join(folder, "site"));
  }, timeout);
  afterAll(async () => {
    await site?.close();
    await plain?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const ready = (page: WebKit) =>
    page.until(() => document.querySelector('.model-button[data-state="ready"]') !== null);
  const where = (page: WebKit) => page.run(() => document.querySelector(".model-where")?.textContent);

  async function ask(page: WebKit, text: string): Promise<string> {
    // The answer before this one is the last turn until the question stands behind it.
    await page.run(() => {
      for (const turn of document.querySelectorAll(".turn")) turn.setAttribute("data-before", "");
    });
    await page.click("#message");
    await page.type(`${text}${KEYS.enter}`);
    await page.until(() => document.querySelector(".turn:last-child.answer:not([data-before]) .ways") !== null);
    return page.run(() => document.querySelector(".turn:last-child.answer .markdown")!.textContent!.trim());
  }

  test("answers on one thread, since WebKitGTK shares no memory, and says why", async () => {
    const page = await WebKit.open();
    try {
      await page.open(site!.address);
      await ready(page);
      expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
      expect(await ask(page, "What is 7 plus 8?")).toBe("7 + 8 = 15.");
      expect(await where(page)).toBe("WebAssembly");
      await page.click(".model-button");
      await page.shows("dialog", "Not here. This browser has no WebGPU in workers.");
      await page.shows("dialog", "Here: wasm simd128. One thread computes");
      await page.shows("dialog", "this JavaScript engine has no shared memory");
      await page.type(KEYS.escape);
      await page.until(() => document.querySelector("dialog") === null);
    } finally {
      await page.close();
    }
  });

  test("answers on several threads, from files of this machine, and stops", async () => {
    const page = await WebKit.open({ sharedMemory: true });
    try {
      await page.open(`${site!.address}?threads=2`);
      await ready(page);
      expect(await where(page)).toBe("WebAssembly × 2");
      expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
      // The demo model, made to talk on: answers end by themselves too soon to be stopped.
      const talkative = new TextEncoder().encode(JSON.stringify({ eos_token_id: 1, min_new_tokens: 400 }));
      const paths: string[] = [];
      for (const [name, content] of Object.entries(await demoFiles({ "generation_config.json": talkative }))) {
        paths.push(join(folder, name));
        await writeFile(paths.at(-1)!, content);
      }
      await page.click(".model-button");
      await page.choose("#local-files", paths);
      await page.until(() => document.querySelector(".model-name")?.textContent === "Local files");
      await ready(page);
      // Faster than a test can look: Escape, as soon as there are twenty tokens.
      await page.run(() => {
        new MutationObserver((_, observer) => {
          const tokens = Number.parseInt(document.querySelector(".answer[aria-busy] .facts")?.textContent ?? "", 10);
          if (!(tokens >= 20)) return;
          observer.disconnect();
          document.activeElement!.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
        }).observe(document.body, { subtree: true, childList: true, characterData: true });
      });
      await ask(page, "Tell me a story about a fox.");
      await page.shows(".turn:last-child .facts", "stopped");
      await page.click('button[aria-label="Answer again"]');
      await page.until(() => {
        // Its own end may be minutes away on a busy machine.
        document.activeElement!.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
        return document.querySelector(".answer[aria-busy]") === null;
      });
    } finally {
      await page.close();
    }
  });

  // The last one: the host does not come back.
  test("is isolated by its service worker, and answers without its host", async () => {
    const page = await WebKit.open({ sharedMemory: true });
    try {
      await page.open(plain!.address);
      await ready(page);
      expect(await page.run(() => crossOriginIsolated)).toBe(true);
      expect(await where(page)).toMatch(/^WebAssembly × \d+$/);
      await page.shows("body", "the page works without a network");
      expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
      await plain!.close();
      await page.reload();
      await ready(page);
      expect(await ask(page, "What is 7 plus 8?")).toBe("7 + 8 = 15.");
      // In the conversation from before.
      expect(await page.run(() => document.querySelectorAll(".turn").length)).toBe(4);
    } finally {
      await page.close();
    }
  });
});
