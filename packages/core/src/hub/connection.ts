// What a connection to a hub needs: a deadline on silence, addresses that are safe to ask, and what a failure really was.
import { DogeError } from "../errors.ts";

/** Ends a request when nothing has come for `ms`, or when the caller's signal fires. */
export class Watch {
  readonly ms: number;
  readonly signal: AbortSignal;
  stalled = false;
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number, outer: AbortSignal | undefined) {
    this.ms = ms;
    this.signal = outer === undefined ? this.#controller.signal : AbortSignal.any([outer, this.#controller.signal]);
  }
  alive(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.stalled = true;
      this.#controller.abort();
    }, this.ms);
  }
  end(): void {
    clearTimeout(this.#timer);
  }
}

const loopback = ({ hostname }: URL): boolean =>
  hostname === "localhost" ||
  hostname.endsWith(".localhost") ||
  hostname === "[::1]" ||
  /^127(\.\d+){3}$/.test(hostname);

/** @throws DogeError "insecure-url" for anything but https, save http on this machine for a hub on this machine. */
export function checkSecure(url: URL, endpoint: URL): void {
  if (url.protocol === "https:") return;
  if (url.protocol === "http:" && loopback(url) && loopback(endpoint) && endpoint.protocol === "http:") return;
  throw new DogeError(
    "insecure-url",
    `${url.origin === "null" ? url.protocol : url.origin} is not encrypted: models are fetched over https, or over http from this very machine.`,
  );
}

/** Milliseconds that a Retry-After header asks for: seconds or a date. */
export function retryAfter(header: string | null, now: number): number | null {
  if (header === null) return null;
  if (/^\s*\d+\s*$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

/** fetch() wraps what happened into "fetch failed": the innermost cause is the news. */
export function rootCause(error: unknown): { code: string; message: string } {
  let at = error as { cause?: unknown; errors?: unknown[]; code?: unknown; message?: string };
  for (let depth = 0; depth < 5; depth++) {
    const inner = (at.cause ?? at.errors?.[0]) as typeof at | undefined;
    if (typeof inner !== "object" || inner === null) break;
    at = inner;
  }
  return { code: typeof at.code === "string" ? at.code : "", message: at.message || "the connection broke" };
}

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
