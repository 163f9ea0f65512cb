// A headless browser led through its debugging pipe: pages from files, keys, what was asked of the network, pictures.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly request?: { readonly url: string }; readonly sessionId?: string };
  readonly sessionId?: string;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

export class Page {
  /** The addresses that the page and its workers asked for. */
  readonly requests: string[] = [];
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #session: string | undefined;
  #count = 0;

  private constructor(browser: string) {
    this.#profile = mkdtempSync(join(tmpdir(), "doge-browser-"));
    const own = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
    // Its sandbox does not start for root, and root is who runs in containers. The page is our own.
    if (process.getuid?.() === 0) own.push("--no-sandbox", "--disable-dev-shm-usage");
    this.#child = spawn(
      browser,
      [...own, "--remote-debugging-pipe", `--user-data-dir=${this.#profile}`, "about:blank"],
      {
        stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
      },
    );
    let text = "";
    (this.#child.stdio[4] as Readable).setEncoding("utf8").on("data", (part: string) => {
      const messages = (text + part).split("\0");
      text = messages.pop()!;
      for (const message of messages) this.#receive(JSON.parse(message) as Message);
    });
    (this.#child.stdio[3] as Writable).on("error", () => {}); // told by the exit
    this.#child.on("exit", (code) => {
      for (const answer of this.#waiting.values()) answer({ error: { message: `the browser ended with ${code}` } });
    });
  }

  /** An empty page; `before` runs in each that is opened, before its own scripts. */
  static async start(browser: string, before = ""): Promise<Page> {
    const page = new Page(browser);
    const { targetId } = await page.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await page.send("Target.attachToTarget", { targetId, flatten: true });
    page.#session = sessionId as string;
    await page.send("Network.enable");
    await page.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: true });
    await page.send("Page.enable");
    await page.send("Page.addScriptToEvaluateOnNewDocument", { source: before });
    return page;
  }

  async open(address: string): Promise<void> {
    await this.send("Page.navigate", { url: address });
  }

  #receive({ id, method, params, result, error, sessionId }: Message): void {
    if (id !== undefined) this.#waiting.get(id)?.({ ...(result && { result }), ...(error && { error }) });
    else if (method === "Network.requestWillBeSent") this.requests.push(params!.request!.url);
    else if (method === "Target.attachedToTarget" && sessionId === this.#session && sessionId !== undefined)
      this.#call("Network.enable", {}, params!.sessionId).catch(() => {}); // a worker
  }

  /** A command of the DevTools protocol. @throws what the browser answers it with */
  send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.#call(method, params, this.#session);
  }

  async #call(method: string, params: object, sessionId: string | undefined): Promise<Record<string, unknown>> {
    const id = ++this.#count;
    const answer = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    (this.#child.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const { result, error } = await answer;
    this.#waiting.delete(id);
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  }

  /** What an expression is in the page, awaited. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails !== undefined) throw new Error(`In the page: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: unknown }).value;
  }

  /** Wait until an expression holds. @throws after `patience` milliseconds, with the page's text */
  async until(expression: string, patience: number): Promise<void> {
    const end = Date.now() + patience;
    while (!(await this.evaluate(`Boolean(${expression})`))) {
      if (Date.now() > end) {
        throw new Error(`Not within ${patience} ms: ${expression}. ${await this.evaluate("document.body.innerText")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Write text where the focus is. */
  async type(text: string): Promise<void> {
    await this.send("Input.insertText", { text });
  }

  async press(key: "Enter" | "Escape"): Promise<void> {
    const code = { Enter: 13, Escape: 27 }[key];
    const event = { key, code: key, windowsVirtualKeyCode: code, ...(key === "Enter" ? { text: "\r" } : {}) };
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  async close(): Promise<void> {
    const gone = new Promise((done) => this.#child.on("close", done));
    if (this.#child.exitCode === null && this.#child.kill()) await gone;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
