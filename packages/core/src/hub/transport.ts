// One request to a hub, and trying again: redirects by hand so that a token never leaves its host, a deadline on silence,
// back-off with jitter, and a typed error for everything that can come back.
import { aborted, DogeError, type ErrorCode } from "../errors.ts";
import { checkSecure, pause, retryAfter, rootCause, Watch } from "./connection.ts";

export interface TransportOptions {
  readonly endpoint: string;
  readonly token?: string | undefined;
  /** Whether redirects can be looked at before they are followed; not so in browsers, which drop the token themselves. */
  readonly redirects?: "manual" | "follow" | undefined;
  // The rest is for tests.
  readonly fetch?: typeof globalThis.fetch | undefined;
  readonly sleep?: ((ms: number, signal?: AbortSignal) => Promise<void>) | undefined;
  readonly random?: (() => number) | undefined;
  readonly now?: (() => number) | undefined;
  /** Silence after which a connection is given up, in ms; default 30 s. */
  readonly stallMs?: number | undefined;
}

/** Tries that bring nothing, in a row, before giving up. */
const TRIES = 5;
const FIRST_DELAY = 300;
const LONGEST_DELAY = 8_000;
/** A server that asks for a longer pause gets an error that says so. */
const LONGEST_WAIT = 60_000;
const MOST_REDIRECTS = 10;
const STALL = 30_000;

/** Something that may go better the next time. */
export class Transient extends Error {
  readonly error: DogeError;
  /** Pause that the server asked for, in ms. */
  readonly wait: number | null;
  constructor(error: DogeError, wait: number | null = null) {
    super(error.message);
    this.error = error;
    this.wait = wait;
  }
}

export interface Answer {
  readonly response: Response;
  /** Header of the first redirect that has it, or of this response: the hub's word counts before another host's. */
  header(name: string): string | null;
  /** Whether the response comes from another host than the endpoint's. */
  readonly foreign: boolean;
  /** Chunks of the body; silence and broken connections are Transient. Afterwards the connection is closed. */
  body(): AsyncGenerator<Uint8Array>;
  /** The body is not wanted. */
  drop(): Promise<void>;
}

export interface Request {
  readonly method: "GET" | "HEAD";
  /** Below the endpoint, beginning with a slash. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** What is asked for, for messages: "config.json of owner/name". */
  readonly what: string;
  readonly signal?: AbortSignal | undefined;
  /** Stop at a redirect to another host whose own headers satisfy this. */
  readonly enough?: ((headers: Headers) => boolean) | undefined;
}

export class Transport {
  readonly endpoint: URL;
  readonly options: TransportOptions;

  /** @throws DogeError "invalid-argument", "insecure-url". */
  constructor(options: TransportOptions) {
    this.options = options;
    try {
      this.endpoint = new URL(options.endpoint);
    } catch (cause) {
      throw new DogeError("invalid-argument", `The endpoint ${JSON.stringify(options.endpoint)} is not a URL.`, {
        cause,
      });
    }
    if (this.endpoint.username !== "" || this.endpoint.search !== "" || this.endpoint.hash !== "") {
      throw new DogeError(
        "invalid-argument",
        `The endpoint ${this.endpoint.origin}${this.endpoint.pathname} must be a URL without a user, a query and a fragment.`,
      );
    }
    checkSecure(this.endpoint, this.endpoint);
  }

