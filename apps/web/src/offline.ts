// The page's dealings with its service worker: isolation for threads, files kept for days without a network, newer versions.

/** Whether this is the built site, with all of its files; the development server has them one by one. */
declare const __DOGE_BUILT__: boolean;

export type Offline = "unsupported" | "preparing" | "ready" | "failed";

/** Longest wait for a service worker that would bring isolation, in milliseconds; then the page starts with one thread. */
const PATIENCE = 3000;
const RELOADED = "doge-reloaded";

export interface OfflineEvents {
  readonly onState: (state: Offline) => void;
  /** A newer version of the site is here; calling back reloads the page with it. */
  readonly onUpdate: (reload: () => void) => void;
}

export interface OfflineHandle {
  /** Ask for every file of the site to be kept: when the page has what it needs itself. */
  keep(): void;
}

/** What a browser may refuse to name at all: in a sandboxed frame, or where cookies are blocked. */
function reach<Part>(name: () => Part): Part | undefined {
  try {
    return name();
  } catch {
    return undefined;
  }
}

/** @returns null when the page is about to be loaded again, with the headers that the service worker adds */
export async function startOffline(events: OfflineEvents): Promise<OfflineHandle | null> {
  const serviceWorker = reach(() => navigator.serviceWorker);
  if (!__DOGE_BUILT__ || serviceWorker === undefined) {
    events.onState("unsupported");
    return { keep: () => {} };
  }
  const registration = await serviceWorker
    .register(new URL("service-worker.js", document.baseURI))
    .catch(() => undefined);
  // Refused, or (where an extension or a policy has its hand in it) nothing at all.
  if (registration === undefined) {
    events.onState("failed");
    return { keep: () => {} };
  }
  // Where nothing can be remembered, the page would load itself for ever.
  if (!crossOriginIsolated && reach(() => sessionStorage.getItem(RELOADED)) === null) {
    // Once, and before anything has been said: the next load has the headers.
    if (await controlled(serviceWorker)) {
      sessionStorage.setItem(RELOADED, "1");
      location.reload();
      return null;
    }
  }
  serviceWorker.addEventListener("message", ({ data }) => {
    if (data?.doge === "kept") events.onState(data.kept ? "ready" : "failed");
  });
  watchUpdates(serviceWorker, registration, events);
  return {
    keep: () => {
      events.onState("preparing");
      void serviceWorker.ready.then(({ active }) => active?.postMessage("keep"));
    },
  };
}

function controlled(container: ServiceWorkerContainer): Promise<boolean> {
  if (container.controller !== null) return Promise.resolve(true);
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(container.controller !== null), PATIENCE);
    container.addEventListener(
      "controllerchange",
      () => {
        clearTimeout(timer);
        resolve(true);
      },
      { once: true },
    );
  });
}

function watchUpdates(
  container: ServiceWorkerContainer,
  registration: ServiceWorkerRegistration,
  { onUpdate }: OfflineEvents,
): void {
  const offer = (worker: ServiceWorker) =>
    onUpdate(() => {
      container.addEventListener("controllerchange", () => location.reload(), { once: true });
      worker.postMessage("take-over");
    });
  const watch = () => {
    const worker = registration.installing;
    // The first one of all is no news.
    if (worker === null || registration.active === null) return;
    worker.addEventListener("statechange", () => {
      if (worker.state === "installed") offer(worker);
    });
  };
  if (registration.waiting !== null) offer(registration.waiting);
  watch(); // it may have been found before anybody listened
  registration.addEventListener("updatefound", watch);
}
