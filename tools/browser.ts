// Headless browsers for tests of pages: the Chromium (or Chrome) and the Firefox in PATH, both led by playwright-core, which brings
// none of its own. For Firefox it speaks WebDriver BiDi, the browsers' common protocol, which 1.65 asks for more than Firefox 153 knows.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import {
  type Browser,
  type LaunchOptions,
  chromium as playwrightChromium,
  firefox as playwrightFirefox,
} from "playwright-core";
import { softwareGpu } from "./software-gpu.mjs";

export interface BrowserOptions {
  /** With WebGPU that computes on the CPU. */
  readonly gpu?: boolean;
  /** Where files that pages save go, by their names: Chromium tells of them itself. */
  readonly downloads?: string;
}

export interface TestBrowser {
  readonly name: "Chromium" | "Firefox";
  /** Where it is; undefined where there is none. */
  readonly path: string | undefined;
  /** For the name of tests that need it: why they are skipped. */
  readonly absence: string;
  /** Start it; close it in the end. @throws when there is none */
  open(options?: BrowserOptions): Promise<Browser>;
}

function find(
  name: TestBrowser["name"],
  programs: readonly string[],
  launch: (options: LaunchOptions, own: BrowserOptions) => Promise<Browser>,
): TestBrowser {
  const path = (process.env.PATH ?? "")
    .split(delimiter)
    .flatMap((folder) => programs.map((program) => join(folder, program)))
    .find((place) => existsSync(place));
  return {
    name,
    path,
    absence: path === undefined ? ` (skipped: no ${name} in PATH)` : "",
    open(options = {}) {
      if (path === undefined) throw new Error(`There is no ${name} in PATH.`);
      return launch({ executablePath: path }, options);
    },
  };
}

/** The variables of this process without the software GPU that our tests in Node are given. */
function withoutGpu(): Record<string, string> {
  const { VK_DRIVER_FILES: _, VK_ADD_DRIVER_FILES: __, ...env } = process.env;
  return env as Record<string, string>;
}

export const chromium: TestBrowser = find(
  "Chromium",
  ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
  (options, { gpu = false }) =>
    playwrightChromium.launch({
      ...options,
      env: withoutGpu(),
      args: [
        "--no-first-run",
        "--disable-background-networking",
        // Its sandbox does not start for root, and root is who runs in containers. The pages are our own.
        ...(process.getuid?.() === 0 ? ["--no-sandbox", "--disable-dev-shm-usage"] : []),
        // On SwiftShader, which it carries.
        ...(gpu ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] : []),
      ],
    }),
);

export const firefox: TestBrowser = find("Firefox", ["firefox", "firefox-esr"], (options, { gpu = false, downloads }) =>
  playwrightFirefox.launch({
    ...options,
    channel: "moz-firefox",
    ...(downloads === undefined ? {} : { downloadsPath: downloads }),
    // It carries no adapter of its own, and takes one that computes on the CPU only when it is told to.
    env: { ...withoutGpu(), ...(gpu ? softwareGpu().env : {}) },
    firefoxUserPrefs: gpu ? { "dom.webgpu.enabled": true, "gfx.webgpu.ignore-blocklist": true } : {},
  }),
);
