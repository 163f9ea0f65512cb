// The site's service worker. It keeps every file of the build, so that the page opens without a network, and it adds the two headers
// that threads need, where the host does not send them.
declare const __DOGE_FILES__: readonly string[];
declare const __DOGE_VERSION__: string;

interface ExtendableEvent extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface Client {
  postMessage(message: unknown): void;
}
interface Scope {
  readonly registration: ServiceWorkerRegistration;
  readonly clients: { claim(): Promise<void>; matchAll(options: object): Promise<readonly Client[]> };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  addEventListener(type: "message", listener: (event: ExtendableEvent & MessageEvent) => void): void;
}
const scope = globalThis as unknown as Scope;

const FILES = __DOGE_FILES__;
const PREFIX = "doge-site-";
const CACHE = `${PREFIX}${__DOGE_VERSION__}`;
const root = (): string => scope.registration.scope;

/** Everything into the cache that is not there yet. Whole or, when it rejects, to be gone on with. */
async function keepAll(): Promise<void> {
  const cache = await caches.open(CACHE);
  const kept = new Set((await cache.keys()).map(({ url }) => url));
  for (const file of FILES) {
    const address = new URL(file, root()).href;
    if (kept.has(address)) continue;
    // Hashed names never change; the others are asked for anew.
    const response = await fetch(address, { cache: file.startsWith("assets/") ? "default" : "no-cache" });
    if (!response.ok) throw new Error(`${file}: status ${response.status}`);
    await cache.put(address, response);
  }
}

async function isWhole(): Promise<boolean> {
  const kept = new Set((await (await caches.open(CACHE)).keys()).map(({ url }) => url));
  return FILES.every((file) => kept.has(new URL(file, root()).href));
}

/** An earlier version is used until this one is whole. The very first one does not wait: the page wants its headers at once, and
 *  asks for the files to be kept when it has what it needs itself. */
scope.addEventListener("install", (event) => {
  event.waitUntil(scope.registration.active === null ? scope.skipWaiting() : keepAll());
});

scope.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
      await scope.clients.claim();
    })(),
  );
});

scope.addEventListener("message", (event) => {
  if (event.data === "take-over") event.waitUntil(scope.skipWaiting());
  if (event.data !== "keep") return;
  event.waitUntil(
    (async () => {
      const kept = await keepAll().then(
        () => true,
        () => isWhole(),
      );
      for (const client of await scope.clients.matchAll({ type: "window" })) client.postMessage({ doge: "kept", kept });
    })(),
  );
});

/** With what lets pages share memory between threads. */
function isolated(response: Response): Response {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("cross-origin-opener-policy", "same-origin");
  headers.set("cross-origin-embedder-policy", "require-corp");
  headers.set("cross-origin-resource-policy", "same-origin");
  const { status, statusText } = response;
  return new Response([101, 204, 205, 304].includes(status) ? null : response.body, { status, statusText, headers });
}

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const page = request.mode === "navigate";
  // Whatever is asked for behind the address of the page, there is one page.
  const kept = await cache.match(page ? root() : request, { ignoreSearch: page });
  return isolated(kept ?? (await fetch(request)));
}

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  // Hubs are asked by the page itself.
  if (request.method !== "GET" || !request.url.startsWith(root()) || request.headers.has("range")) return;
  event.respondWith(answer(request));
});
