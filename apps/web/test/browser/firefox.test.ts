// The playground in Firefox, another engine for everything: JavaScript, WebAssembly, WebGPU, storage, service workers, keyboard.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { firefox } from "../../../../tools/browser.ts";
import { softwareGpu } from "../../../../tools/software-gpu.mjs";
import { chatTests } from "./chat.ts";
import { keptTests } from "./kept.ts";
import { listTests } from "./list.ts";
import { mannersTests } from "./manners.ts";
import { modelTests } from "./models.ts";
import { offlineTests } from "./offline.ts";
import { openPlayground, type Playground } from "./playground.ts";

const timeout = 180_000;
const absence = firefox.absence || (softwareGpu().why === undefined ? "" : ` (skipped: ${softwareGpu().why})`);

// A Firefox 153 that is led by WebDriver BiDi stays at "Starting…" in about one of ten loads, whatever the backend, the threads and where the model
// comes from; one that is not led did so in none of 110. So tests are tried five times here, and what cannot be is left out.
const retry = 4;
const trouble =
  " (skipped: about one of ten loads stays at “Starting…” in a Firefox 153 led by WebDriver, and this test cannot be tried again)";

describe.skipIf(absence !== "")(`the playground in Firefox${absence}`, { timeout, retry }, () => {
  let playground: Playground;
  beforeAll(async () => {
    playground = await openPlayground(firefox, true);
  }, timeout);
  afterAll(() => playground?.close());

  // One after the other: only one window of a Firefox has the keyboard.
  describe("as a person uses it", () => chatTests(() => playground));
  describe("its list", () => listTests(() => playground));
  describe("what it keeps", () => keptTests(() => playground));
  describe("its manners", () => mannersTests(() => playground));
  describe("its models", () => modelTests(() => playground));
  describe("without its host", () => offlineTests(() => playground, trouble));
});

// As Firefox is on most machines with Linux.
test.skipIf(firefox.path === undefined)(
  `without WebGPU the page says so, and offers WebAssembly${firefox.absence}`,
  { timeout, retry },
  async () => {
    const playground = await openPlayground(firefox);
    const { page } = await playground.visit({ query: "?backend=webgpu", unready: true });
    const notice = page.locator(".notice.error");
    await notice.getByText("This browser has no WebGPU in workers.").waitFor();
    await notice.getByRole("button", { name: "Use WebAssembly" }).click();
    await page.locator(".model-where", { hasText: "WebAssembly" }).waitFor();
    await page.locator(".model-button").click();
    await page.getByText("Not here. This browser has no WebGPU in workers.").waitFor();
    expect(await page.getByText(/^Here: wasm relaxed-simd x\d+\./).count()).toBe(1);
    await playground.close();
  },
);
