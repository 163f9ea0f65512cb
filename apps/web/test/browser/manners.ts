// The playground's manners: where the focus goes, the way through long conversations, texts from the right.

import { expect, test } from "vitest";
import {
  ask,
  choose,
  eventually,
  faultless,
  type Playground,
  ready,
  type Visit,
  type VisitOptions,
} from "./playground.ts";

export function mannersTests(playground: () => Playground): void {
  const visit = (options: VisitOptions, work: (visit: Visit) => Promise<void>) =>
    faultless(playground(), options, work);

  test("keeps the focus where it is of use when what had it goes away", () =>
    visit({}, async ({ page }) => {
      const focused = async (what: string) => {
        await page.waitForFunction(
          (wanted) => {
            const { activeElement: own } = document;
            return [own?.id, own?.getAttribute("aria-label"), own?.textContent].includes(wanted);
          },
          what,
          { timeout: 10_000 },
        );
      };
      const press = async (name: string | RegExp) => {
        await page.getByRole("button", { name }).focus();
        await page.keyboard.press("Enter");
      };
      await press("What is 7 plus 8?");
      await focused("message");
      await page.locator(".answer .ways").waitFor();
      await press("Answer again");
      await page.getByText("The same answer again").waitFor();
      await focused("message");
      await press("Dismiss: The same answer again");
      await focused("message");
      await choose(page, "What is 7 plus 8?", "Rename");
      await focused("Name of the conversation");
      await page.keyboard.press("Escape");
      await focused("What is 7 plus 8?");
      await page.keyboard.press("F2");
      await focused("Name of the conversation");
      await page.keyboard.type("Sum");
      await page.keyboard.press("Enter");
      await focused("Sum");
      await choose(page, "Sum", "Delete");
      await focused("Delete: Sum");
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await focused("Sum");
      await press("New conversation");
      await ask(page, "Count from 10 to 17.");
      await choose(page, "Sum", "Delete");
      await page.keyboard.press("Enter");
      await focused("Count from 10 to 17.");
      await page.keyboard.press("Delete");
      await focused("Delete: Count from 10 to 17.");
      await page.keyboard.press("Enter");
      await focused("message");
      // A field that is emptied stays as it was.
      await page.getByRole("button", { name: "Parameters" }).click();
      const length = page.getByLabel("Longest answer, as a number");
      await length.fill("");
      await length.press("Tab");
      expect(await length.inputValue()).toBe("256");
    }));

  test("begins without what it needs only for answers, and shows them as they are written until that has come", () =>
    visit({ unready: true }, async ({ page }) => {
      let release = () => {};
      const held = new Promise<void>((done) => {
        release = done;
      });
      await page.route(/\/assets\/parse-[^/]+\.js$/, async (route) => {
        await held;
        await route.continue();
      });
      // Not until it is loaded: Firefox counts what is held to that.
      await page.reload({ waitUntil: "commit" });
      await ready(page);
      await page.locator('input[accept*="json"]').setInputFiles({
        name: "a.json",
        mimeType: "application/json",
        buffer: Buffer.from(
          JSON.stringify({
            format: "doge-session",
            version: 1,
            messages: [
              { role: "user", content: "Hi" },
              { role: "assistant", content: `${"# Higher than plain text\n".repeat(40)}**Hello**` },
            ],
            ids: [],
          }),
        ),
      });
      await page.getByText("**Hello**").waitFor();
      release();
      const strong = page.locator("strong", { hasText: "Hello" });
      await strong.waitFor();
      const lowest = () => strong.evaluate((node) => node.getBoundingClientRect().bottom - innerHeight);
      await eventually(async () => expect(await lowest()).toBeLessThan(0));
    }));

  test("leads back to the end of a long conversation, and keeps what is opened there to it", () =>
    visit({ viewport: { width: 390, height: 800 } }, async ({ page }) => {
      const bring = async (content: unknown) => {
        await page.getByRole("button", { name: "Conversations" }).click();
        await page.locator('input[accept*="json"]').setInputFiles({
          name: "a.json",
          mimeType: "application/json",
          buffer: Buffer.from(JSON.stringify(content)),
        });
        await page.getByRole("dialog").waitFor({ state: "detached" });
      };
      const turn = (at: number) => ({ role: at % 2 ? "assistant" : "user", content: `Turn ${at}. `.repeat(40) });
      await bring({
        format: "doge-session",
        version: 1,
        messages: Array.from({ length: 20 }, (_, at) => turn(at)),
        ids: [],
      });
      await page.getByText("Turn 19.").waitFor();
      const end = page.getByRole("button", { name: "To the end of the conversation" });
      const thread = page.getByRole("region", { name: "Conversation" });
      expect(await end.count()).toBe(0);
      const below = () => thread.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight);
      // Less room, as when a notice or a keyboard comes: the end stays in sight.
      await page.setViewportSize({ width: 390, height: 500 });
      await eventually(async () => expect(await below()).toBeLessThan(2));
      expect(await end.count()).toBe(0);
      // Also where a scroll of before is told of only now.
      await thread.evaluate((box) => {
        box.style.maxHeight = "200px";
        box.dispatchEvent(new Event("scroll"));
      });
      await eventually(async () => expect(await below()).toBeLessThan(2));
      expect(await end.count()).toBe(0);
      await thread.evaluate((box) => box.style.removeProperty("max-height"));
      await page.setViewportSize({ width: 390, height: 800 });
      await thread.evaluate((box) => box.scrollTo(0, 0));
      await end.click();
      await end.waitFor({ state: "detached" });
      expect(await below()).toBeLessThan(2);
      await page.getByRole("button", { name: "Edit this message" }).first().click();
      await page.getByLabel("Edit the message").waitFor();
      await page.getByRole("button", { name: "New conversation" }).click();
      await ask(page, "What is 7 plus 8?");
      expect(await page.getByLabel("Edit the message").count()).toBe(0);
      // What is wrong is said where it is seen: not behind the list.
      await bring({ format: "other" });
      await page.getByRole("alert").getByText("a.json was not imported").waitFor();
    }));

  test("writes from the side that a text is written from, keeps words whole, and copies code", () =>
    visit({ viewport: { width: 390, height: 800 } }, async ({ page }) => {
      const code = "if a < b:\n    print('a')";
      const messages = [
        { role: "user", content: "שלום!" },
        {
          role: "assistant",
          content: `# مرحبا\n\nهذا نص.\n\n- واحد\n\nEnglish.\n\n\`\`\`python\n${code}\n\`\`\`\n\n|${"long words|".repeat(8)}\n|${"-|".repeat(8)}`,
        },
      ];
      await page.getByRole("button", { name: "Conversations" }).click();
      await page.locator('input[accept*="json"]').setInputFiles({
        name: "a.json",
        mimeType: "application/json",
        buffer: Buffer.from(JSON.stringify({ format: "doge-session", version: 1, messages, ids: [] })),
      });
      const side = (selector: string) =>
        page
          .locator(selector)
          .first()
          .evaluate((element) => getComputedStyle(element).direction);
      expect(await side(".said")).toBe("rtl");
      expect(await side(".markdown h3")).toBe("rtl");
      expect(await side(".markdown ul")).toBe("rtl");
      expect(await side(".markdown p:nth-of-type(2)")).toBe("ltr");
      expect(await side(".markdown pre")).toBe("ltr");
      // A table that is too wide scrolls.
      expect(await page.locator(".markdown .scroll").evaluate((box) => box.scrollWidth > box.clientWidth)).toBe(true);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
      // Not every browser lets a test read what was copied.
      await page.evaluate(() => {
        navigator.clipboard.writeText = async (text) => {
          Object.assign(window, { copied: text });
        };
      });
      await page.getByRole("button", { name: "Copy the code" }).click();
      await page.locator("p[role=status]", { hasText: "Copied" }).waitFor();
      expect(await page.evaluate(() => (window as { copied?: unknown }).copied)).toBe(code);
      await page.evaluate(() => {
        navigator.clipboard.writeText = () => Promise.reject(new Error("Not allowed."));
      });
      await page.getByRole("button", { name: "Copy the answer" }).click();
      await page.locator("p[role=status]", { hasText: "The browser does not let this page copy" }).waitFor();
    }));
}
