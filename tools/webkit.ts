// WebKitGTK for tests of pages: the engine of Safari, in the small browser that Debian's webkit2gtk-driver brings. It speaks the
// classic WebDriver protocol, plain requests over HTTP, and needs a display, for which Xvfb does.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";

const inPath = (program: string): boolean =>
  (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));

const browser = globSync("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")[0];
const { DISPLAY } = process.env;

/** For the name of tests that need it: why they are skipped. */
export const webkitAbsence =
  browser === undefined || !inPath("WebKitWebDriver")
    ? " (skipped: no WebKitGTK with its driver; webkit2gtk-driver is Debian's package)"
    : DISPLAY === undefined && !inPath("Xvfb")
      ? " (skipped: WebKitGTK has no display, nor Xvfb to make one)"
      : "";

/** Keys that are no characters. */
export const KEYS = { tab: "\uE004", enter: "\uE007", escape: "\uE00C" };

/** Milliseconds for a step on a busy machine, without those that asking takes; and between two looks. */
const PATIENCE = 20_000;
const STEP = 100;
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, STEP));

/** A browser with one page. */
export class WebKit {
  readonly #programs: readonly ChildProcess[];
  readonly #address: string;

  private constructor(programs: readonly ChildProcess[], address: string) {
    this.#programs = programs;
    this.#address = address;
  }

  /** `sharedMemory`: what Safari gives to pages that are isolated, and WebKitGTK only when it is told to. */
  static async open({ sharedMemory = false } = {}): Promise<WebKit> {
    const programs: ChildProcess[] = [];
    const start = (program: string, args: readonly string[], env = process.env): ChildProcess => {
      const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore"], env });
      programs.push(child);
      return child;
    };
    try {
      const display = DISPLAY ?? (await displayOf(start("Xvfb", ["-displayfd", "1", "-screen", "0", "1400x1000x24"])));
      const port = await freePort();
      start("WebKitWebDriver", [`--port=${port}`], {
        ...process.env,
        DISPLAY: display,
        JSC_useSharedArrayBuffer: String(sharedMemory),
      }).stdout!.resume();
      const driver = `http://127.0.0.1:${port}`;
      for (
        let tries = 0;
        !(await fetch(`${driver}/status`).then(
          ({ ok }) => ok,
          () => false,
        ));
        tries++
      ) {
        if (tries * STEP > PATIENCE) throw new Error("WebKitWebDriver does not start.");
        await pause();
      }
      const options = { binary: browser, args: ["--automation"] };
      const capabilities = { alwaysMatch: { "webkitgtk:browserOptions": options } };
      const { sessionId } = await ask<{ sessionId: string }>(`${driver}/session`, "POST", { capabilities });
      return new WebKit(programs, `${driver}/session/${sessionId}`);
    } catch (error) {
      for (const program of programs) program.kill();
      throw error;
    }
  }

  open(address: string): Promise<void> {
    return ask(`${this.#address}/url`, "POST", { url: address });
  }

  reload(): Promise<void> {
    return ask(`${this.#address}/refresh`, "POST", {});
  }

  /** What `work` returns in the page, which knows nothing of the variables around it. */
  async run<Result>(work: () => Result | Promise<Result>): Promise<Result> {
    const script = `const done = arguments[0]; Promise.resolve((${work})()).then((value) => done({ value }), (error) => done({ error: String(error) }))`;
    const { value, error } = await ask<{ value: Result; error?: string }>(`${this.#address}/execute/async`, "POST", {
      script,
      args: [],
    });
    if (error !== undefined) throw new Error(`In the page: ${error}`);
    return value;
  }

  /** Wait until `work` returns something in the page. @throws with the text of the page when it does not */
  async until<Result>(work: () => Result | Promise<Result>): Promise<Result> {
    for (let waited = 0; ; waited += STEP) {
      const result = await this.run(work);
      if (result) return result;
      if (waited > PATIENCE) throw new Error(`In vain: ${work}\n${await this.run(() => document.body.textContent)}`);
      await pause();
    }
  }

  /** Until the text of an element holds `text`. */
  async shows(selector: string, text: string): Promise<void> {
    for (let waited = 0; ; waited += STEP) {
      const found = await this.#texts(selector);
      if (found.some((one) => one.includes(text))) return;
      if (waited > PATIENCE) throw new Error(`No ${selector} shows ${JSON.stringify(text)}: ${JSON.stringify(found)}`);
      await pause();
    }
  }

  async #texts(selector: string): Promise<string[]> {
    const script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)";
    return ask(`${this.#address}/execute/sync`, "POST", { script, args: [selector] });
  }

  async click(selector: string): Promise<void> {
    await ask(`${this.#address}/element/${await this.#element(selector)}/click`, "POST", {});
  }

  /** Give files to an input. */
  async choose(selector: string, paths: readonly string[]): Promise<void> {
    await ask(`${this.#address}/element/${await this.#element(selector)}/value`, "POST", { text: paths.join("\n") });
  }

  async #element(selector: string): Promise<string> {
    const found = await ask<object>(`${this.#address}/element`, "POST", { using: "css selector", value: selector });
    return Object.values(found)[0];
  }

  /** Press and let go one key after the other, wherever the focus is. */
  async type(text: string): Promise<void> {
    const actions = Array.from(text).flatMap((value) => [
      { type: "keyDown", value },
      { type: "keyUp", value },
    ]);
    await ask(`${this.#address}/actions`, "POST", { actions: [{ type: "key", id: "keyboard", actions }] });
  }

  async close(): Promise<void> {
    await ask(this.#address, "DELETE").catch(() => {});
    for (const program of this.#programs) program.kill();
  }
}

/** One command of the protocol. @throws its error as a sentence */
async function ask<Result>(address: string, method: string, body?: object): Promise<Result> {
  const response = await fetch(address, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  const { value } = (await response.json()) as { value: Result & { error?: string; message?: string } };
  if (!response.ok) throw new Error(`WebKitWebDriver: ${value.error}: ${value.message}`);
  return value;
}

/** The number that Xvfb has chosen and writes. */
function displayOf({ stdout }: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    stdout!.once("data", (number) => resolve(`:${String(number).trim()}`));
    stdout!.once("end", () => reject(new Error("Xvfb does not start.")));
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
