// The list of conversations by keyboard: one stop for Tab, arrow keys inside, and a menu for what can be done with each.
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { ask, faultless, type Playground, ready } from "./playground.ts";

const focused = (page: Page) =>
  page.evaluate(() => {
    const { activeElement: own } = document;
    return (own?.getAttribute("aria-label") ?? own?.textContent)?.trim();
  });

export function listTests(playground: () => Playground): void {
  test("the list of conversations is one stop for Tab, and arrow keys move in it", () =>
    faultless(playground(), {}, async ({ page }) => {
      const questions = ["What is 7 plus 8?", "Count from 10 to 17.", "Which month comes after March?"];
      for (const question of questions) {
        await ask(page, question);
        await page.getByRole("button", { name: "New conversation" }).click();
      }
      // The newest stands first; none of them is in sight, so Tab comes to the first.
      const [last, middle, first] = questions;
      await page.getByRole("button", { name: "New conversation" }).focus();
      await page.keyboard.press("Tab");
      expect(await focused(page)).toBe(first);
      await page.keyboard.press("ArrowDown");
      expect(await focused(page)).toBe(middle);
      await page.keyboard.press("ArrowRight");
      expect(await focused(page)).toBe(`More: ${middle}`);
      await page.keyboard.press("ArrowDown");
      expect(await focused(page)).toBe(`More: ${last}`);
      await page.keyboard.press("ArrowDown");
      expect(await focused(page)).toBe(`More: ${last}`);
      await page.keyboard.press("Home");
      expect(await focused(page)).toBe(last);
      await page.keyboard.press("Control+Home");
      expect(await focused(page)).toBe(first);
      await page.keyboard.press("Control+End");
      expect(await focused(page)).toBe(last);
      // Tab leaves it, and comes back to where it was.
      await page.keyboard.press("Tab");
      expect(await focused(page)).toBe("Import");
      await page.keyboard.press("Shift+Tab");
      expect(await focused(page)).toBe(last);
      await page.keyboard.press("Enter");
      await page.getByRole("heading", { name: last! }).waitFor({ state: "attached" });
      expect(await page.getByRole("button", { name: last!, exact: true }).getAttribute("aria-current")).toBe("true");
      // It is a grid for screen readers, too.
      const grid = page.getByRole("grid", { name: "Conversations" });
      expect(await grid.getByRole("row").count()).toBe(3);
      expect(await grid.getByRole("gridcell").count()).toBe(6);
    }));

  test("the menu of a conversation goes by arrow keys and letters, and gives the focus back", () =>
    faultless(playground(), {}, async ({ page }) => {
      await ask(page, "What is 7 plus 8?");
      await page.getByRole("button", { name: "More: What is 7 plus 8?" }).focus();
      await page.keyboard.press("Enter");
      expect(await focused(page)).toBe("Rename");
      await page.keyboard.press("ArrowUp");
      expect(await focused(page)).toBe("Delete");
      await page.keyboard.press("ArrowDown");
      expect(await focused(page)).toBe("Rename");
      await page.keyboard.press("e");
      expect(await focused(page)).toBe("Export");
      await page.keyboard.press("Escape");
      expect(await page.getByRole("menu").count()).toBe(0);
      expect(await focused(page)).toBe("More: What is 7 plus 8?");
      await page.keyboard.press("Space");
      await page.getByRole("menu").waitFor();
      // Elsewhere: it closes, and what was meant happens.
      await page.getByRole("button", { name: "Dark", exact: true }).click();
      expect(await page.getByRole("menu").count()).toBe(0);
      expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe("dark");
    }));
}

/** Where a test can touch: Firefox is led by a protocol that only clicks. */
export function touchTests(playground: () => Playground): void {
  test("by touch, on a phone, the menu is in sight and inside the window", () =>
    faultless(playground(), { viewport: { width: 390, height: 700 }, hasTouch: true }, async ({ page }) => {
      await ask(page, "What is 7 plus 8?");
      await page.reload();
      await ready(page);
      await page.getByRole("button", { name: "Conversations" }).tap();
      await page.getByRole("button", { name: "More: What is 7 plus 8?" }).tap();
      const menu = (await page.getByRole("menu").boundingBox())!;
      expect(menu.x).toBeGreaterThanOrEqual(0);
      expect(menu.x + menu.width).toBeLessThanOrEqual(390);
      for (const item of await page.getByRole("menuitem").all())
        expect((await item.boundingBox())!.height).toBeGreaterThanOrEqual(44);
      // Escape closes the menu alone.
      await page.keyboard.press("Escape");
      expect([await page.getByRole("menu").count(), await page.getByRole("dialog").count()]).toEqual([0, 1]);
      await page.getByRole("button", { name: "More: What is 7 plus 8?" }).tap();
      await page.getByRole("menuitem", { name: "Delete" }).tap();
      await page.getByRole("button", { name: "Delete: What is 7 plus 8?" }).tap();
      await page.getByText("What you talk about is kept here").waitFor();
    }));
}
