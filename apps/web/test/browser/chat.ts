// The playground as a person uses it, on WebAssembly in a real browser: by pointer and by keyboard alone.

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { demoFiles } from "./hub.ts";
import {
  answerText,
  ask,
  choose,
  faultless,
  type Playground,
  ready,
  type Visit,
  type VisitOptions,
  write,
} from "./playground.ts";

const FRANCE = "The capital of France is Paris.";

export function chatTests(playground: () => Playground): void {
  const visit = (options: VisitOptions, work: (visit: Visit) => Promise<void>) =>
    faultless(playground(), options, work);

  test("answers on several threads, and says where", () =>
    visit({ query: "?threads=2" }, async ({ page }) => {
      expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
      expect(await page.locator(".model-button").textContent()).toContain("WebAssembly × 2");
      expect(await page.locator(".answer .facts").textContent()).toMatch(/^8 tokens · \d+ tokens\/s · first after/);
      await page.locator(".model-button").click();
      const dialog = page.getByRole("dialog");
      // What was not chosen, and why; what was.
      await dialog.getByText(/^Not (by itself|here)\. .*(WebGPU|adapter)/).waitFor();
      await dialog.getByText("Here: wasm").waitFor();
      expect(await dialog.getByText("WebAssembly. It is the only one that can run here.").count()).toBe(1);
      expect(await dialog.locator("dd").allInnerTexts()).toContainEqual(expect.stringMatching(/^6\.7 MB as f32$/));
    }));

  test("answers on one thread with the same words", () =>
    visit({ query: "?threads=1&backend=wasm" }, async ({ page }) => {
      expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
      expect(await page.locator(".model-where").textContent()).toBe("WebAssembly");
    }));

  test("answers examples, again, and to what is said otherwise; remembers it all after a reload", () =>
    visit({}, async ({ page }) => {
      await page.getByRole("button", { name: "What is 7 plus 8?" }).click();
      await page.locator(".answer .ways").waitFor();
      expect(await answerText(page)).toContain("15");
      await page.getByRole("button", { name: "Answer again" }).click();
      await page.getByText("The same answer again").waitFor();
      expect(await page.locator(".turn").count()).toBe(2);

      await page.getByRole("button", { name: "Edit this message" }).click();
      await page.getByLabel("Edit the message").fill("What is the capital of France?");
      await page.getByRole("button", { name: "Ask again" }).click();
      await page.getByText(FRANCE).first().waitFor();
      expect(await page.locator(".turn").count()).toBe(2);

      await page.reload();
      await ready(page);
      // It goes on from where it was.
      await page.locator(".answer .ways").waitFor();
      expect(await answerText(page)).toBe(FRANCE);
      await ask(page, "What is 7 plus 8?");
      expect(await page.locator(".turn").count()).toBe(4);
    }));

  test("keeps, renames, exports, imports and deletes conversations", () =>
    visit({}, async ({ page }) => {
      await ask(page, "What is the capital of France?");
      const list = page.getByRole("navigation");
      await choose(page, "What is the capital of France?", "Rename");
      await page.getByLabel("Name of the conversation").fill("Geography");
      await page.keyboard.press("Enter");
      await list.getByRole("button", { name: "Geography", exact: true }).waitFor();
      const [name, path] = await playground().saved(page, () => choose(page, "Geography", "Export"));
      expect(name).toBe("geography.doge.json");
      const saved = JSON.parse(await readFile(path, "utf8"));
      expect(saved).toMatchObject({ format: "doge-session", version: 1 });
      expect(saved.messages.at(-1)).toEqual({ role: "assistant", content: FRANCE });
      await choose(page, "Geography", "Delete");
      await list.getByRole("button", { name: "Delete: Geography" }).click();
      expect(await list.locator(".entry").count()).toBe(0);
      await page.locator('input[accept*="json"]').setInputFiles(path);
      await page.getByText(FRANCE).first().waitFor();
      expect(await list.locator(".entry").count()).toBe(1);
      await page
        .locator('input[accept*="json"]')
        .setInputFiles({ name: "x.json", mimeType: "application/json", buffer: Buffer.from("{}") });
      await page.getByRole("alert").getByText("x.json was not imported: it is no saved session").waitFor();
    }));

  test("takes a system message and parameters", () =>
    visit({}, async ({ page }) => {
      await page.getByRole("button", { name: "Parameters" }).click();
      await page.getByLabel("System message of this conversation").fill("Be brief.");
      await write(page.getByLabel("Temperature, as a number"), "1");
      await page.getByLabel("Seed").fill("7");
      await write(page.getByLabel("Longest answer, as a number"), "3");
      await page.keyboard.press("Escape");
      await ask(page, "Tell me a story about a fox.");
      expect(await page.locator(".system").textContent()).toContain("Be brief.");
      expect(await page.locator(".answer .facts").textContent()).toContain("3 tokens");
      expect(await page.locator(".answer .facts").textContent()).toContain("cut at its greatest length");
      const first = await answerText(page);
      await page.getByRole("button", { name: "Answer again" }).click();
      await page.locator(".answer .ways").waitFor();
      expect(await answerText(page)).toBe(first); // by the seed
    }));

  test("loads a folder of this machine, streams, stops, and never stalls meanwhile", () =>
    visit({ query: "?threads=1" }, async ({ page }) => {
      // The demo model, made to talk on: answers end by themselves too soon to be stopped.
      const talkative = new TextEncoder().encode(JSON.stringify({ eos_token_id: 1, min_new_tokens: 2000 }));
      const files = await demoFiles({ "generation_config.json": talkative });
      await page.getByRole("button", { name: "Parameters" }).click();
      await write(page.getByLabel("Longest answer, as a number"), "2048");
      await page.keyboard.press("Escape");
      await page.locator(".model-button").click();
      await page.locator("#local-files").setInputFiles(
        Object.entries(files).map(([name, content]) => ({
          name,
          mimeType: "application/octet-stream",
          buffer: Buffer.from(content),
        })),
      );
      await page.getByRole("dialog").waitFor({ state: "detached" });
      expect(await page.locator(".model-name").textContent()).toBe("Local files");

      // Every drawn frame, and every change of the answer, in the order they happen.
      await page.evaluate(() => {
        const log: string[] = [];
        Object.assign(window, { log });
        const frame = () => {
          log.push("frame");
          requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
        let stopped = false;
        new MutationObserver(() => {
          log.push("change");
          // Faster than a test can look: Escape, as soon as there are twenty tokens.
          const tokens = Number.parseInt(document.querySelector(".answer[aria-busy] .facts")?.textContent ?? "", 10);
          if (tokens < 20 || Number.isNaN(tokens) || stopped) return;
          stopped = true;
          document.activeElement!.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
        }).observe(document.querySelector(".thread")!, {
          subtree: true,
          childList: true,
          characterData: true,
        });
      });
      await page.getByLabel("Message", { exact: true }).fill("Tell me a story about a fox.");
      await page.keyboard.press("Enter");
      await page.locator(".answer .ways").waitFor();
      expect(await page.locator(".answer .facts").textContent()).toContain("stopped");
      expect((await answerText(page)).length).toBeGreaterThan(20);
      const log = await page.evaluate(() => (window as unknown as { log: string[] }).log);
      // The engine computes elsewhere: frames go on, and no two changes of the answer fall between the same two frames.
      const between = log
        .join(" ")
        .split("frame")
        .map((part) => part.split("change").length - 1);
      expect(log.filter((what) => what === "frame").length).toBeGreaterThan(3);
      // Its beginning, its end and what the pointer does may come beside one.
      expect(between.filter((count) => count > 1).length).toBeLessThanOrEqual(3);
      expect(page.workers().length).toBeGreaterThan(0);
      // Where it is not stopped, its end is told for what it is: the parameters alone would have let it go on.
      await page.getByRole("button", { name: "Answer again" }).click();
      await page.locator(".answer .facts", { hasText: "cut because the model's 512 tokens are full" }).waitFor();
      // And it is still good for an answer.
      await page.getByRole("button", { name: "Answer again" }).click();
      await page.keyboard.press("Escape");
      await page.locator(".answer .ways").waitFor();
    }));

  test("refuses files that are no model, with the way out, and takes a folder that is dropped", () =>
    visit({}, async ({ page }) => {
      await page.locator(".model-button").click();
      await page.locator("#local-files").setInputFiles({ name: "a.gguf", mimeType: "", buffer: Buffer.from("GGUF") });
      await page.getByRole("alert").getByText("There is no config.json among these files").waitFor();
      await page.locator("#local-files").setInputFiles([
        { name: "config.json", mimeType: "", buffer: Buffer.from('{"model_type":"llama"}') },
        { name: "model.safetensors", mimeType: "", buffer: Buffer.from("x") },
      ]);
      await page.locator(".notice.error").waitFor();
      await page.keyboard.press("Escape");
      const files = await demoFiles();
      const items = Object.entries(files).map(([name, content]) => [name, Buffer.from(content).toString("base64")]);
      const transfer = await page.evaluateHandle((all) => {
        const data = new DataTransfer();
        for (const [name, content] of all)
          data.items.add(new File([Uint8Array.from(atob(content!), (c) => c.charCodeAt(0))], name!));
        return data;
      }, items);
      await page.locator(".shell").dispatchEvent("dragover", { dataTransfer: transfer });
      await page.getByText("Drop a model's folder or files").waitFor();
      await page.locator(".shell").dispatchEvent("drop", { dataTransfer: transfer });
      await page.locator(".model-name", { hasText: "Local files" }).waitFor();
      await ready(page);
      expect(await ask(page, "What is the capital of France?")).toBe(FRANCE);
    }));

  test("is used by keyboard alone", () =>
    visit({}, async ({ page }) => {
      const focused = () =>
        page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent);
      // The message field has it at first; the page begins with the way there.
      expect(await page.evaluate(() => document.activeElement?.id)).toBe("message");
      for (let steps = 0; (await focused()) !== "To the message field"; steps++) {
        expect(steps).toBeLessThan(30);
        await page.keyboard.press("Shift+Tab");
      }
      await page.keyboard.press("Enter");
      expect(await page.evaluate(() => document.activeElement?.id)).toBe("message");
      await page.keyboard.type("What is the capital of France?");
      await page.keyboard.press("Enter");
      await page.locator(".answer .ways").waitFor();
      expect(await page.evaluate(() => document.activeElement?.id)).toBe("message");
      // Back to the answer's buttons, and into its tokens.
      for (let steps = 0; (await focused()) !== "Tokens and their probabilities"; steps++) {
        expect(steps).toBeLessThan(10);
        await page.keyboard.press("Shift+Tab");
      }
      await page.keyboard.press("Space");
      await page.locator(".alternatives").waitFor();
      for (let steps = 0; !/^“The”/.test((await focused()) ?? ""); steps++) {
        expect(steps).toBeLessThan(5);
        await page.keyboard.press("Tab");
      }
      await page.keyboard.press("End");
      await page.keyboard.press("ArrowLeft");
      expect(await focused()).toMatch(/^“\.”, /);
      await page.getByText("Token 7 of 8").waitFor();
      // A dialog keeps the focus inside, closes on Escape and gives it back.
      for (let steps = 0; (await focused()) !== "Parameters"; steps++) {
        expect(steps).toBeLessThan(20);
        await page.keyboard.press("Shift+Tab");
      }
      await page.keyboard.press("Enter");
      await page.getByRole("dialog").waitFor();
      for (let steps = 0; steps < 30; steps++) {
        await page.keyboard.press("Tab");
        expect(
          await page.evaluate(
            () =>
              document.activeElement === document.body ||
              document.querySelector("dialog")!.contains(document.activeElement),
          ),
        ).toBe(true);
      }
      await page.keyboard.press("Escape");
      await page.getByRole("dialog").waitFor({ state: "detached" });
      expect(await focused()).toBe("Parameters");
    }));

  test("shows the tokens of an answer with their rivals, and what the model attends to", () =>
    visit({}, async ({ page }) => {
      await ask(page, "What is the capital of France?");
      await page.getByRole("button", { name: "Tokens and their probabilities" }).click();
      await page.locator(".alternatives").waitFor();
      expect((await page.locator(".token-view .token").allInnerTexts()).join("").replaceAll("·", " ")).toBe(
        `${FRANCE}<|end_of_text|>`,
      );
      // However much there is, the window never scrolls as a whole: what is said stays at the top, the message field below.
      const before = page.viewportSize()!;
      await page.setViewportSize({ width: 360, height: 500 });
      expect(await page.evaluate(() => document.documentElement.scrollHeight)).toBe(500);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
      await page.setViewportSize(before);
      await page.locator(".token-view .token").nth(5).hover();
      const shares = await page.locator(".alternatives .number").allInnerTexts();
      expect(shares.length).toBe(8);
      expect(await page.locator(".alternatives .taken code").textContent()).toBe("·Paris");

      await page.getByRole("button", { name: "What the model attends to" }).click();
      const dialog = page.getByRole("dialog");
      const picture = dialog.getByRole("img");
      await picture.waitFor();
      expect(await picture.getAttribute("aria-label")).toMatch(
        /^Biases of 12 heads over \d+ tokens\. “.+”, token \d+, is the strongest in \d+ of them\. No key is dropped\.$/,
      );
      // Drawn, and not in one colour.
      await page.waitForFunction(() => {
        const canvas = document.querySelector<HTMLCanvasElement>("dialog canvas")!;
        if (canvas.width === 0 || canvas.height === 0) return false;
        const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
        const found = new Set<number>();
        for (let at = 0; at < data.length; at += 4) found.add((data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!);
        return found.size > 10;
      });
      await dialog.getByRole("combobox", { name: "Layer" }).selectOption("2");
      await dialog.getByRole("combobox", { name: "Head" }).selectOption("3");
      await dialog
        .getByText(/has the bias \d\.\d+ in layer 2, head 3: number \d+ from the top\. It is kept\./)
        .waitFor();
      const { width, height } = (await picture.boundingBox())!;
      await picture.click({ position: { x: width - 4, y: height - 4 } });
      await dialog.getByText(/“<\|end_of_text\|>”, token \d+ of \d+, has the bias .* in layer 4, head 3/).waitFor();
    }));

  test("shows which keys are dropped once there are more than a head keeps", () =>
    visit({}, async ({ page }) => {
      await page.getByRole("button", { name: "Parameters" }).click();
      await page
        .getByLabel("System message of this conversation")
        .fill("The fox lost a red ball in a deep forest. ".repeat(26));
      await page.keyboard.press("Escape");
      await ask(page, "What is 7 plus 8?");
      await page.getByRole("button", { name: "What the model attends to" }).click();
      const dialog = page.getByRole("dialog");
      const picture = dialog.getByRole("img");
      await picture.waitFor();
      const [, tokens, dropped] = /over (\d+) tokens.* (\d+) keys are dropped/.exec(
        (await picture.getAttribute("aria-label")) ?? "",
      )!;
      // Of what comes behind the 256th key each of the twelve heads drops one for one.
      expect(Number(dropped)).toBe(12 * (Number(tokens) - 256));
      expect(await dialog.locator(".token.dropped").count()).toBe(Number(tokens) - 256);
      await dialog.locator(".token.dropped").first().click();
      await dialog.getByText(/It was dropped when token \d+ came\./).waitFor();
      // Earlier in the text nothing was dropped yet, and what follows was still to come.
      await dialog.getByRole("slider").fill("255");
      expect(await dialog.locator(".token.dropped").count()).toBe(0);
      expect(await dialog.locator(".token.coming").count()).toBe(Number(tokens) - 256);
    }));

  test("never makes a program of what a model writes", () =>
    visit({}, async ({ page }) => {
      const content = [
        "<script>window.pwned = 1</script>",
        '<img src="x" onerror="window.pwned = 1">',
        '![p](https://evil.example/pixel.png) [a](javascript:window.pwned=1) <a href="javascript:window.pwned=1">b</a>',
        "<iframe src=https://evil.example></iframe><style>body{display:none}</style>",
        '<form action="https://evil.example"><input name=a></form><svg onload="window.pwned=1"></svg>',
        "```html\n</code></pre><script>window.pwned = 1</script>\n```",
      ].join("\n\n");
      const session = {
        format: "doge-session",
        version: 1,
        messages: [
          { role: "user", content },
          { role: "assistant", content },
        ],
        ids: [],
      };
      const asked: string[] = [];
      page.on("request", (request) => asked.push(request.url()));
      await page.locator('input[accept*="json"]').setInputFiles({
        name: "evil.json",
        mimeType: "application/json",
        buffer: Buffer.from(JSON.stringify(session)),
      });
      await page.locator(".answer .markdown pre").waitFor();
      expect(await page.evaluate(() => (window as { pwned?: unknown }).pwned)).toBeUndefined();
      expect(await page.locator(".turns :is(script, img, iframe, style, form, input, svg:not(.icon))").count()).toBe(0);
      expect(await page.locator(".turns a").evaluateAll((all) => all.map((link) => link.getAttribute("href")))).toEqual(
        ["https://evil.example/pixel.png"],
      );
      expect(asked.filter((url) => url.includes("evil"))).toEqual([]);
    }));
}
