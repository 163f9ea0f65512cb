// A headless browser for tests of pages: the Chromium or Chrome in PATH, led by playwright-core, which brings none of its own.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Where the browser is; undefined where there is none. */
export const browserPath: string | undefined = (process.env.PATH ?? "")
  .split(delimiter)
  .flatMap((folder) => NAMES.map((name) => join(folder, name)))
  .find((path) => existsSync(path));

/** For the name of tests that need a browser: why they are skipped. */
export const absence = browserPath === undefined ? " (skipped: no Chromium in PATH)" : "";

/** Start it, with further switches if need be; close it in the end. @throws when there is none */
export function openBrowser(switches: readonly string[] = []): Promise<Browser> {
  if (browserPath === undefined) throw new Error("There is no Chromium in PATH.");
  // Its sandbox does not start for root, and root is who runs in containers. The pages are our own.
  const own = process.getuid?.() === 0 ? ["--no-sandbox", "--disable-dev-shm-usage"] : [];
  // The software GPU that our tests in Node are given is not for the browser, which brings its own.
  const { VK_DRIVER_FILES: _, VK_ADD_DRIVER_FILES: __, ...env } = process.env;
  return chromium.launch({
    executablePath: browserPath,
    env: env as Record<string, string>,
    args: ["--no-first-run", "--disable-background-networking", ...own, ...switches],
  });
}
