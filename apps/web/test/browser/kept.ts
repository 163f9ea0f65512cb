// What is kept: the turns of every tab, every version of an answer, drafts, and what earlier versions of the page left.
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import {
  answerText,
  ask,
  choose,
  eventually,
  faultless,
  type Playground,
  ready,
  type Visit,
  type VisitOptions,
} from "./playground.ts";

const FRANCE = "The capital of France is Paris.";

/** What the turns in the database say. */
const kept = (page: Page): Promise<string[]> =>
  page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const opening = indexedDB.open("doge-playground");
        opening.onerror = () => reject(opening.error);
        opening.onsuccess = () => {
          const asked: IDBRequest<{ content: string }[]> = opening.result
            .transaction("turns")
            .objectStore("turns")
            .getAll();
          asked.onerror = () => reject(asked.error);
          asked.onsuccess = () => {
            opening.result.close();
            resolve(asked.result.map(({ content }) => content));
          };
        };
      }),
  );

export function keptTests(playground: () => Playground): void {
  const visit = (options: VisitOptions, work: (visit: Visit) => Promise<void>) =>
    faultless(playground(), options, work);
  const message = (page: Page) => page.getByLabel("Message", { exact: true });
  /** Another tab of the same person, in the same conversation. */
  const another = async ({ page, context }: Visit) => {
    const other = await context.newPage();
    await other.goto(page.url());
    await ready(other);
    await other.locator(".entry-title").click();
    return other;
  };

  test("shows every tab what another one says, and loses none of it", () =>
    visit({}, async (person) => {
      const { page } = person;
      await ask(page, "What is 7 plus 8?");
      const other = await another(person);
      await ask(other, "What is the capital of France?");
      await page.getByText(FRANCE).first().waitFor();
      await ask(page, "Count from 10 to 17.");
      await other.locator(".turn").nth(5).waitFor();
      await choose(other, "What is 7 plus 8?", "Delete");
      await other.getByRole("button", { name: /^Delete:/ }).click();
      await page.getByText("Talk to a small model.").waitFor();
      expect(await page.locator(".entry").count()).toBe(0);
      // Nothing of it lies in the database any more.
      await eventually(async () => expect(await kept(other)).toEqual([]));
    }));

  test("lets one tab at a time answer in a conversation; another one's question waits in its field", () =>
    visit({}, async (person) => {
      const { page } = person;
      await ask(page, "What is 7 plus 8?");
      const other = await another(person);
      const name = await other.evaluate(() => `doge-answer-${sessionStorage.getItem("doge-current")}`);
      // A tab that answers for as long as it is told to.
      await page.evaluate((lock) => {
        void navigator.locks.request(lock, () => new Promise((done) => Object.assign(window, { done })));
      }, name);
      await message(other).fill("What is the capital of France?");
      await message(other).press("Enter");
      const busy = other.locator(".thinking", { hasText: "Another tab is answering in this conversation." });
      await busy.waitFor();
      await other.getByText("What you wrote is kept.").waitFor();
      expect(await message(other).inputValue()).toBe("What is the capital of France?");
      expect(await other.getByRole("button", { name: "Answer again" }).isDisabled()).toBe(true);
      await page.evaluate(() => (window as unknown as { done(): void }).done());
      await busy.waitFor({ state: "detached" });
      await message(other).press("Enter");
      await page.getByText(FRANCE).first().waitFor();
    }));

  test("keeps the turns of two tabs that answer at once, as where there are no locks", () =>
    visit(
      { before: () => Object.defineProperty(navigator, "locks", { value: undefined, configurable: true }) },
      async (person) => {
        const { page } = person;
        await ask(page, "What is 7 plus 8?");
        const other = await another(person);
        await message(page).fill("What is the capital of France?");
        await message(other).fill("Which month comes after March?");
        await Promise.all([message(page).press("Enter"), message(other).press("Enter")]);
        // Answers that are still being written when the page goes are cut.
        await eventually(async () =>
          expect(await kept(page)).toEqual(
            expect.arrayContaining([expect.stringContaining(FRANCE), expect.stringContaining("April")]),
          ),
        );
        for (const one of [page, other]) {
          await one.reload();
          await ready(one);
          // One behind the other, or beside each other, or one's answer beside the other's question: all is there.
          const seen = async () => (await one.locator(".turns").textContent()) ?? "";
          let all = await seen();
          const ways = one.getByRole("button", { name: /^The (version before|next version)$/, disabled: false });
          if ((await ways.count()) > 0) {
            const first = all;
            await ways.first().click();
            await eventually(async () => expect(await seen()).not.toBe(first));
            all += await seen();
          }
          for (const words of [FRANCE, "What is the capital", "Which month", "April", "15"])
            expect(all).toContain(words);
        }
      },
    ));

  test("keeps every answer to a question and every wording of it, with the way to each", () =>
    visit({}, async ({ page }) => {
      await ask(page, "What is 7 plus 8?");
      await page.getByRole("button", { name: "Answer again" }).click();
      const versions = page.getByRole("group", { name: "Versions of this answer" });
      await versions.getByText("2 / 2").waitFor();
      const before = versions.getByRole("button", { name: "The version before" });
      await before.click();
      await versions.getByText("1 / 2").waitFor();
      await page.locator("p[role=status]", { hasText: "Version 1 of 2." }).waitFor();
      // At the end it keeps the focus, and does nothing.
      expect(await before.evaluate((button) => button === document.activeElement)).toBe(true);
      expect(await before.getAttribute("aria-disabled")).toBe("true");
      await page.keyboard.press("Enter");
      await versions.getByText("1 / 2").waitFor();

      await page.locator(".question").hover();
      await page.getByRole("button", { name: "Edit this message" }).click();
      await page.getByLabel("Edit the message").fill("What is the capital of France?");
      await page.getByRole("button", { name: "Ask again" }).click();
      await page.getByText(FRANCE).first().waitFor();
      expect(await page.evaluate(() => document.activeElement?.id)).toBe("message");
      const wordings = page.getByRole("group", { name: "Versions of this message" });
      await wordings.getByText("2 / 2").waitFor();
      expect(await versions.count()).toBe(0);
      await page.reload();
      await ready(page);
      await wordings.getByText("2 / 2").waitFor();
      expect(await answerText(page)).toBe(FRANCE);
      await wordings.getByRole("button", { name: "The version before" }).click();
      await page.getByText("What is 7 plus 8?").last().waitFor();
      await versions.getByText("2 / 2").waitFor();
      expect(await answerText(page)).toContain("15");
    }));

  test("keeps what was typed and not sent, for each conversation", () =>
    visit({}, async ({ page }) => {
      await message(page).fill("Half a");
      await page.reload();
      await ready(page);
      expect(await message(page).inputValue()).toBe("Half a");
      await ask(page, "What is 7 plus 8?");
      expect(await message(page).inputValue()).toBe("");
      await message(page).fill("And 8 plus 9?");
      await page.getByRole("button", { name: "New conversation" }).click();
      expect(await message(page).inputValue()).toBe("");
      await message(page).fill("Something new");
      await page.locator(".entry-title").click();
      expect(await message(page).inputValue()).toBe("And 8 plus 9?");
      await page.reload();
      await ready(page);
      expect(await message(page).inputValue()).toBe("And 8 plus 9?");
      await page.getByRole("button", { name: "New conversation" }).click();
      expect(await message(page).inputValue()).toBe("Something new");
      await page.locator(".entry-title").click();
      await page.keyboard.press("Enter");
      await page.locator(".turn.answer").nth(1).locator(".ways").waitFor();
      expect(await message(page).inputValue()).toBe("");
      await page.reload();
      await ready(page);
      expect(await message(page).inputValue()).toBe("");
      // A message that is being said differently is a draft, too.
      await page.locator(".question").first().hover();
      await page.getByRole("button", { name: "Edit this message" }).first().click();
      await page.getByLabel("Edit the message").fill("What is 7 plus");
      await page.reload();
      await ready(page);
      await page.locator(".question").first().hover();
      await page.getByRole("button", { name: "Edit this message" }).first().click();
      expect(await page.getByLabel("Edit the message").inputValue()).toBe("What is 7 plus");
    }));

  test("opens conversations that were kept before answers had versions", () =>
    visit(
      {
        unready: true,
        // As the first version of the page has kept it; once, ahead of its own programs.
        before: () => {
          if (location.protocol !== "http:") return; // the empty page before it
          const opening = indexedDB.open("doge-playground", 1);
          opening.onupgradeneeded = () => {
            opening.result.createObjectStore("conversations", { keyPath: "id" }).put({
              id: "old",
              title: "An old one",
              named: true,
              created: 1,
              updated: 2,
              system: "Be brief.",
              turns: [
                { role: "user", content: "What is the capital of France?" },
                { role: "assistant", content: "The capital of France is Paris.", facts: undefined },
              ],
            });
          };
          opening.onsuccess = () => opening.result.close();
        },
      },
      async ({ page }) => {
        await ready(page);
        await page.getByRole("button", { name: "An old one", exact: true }).click();
        expect(await answerText(page)).toBe(FRANCE);
        expect(await page.locator(".system").textContent()).toContain("Be brief.");
        await page.getByRole("button", { name: "Answer again" }).click();
        await page.getByText("2 / 2").waitFor();
        await page.reload();
        await ready(page);
        await page.getByText("2 / 2").waitFor();
      },
    ));
}