  /** Call `work` until it succeeds. Only what is Transient is tried again, and the tries start over when `progressed()`. */
  async persist<T>(
    signal: AbortSignal | undefined,
    work: () => Promise<T>,
    progressed: () => boolean = () => false,
  ): Promise<T> {
    const { sleep = pause, random = Math.random } = this.options;
    for (let failures = 1; ; failures++) {
      try {
        return await work();
      } catch (error) {
        if (signal?.aborted) throw downloadAborted(signal);
        if (!(error instanceof Transient)) throw error;
        if (progressed()) failures = 1;
        if (failures >= TRIES) throw error.error;
        if (error.wait !== null && error.wait > LONGEST_WAIT) throw error.error;
        const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** (failures - 1)) * (0.5 + random() / 2);
        await sleep(Math.max(delay, error.wait ?? 0), signal).catch(() => undefined);
        if (signal?.aborted) throw downloadAborted(signal);
      }
    }
  }

  /** Ask once. Answers with 200, 206 and 416 come back, and redirects that are `enough`; all others throw. */
  async ask(request: Request): Promise<Answer> {
    const { fetch = globalThis.fetch, redirects = "manual", stallMs = STALL } = this.options;
    const watch = new Watch(stallMs, request.signal);
    const passed: Headers[] = [];
    let url = new URL(this.endpoint.href.replace(/\/+$/, "") + request.path);
    try {
      for (let hops = 0; ; hops++) {
        const home = url.origin === this.endpoint.origin;
        const headers: Record<string, string> = { "accept-encoding": "identity", ...request.headers };
        if (home && this.options.token) headers.authorization = `Bearer ${this.options.token}`;
        watch.alive();
        const response = await fetch(url, {
          method: request.method,
          headers,
          redirect: redirects,
          signal: watch.signal,
          cache: "no-store",
        });
        watch.alive();
        const location = response.headers.get("location");
        if (response.status >= 300 && response.status < 400 && location !== null) {
          passed.push(response.headers);
          await response.body?.cancel();
          const next = this.#next(url, location, request.what);
          if (next.origin !== this.endpoint.origin && request.enough?.(response.headers)) {
            return this.#answer(request, response, passed, home, watch);
          }
          if (hops >= MOST_REDIRECTS) {
            throw new DogeError("hub-response", `${request.what} was redirected more than ${MOST_REDIRECTS} times.`);
          }
          url = next;
          continue;
        }
        if (![200, 206, 416].includes(response.status)) await this.#refuse(response, request, home ? null : url.host);
        const foreign =
          !home || (redirects === "follow" && new URL(response.url || url).origin !== this.endpoint.origin);
        return this.#answer(request, response, passed, !foreign, watch);
      }
    } catch (error) {
      watch.end();
      throw this.#failure(error, request, watch);
    }
  }

  #answer(request: Request, response: Response, passed: readonly Headers[], home: boolean, watch: Watch): Answer {
    const failure = (error: unknown) => this.#failure(error, request, watch);
    return {
      response,
      foreign: !home,
      header: (name) => [...passed, response.headers].find((headers) => headers.has(name))?.get(name) ?? null,
      async drop() {
        watch.end();
        await response.body?.cancel().catch(() => undefined);
      },
      async *body() {
        const reader = response.body?.getReader();
        if (reader === undefined) return;
        let done = false;
        try {
          while (!done) {
            watch.alive();
            const next = await reader.read();
            if (next.done) done = true;
            else yield next.value;
          }
        } catch (error) {
          throw failure(error);
        } finally {
          watch.end();
          if (!done) await reader.cancel().catch(() => undefined);
        }
      },
    };
  }

  #next(from: URL, location: string, what: string): URL {
    let next: URL;
    try {
      next = new URL(location, from);
    } catch (cause) {
      throw new DogeError("hub-response", `${what} was redirected to ${JSON.stringify(location)}, which is no URL.`, {
        cause,
      });
    }
    checkSecure(next, this.endpoint);
    return next;
  }

  /** `storage`: the host that answers, where it is another than the hub's. */
  async #refuse(response: Response, { what }: Request, storage: string | null): Promise<never> {
    const { status, headers } = response;
    await response.body?.cancel().catch(() => undefined);
    const said = headers.get("x-error-message")?.slice(0, 300);
    const more = said ? ` The server says: ${said}` : "";
    const fail = (code: ErrorCode, sentence: string) => new DogeError(code, `${sentence}${more}`);
    const host = this.endpoint.host;
    const token = this.options.token ? "the token given is not enough" : "no token was given";
    const ways = "set HF_TOKEN to a token that may read it, and check that the name is right";
    if (storage !== null && status >= 400 && status < 500 && status !== 429 && status !== 408) {
      // The hub has let us in; the addresses it sends us on to are signed, and not for long. The next try gets a fresh one.
      throw new Transient(
        fail("hub-unreachable", `${storage}, where ${host} keeps its files, does not send ${what} (${status}).`),
      );
    }
    if (status === 401)
      throw fail("hub-unauthorized", `${host} does not let us have ${what} (401): ${token}; ${ways}.`);
    if (status === 403) {
      const gate = "if its page asks to accept conditions, accept them there";
      throw fail("hub-unauthorized", `${host} does not let us have ${what} (403): ${token}; ${gate}, and ${ways}.`);
    }
    if (status === 404)
      throw fail("hub-not-found", `${host} does not have ${what} (404); check the name and the revision.`);
    if (status === 429) {
      const wait = retryAfter(headers.get("retry-after"), (this.options.now ?? Date.now)());
      const asks = wait === null ? "" : ` It asks to wait ${Math.ceil(wait / 1000)} seconds.`;
      throw new Transient(fail("hub-busy", `${host} answers ${what} with "too many requests" (429).${asks}`), wait);
    }
    if ((status >= 500 && status !== 501) || status === 408) {
      const wait = retryAfter(headers.get("retry-after"), (this.options.now ?? Date.now)());
      throw new Transient(fail("hub-unreachable", `${host} failed on ${what} (${status}); try again later.`), wait);
    }
    throw fail("hub-response", `${host} answers ${what} with the status ${status}, as no hub does.`);
  }

  /** The error that a failed fetch or read stands for. */
  #failure(
    error: unknown,
    { what, signal }: { what: string; signal?: AbortSignal | undefined },
    watch: Watch,
  ): unknown {
    if (error instanceof DogeError || error instanceof Transient) return error;
    if (signal?.aborted) return downloadAborted(signal);
    const unreachable = (why: string) =>
      new DogeError("hub-unreachable", `${this.endpoint.host} could not be reached for ${what}: ${why}.`, {
        cause: error,
      });
    if (watch.stalled) return new Transient(unreachable(`nothing came for ${watch.ms / 1000} seconds`));
    const { code, message } = rootCause(error);
    if (/CERT|TLS|SSL|EPROTO|SELF_SIGNED|UNABLE_TO_|^HOSTNAME_MISMATCH/.test(code)) {
      return unreachable(
        `its certificate or encryption is not accepted (${code}); check the address and this machine's clock`,
      );
    }
    if (["ENOTFOUND", "EAI_AGAIN"].includes(code)) {
      return new Transient(unreachable(`its name cannot be looked up (${code}); is this machine online?`));
    }
    return new Transient(unreachable(`${message}${code === "" ? "" : ` (${code})`}`));
  }
}

export function downloadAborted(signal: AbortSignal): DogeError {
  return new DogeError(
    "aborted",
    "The download was aborted by its signal; what was fetched is kept, and resumed next time.",
    {
      cause: aborted(signal).cause,
    },
  );
}
