// The playground with the eyes of axe, which knows the rules for screen readers, contrast and touch: in light and dark, wide and narrow.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { ask, faultless, type Playground } from "./playground.ts";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

export function accessibilityTests(playground: () => Playground): void {
  test.each(["light", "dark"] as const)("has nothing that axe objects to, in %s", (colorScheme) =>
    faultless(playground(), { colorScheme, reducedMotion: "reduce" }, async ({ page }) => {
      await check(page);
      await ask(page, "What is the capital of France?");
      await page.getByRole("button", { name: "Answer again" }).click();
      await page.getByText("2 / 2").waitFor();
      await page.getByRole("button", { name: /^More:/ }).click();
      await page.getByRole("menu").waitFor();
      await check(page);
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Tokens and their probabilities" }).click();
      await page.locator(".alternatives").waitFor();
      await page.locator(".question").hover();
      await check(page);
      await page.locator(".model-button").click();
      await page.getByText("Not by itself.").waitFor();
      await check(page);
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Parameters" }).click();
      await check(page);
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "What the model attends to" }).click();
      await page.getByRole("img").waitFor();
      await check(page);
      await page.keyboard.press("Escape");
      // The conversation takes the whole width where the list has gone into a dialog.
      await page.setViewportSize({ width: 768, height: 1024 });
      expect((await page.locator(".main").boundingBox())!.width).toBe(768);
      await page.setViewportSize({ width: 360, height: 700 });
      await check(page);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
      await page.getByRole("button", { name: "Conversations" }).click();
      await check(page);
      // Nothing moves for those who do not want it.
      expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
    }),
  );

  /** axe in the page; its policy allows no foreign script, the debugger's way does. */
  async function check(page: Page): Promise<void> {
    if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(await readFile(axe, "utf8"));
    const found = await page.evaluate(async () => {
      const { axe } = window as unknown as {
        axe: {
          run(
            options: object,
          ): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>;
        };
      };
      const { violations } = await axe.run({ resultTypes: ["violations"] });
      return violations.map(
        ({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`,
      );
    });
    expect(found).toEqual([]);
  }
}
