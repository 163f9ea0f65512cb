// The site without its host: the service worker keeps it, brings the headers for threads, and is done without where there is none.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ask, loadFrom, type Playground, ready } from "./playground.ts";

const FRANCE = "The capital of France is Paris.";

/** `trouble`: why a browser's test of a page that has lost its host is skipped, if it is. */
export function offlineTests(playground: () => Playground, trouble = ""): void {
  test("runs on one thread without a service worker, and explains why", async () => {
    const { page, context, faults } = await playground().visit({ plain: true, serviceWorkers: "block" });
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(false);
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    expect(await page.locator(".notice").count()).toBe(0); // said where it is asked for
    await page.locator(".model-button").click();
    await page.getByText("This page is not isolated from others, so browsers give it one thread").waitFor();
    expect(faults).toEqual([]);
    await context.close();
  });

  test("starts where the browser denies it every storage, and says what that means", async () => {
    const { page, context, faults } = await playground().visit({
      plain: true,
      before: () => {
        const deny = () => {
          throw new DOMException("Denied.", "SecurityError");
        };
        for (const name of ["localStorage", "sessionStorage", "indexedDB", "caches"])
          Object.defineProperty(globalThis, name, { get: deny });
        Object.defineProperty(navigator, "serviceWorker", { get: deny });
        Object.defineProperty(navigator, "storage", { get: () => undefined });
      },
    });
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    await page.locator(".notice", { hasText: "Conversations are not kept" }).waitFor();
    await page.locator(".model-button").click();
    await page.getByText("The page itself needs a network").waitFor();
    expect(faults).toEqual([]);
    await context.close();
  });

  test("offers a newer version of itself, and reloads with it when asked to", async () => {
    const { page, context } = await playground().visit({ plain: true });
    await page.getByText("the page works without a network").waitFor();
    const before = await page.evaluate(() => caches.keys());
    // As a build with another page would be.
    const script = join(playground().folder, "service-worker.js");
    const text = await readFile(script, "utf8");
    const version = /doge-site-\W+([0-9a-f]{12})/.exec(text)?.[1] ?? before[0]!.replace("doge-site-", "");
    try {
      await writeFile(script, text.replaceAll(version, "0123456789ab"));
      await page.reload();
      await page.getByText("A newer version of this page is here").waitFor();
      await Promise.all([page.waitForEvent("load"), page.getByRole("button", { name: "Reload the page" }).click()]);
      await ready(page);
      await page.waitForFunction(async () => (await caches.keys()).join() === "doge-site-0123456789ab");
      expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    } finally {
      await writeFile(script, text);
    }
    await context.close();
  });

  // The last one: the host does not come back.
  test.skipIf(trouble !== "")(`is isolated by its service worker, and answers without its host${trouble}`, async () => {
    const { page, context } = await playground().visit({ plain: true, query: "?threads=2" });
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    expect(await page.locator(".model-where").textContent()).toBe("WebAssembly × 2");
    await page.getByText("the page works without a network").waitFor();
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);

    await playground().plain.close();
    await page.reload();
    await ready(page);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    // In the conversation from before.
    expect(await page.locator(".turn").count()).toBe(4);

    // A model that was not downloaded is refused with the way out, and the page goes on.
    await loadFrom(playground().plain.address, page, "Small/Doge-demo");
    const notice = page.locator(".notice.error");
    await notice.waitFor({ timeout: 30_000 });
    expect(await notice.textContent()).toContain("The hub cannot be reached");
    await page.keyboard.press("Escape");
    await notice.getByRole("button", { name: "Use the demo model" }).click();
    await ready(page);
    await ask(page, "What is 7 plus 8?");
    await context.close();
  });
}
