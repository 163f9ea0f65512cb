// What only a browser's own protocol can do to a page: the process of its GPU ends, its storage is full. Chromium's can.
import { expect, test } from "vitest";
import { startPageHub } from "./hub.ts";
import { ask, loadFrom, type Playground } from "./playground.ts";

const FRANCE = "The capital of France is Paris.";
const NAME = "Small/Doge-demo";

export function faultTests(playground: () => Playground): void {
  test("a GPU that is lost is opened again, and the conversation goes on", async () => {
    const { page, context } = await playground().visit({ query: "?backend=webgpu" });
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    const control = await playground().browser.newBrowserCDPSession();
    await control.send("Browser.crashGpuProcess");
    expect(await ask(page, "What is 7 plus 8?")).toContain("15");
    await page.locator(".notice", { hasText: "The backend webgpu failed, and it was opened again" }).waitFor();
    await page.locator(".model-button").click();
    expect(await page.getByRole("dialog").textContent()).toMatch(/WebGPU: .*swiftshader.*\(software\)/i);
    await context.close();
  });

  test("a model that the browser has no room for is kept in memory, and the page says so", async () => {
    const hub = await startPageHub();
    const { page, context } = await playground().visit();
    const debug = await context.newCDPSession(page);
    // Less than there is already.
    await debug.send("Storage.overrideQuotaForOrigin", {
      origin: new URL(playground().site.address).origin,
      quotaSize: 1000,
    });
    await loadFrom(hub.url, page, NAME);
    await page.locator(".notice", { hasText: "the model is kept in memory" }).waitFor();
    await page.locator(".model-name", { hasText: NAME }).waitFor();
    await page.keyboard.press("Escape");
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    await page.locator(".notice", { hasText: "The conversation is not kept" }).waitFor();
    await context.close();
    await hub.stop();
  });
}
