// Where models come from and where they run: WebGPU on a software adapter, a hub with its faults.
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type PageHub, startPageHub } from "./hub.ts";
import { ask, loadFrom, type Playground, type Visit } from "./playground.ts";

const FRANCE = "The capital of France is Paris.";
const NAME = "Small/Doge-demo";

export function modelTests(playground: () => Playground): void {
  let hub: PageHub;
  beforeAll(async () => {
    hub = await startPageHub();
  });
  afterAll(() => hub?.stop());
  beforeEach(() => hub.hub.reset());

  const loadFromHub = ({ page }: Visit, name = NAME) => loadFrom(hub.url, page, name);

  test("answer on WebGPU with the same words, and move to WebAssembly", async () => {
    const { page, context, faults } = await playground().visit({ query: "?backend=webgpu" });
    expect(await page.locator(".model-where").textContent()).toBe("WebGPU");
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    await page.getByRole("button", { name: "What the model attends to" }).click();
    await page.getByRole("dialog").getByRole("img").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".model-button").click();
    expect(await page.getByRole("dialog").textContent()).toMatch(/WebGPU: .*\(software\)/);
    await page.getByRole("radio", { name: /^WebAssembly/ }).check();
    await page.locator(".model-where", { hasText: "WebAssembly" }).waitFor();
    await page.keyboard.press("Escape");
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    expect(faults).toEqual([]);
    await context.close();
  });

  test("come from a hub once, with their progress, and are then kept; those that do not exist are refused", async () => {
    const visit = await playground().visit();
    const { page, context } = visit;
    await page.evaluate(() => {
      const seen = new Set<string>();
      Object.assign(window, { seen });
      new MutationObserver(() => {
        const text = document.querySelector(".group.loading p")?.textContent;
        if (text) seen.add(text);
      }).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    await loadFromHub(visit);
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.locator(".model-name", { hasText: NAME }).waitFor();
    const seen = await page.evaluate(() => [...(window as unknown as { seen: Set<string> }).seen]);
    expect(seen).toContainEqual(expect.stringMatching(/^Downloading .+: .+ of 3\.\d MB$/));
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    await page.locator(".model-button").click();
    await page.getByRole("dialog").locator(".stored").getByText(NAME).waitFor();
    await page.keyboard.press("Escape");
    // The second time nothing but the listing is asked for. It is also known by the address of its page.
    hub.hub.reset();
    await page.locator(".model-button").click();
    await page.locator("#hub-name").fill(`${hub.url}/${NAME}`);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(hub.hub.gets("model.safetensors")).toEqual([]);
    // And it can be thrown away.
    await page.locator(".model-button").click();
    await page.getByRole("button", { name: `Delete ${NAME}` }).click();
    await page.getByText("No model was downloaded.").waitFor();
    await page.keyboard.press("Escape");

    await loadFromHub(visit, "Small/Nothing");
    const notice = page.locator(".notice.error");
    await notice.waitFor();
    expect(await notice.textContent()).toContain("There is no such model");
    // In the dialog that it was asked in: the page behind it is inert.
    expect(await page.getByRole("dialog").locator(".notice.error").count()).toBe(1);
    await page.keyboard.press("Escape");
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    await context.close();
  });

  test("whose connection breaks are gone on with, and a download can be cancelled and taken up again", async () => {
    const visit = await playground().visit();
    const { page, context } = visit;
    hub.hub.misbehave = ({ file, method }, n) =>
      file !== "model.safetensors" || method !== "GET"
        ? null
        : n === 1
          ? { cutAt: 500_000 }
          : n === 2
            ? { stallAt: 300_000 }
            : null;
    await loadFromHub(visit);
    // Broken off, taken up where it was, then silent: cancelled.
    await page.waitForFunction(() =>
      /Downloading model/.test(document.querySelector(".group.loading")?.textContent ?? ""),
    );
    for (let tries = 0; hub.hub.gets("model.safetensors").length < 2; tries++) {
      expect(tries).toBeLessThan(200);
      await page.waitForTimeout(50);
    }
    // The model before answers meanwhile.
    await page.keyboard.press("Escape");
    expect(await ask(page, "What is 7 plus 8?")).toContain("15");
    expect(await page.locator(".answer .facts").textContent()).toContain("Demo model");
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.locator(".model-now progress").waitFor({ state: "detached" });
    expect(await page.locator(".model-name").textContent()).toBe("Demo model");
    await loadFromHub(visit);
    await page.getByRole("dialog").waitFor({ state: "detached" });
    const gets = hub.hub.gets("model.safetensors");
    expect(gets.length).toBe(3);
    expect(gets[1]!.from).toBe(500_000);
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    expect(await page.locator(".answer .facts").last().textContent()).toContain(NAME);
    await context.close();
  });

  test("that come when their dialog is closed leave the one that is open", async () => {
    const visit = await playground().visit();
    const { page, context } = visit;
    let go = () => {};
    const held = new Promise<void>((done) => {
      go = done;
    });
    await page.route(`${hub.url}/**/model.safetensors`, async (route) => {
      await held;
      await route.continue();
    });
    await loadFromHub(visit);
    await page.getByText("Starting…", { exact: true }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Parameters" }).click();
    expect(await page.locator('.model-button[data-state="loading"]').count()).toBe(1);
    go();
    await page.locator('.model-button[data-state="ready"]', { hasText: NAME }).waitFor();
    expect(await page.getByRole("dialog").getByText("System message of this conversation").count()).toBe(1);
    await context.close();
  });

  test("whose tab is closed in the middle of the download are had the next time", async () => {
    const visit = await playground().visit();
    hub.hub.misbehave = ({ file, method }, n) =>
      file === "model.safetensors" && method === "GET" && n === 1 ? { stallAt: 2_000_000 } : null;
    await loadFromHub(visit);
    await visit.page.waitForFunction(() =>
      /Downloading model.* 2\.\d MB of/.test(document.querySelector(".group.loading")?.textContent ?? ""),
    );
    await visit.page.close();
    const page = await visit.context.newPage();
    await page.goto(playground().site.address);
    await page.locator('.model-button[data-state="ready"]').waitFor();
    await loadFromHub({ ...visit, page });
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    await visit.context.close();
  });
}
