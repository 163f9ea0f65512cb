import { mkdirSync } from "node:fs";
import { ask, openPlayground } from "./playground.ts";
const out = process.argv[2]!; const only = process.argv.slice(3);
mkdirSync(out, { recursive: true });
const p = await openPlayground("/usr/bin/chromium");
try {
  for (const width of [360, 768, 1280]) for (const colorScheme of ["light", "dark"] as const) {
    if (only.length && !only.includes(`${width}-${colorScheme}`)) continue;
    const { page, context, faults } = await p.visit({ viewport: { width, height: width === 360 ? 740 : 860 }, colorScheme, deviceScaleFactor: 1, hasTouch: width === 360, isMobile: width === 360 });
    const shot = async (name: string) => { await page.waitForTimeout(250); await page.screenshot({ path: `${out}/${name}-${width}-${colorScheme}.png` }); };
    await page.waitForTimeout(300);
    await shot("1-empty");
    await ask(page, "Hi, how are you doing today?");
    await ask(page, "My name is Ada.");
    await ask(page, "Tell me a story about a fox.");
    await shot("2-conversation");
    await page.locator(".model-button").click();
    await page.waitForTimeout(700);
    await shot("3-model");
    await page.locator("dialog .dialog-body").evaluate((e) => { e.parentElement!.scrollTop = 9999; });
    await shot("3b-model-end");
    await page.keyboard.press("Escape");
    await page.getByLabel("Parameters").click();
    await shot("4-parameters");
    await page.keyboard.press("Escape");
    await page.getByLabel("Tokens and their probabilities").last().click();
    await page.locator(".alternatives").waitFor();
    await page.locator(".token").nth(4).click();
    await page.locator(".alternatives").scrollIntoViewIfNeeded();
    await shot("5-tokens");
    await page.getByLabel("What the model attends to").last().click();
    await page.locator(".head-map canvas").waitFor();
    await page.locator(".attention .token").nth(12).click();
    await shot("6-attention");
    await page.locator("dialog .dialog-body").evaluate((e) => { e.parentElement!.scrollTop = 9999; });
    await shot("6b-attention-end");
    await page.keyboard.press("Escape");
    if (width < 960) { await page.getByLabel("Conversations").first().click(); await shot("7-list"); }
    console.log(width, colorScheme, faults);
    await context.close();
  }
} finally { await p.close(); }
