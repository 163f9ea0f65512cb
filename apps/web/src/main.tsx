// Begins: the service worker first, since it may load the page again, then the engine, the conversations and the demo model.
import { render } from "preact";
import { EngineClient } from "./engine/client.ts";
import type { BackendChoice, LoadRequest } from "./engine/protocol.ts";
import { type Offline, startOffline } from "./offline.ts";
import { App } from "./state/app.ts";
import type { State } from "./state/board.ts";
import { keptSettings } from "./state/settings.ts";
import { openConversations } from "./storage/database.ts";
import { keptDrafts } from "./storage/drafts.ts";
import { turnTaking } from "./storage/turn-taking.ts";
import { Shell } from "./views/shell.tsx";

let app: App | undefined;
let offline: Offline = "unsupported";
/** Loads the page again, in its newer version where there is one. */
let reload = () => location.reload();

function draw(): void {
  if (app !== undefined)
    render(<Shell app={app} offline={offline} reload={() => reload()} />, document.getElementById("app")!);
}

/** The model that the address asks for: ?model=owner/name, with revision, endpoint, backend, dtype and threads; the demo model without. */
function firstRequest(address: URL, { settings }: State): LoadRequest {
  const { backend, dtype, threads } = settings;
  const asked = (name: string) => address.searchParams.get(name) ?? undefined;
  const model = asked("model");
  const count = Number(asked("threads"));
  const choices: readonly string[] = ["auto", "webgpu", "wasm"];
  const dtypes: readonly string[] = ["f32", "bf16", "q8", "q4"];
  return {
    source:
      model === undefined
        ? { kind: "demo" }
        : { kind: "hub", name: model, revision: asked("revision"), endpoint: asked("endpoint") },
    backend: choices.includes(asked("backend") ?? "") ? (asked("backend") as BackendChoice) : backend,
    dtype: dtypes.includes(asked("dtype") ?? "")
      ? (asked("dtype") as LoadRequest["dtype"])
      : model === undefined
        ? "f32"
        : dtype,
    threads: Number.isInteger(count) && count >= 1 ? count : (threads ?? undefined),
  };
}

/** Undefined where there is none: a policy may forbid even the name. */
function database(): IDBFactory | undefined {
  try {
    return indexedDB;
  } catch {
    return undefined;
  }
}

let updated = false;
/** Now, or once there is somebody to tell. */
function tellOfUpdate(): void {
  if (!updated) return;
  app?.tell({
    tone: "fact",
    title: "A newer version of this page is here",
    text: "It is used from the next time on; reloading the page uses it now.",
    ways: ["reload"],
  });
}

/** Where this tab was before it was loaded again; and remember where it is. */
async function goOn({ state, conversations }: App): Promise<void> {
  const key = "doge-current";
  await conversations.read();
  try {
    conversations.open(sessionStorage.getItem(key) ?? "");
    state.subscribe(() => sessionStorage.setItem(key, state.get().current.id));
  } catch {
    // A browser that keeps nothing: a new conversation it is.
  }
}

// What takes long begins meanwhile; but an engine only where the page will not be loaded again.
const opening = openConversations(database());
const engine = new EngineClient(() => new Worker(new URL("./engine/worker.ts", import.meta.url), { type: "module" }));
if (crossOriginIsolated) engine.start();
const handle = await startOffline({
  onState: (state) => {
    offline = state;
    draw();
  },
  onUpdate: (newer) => {
    reload = newer;
    updated = true;
    tellOfUpdate();
  },
});

if (handle !== null) {
  app = new App({
    engine,
    store: await opening,
    turns: turnTaking(navigator.locks),
    drafts: keptDrafts([() => sessionStorage, () => localStorage]),
    settings: keptSettings.load(),
    saveSettings: keptSettings.save,
    // A page that nobody sees is not drawn, and is told of what happens all the same.
    nextFrame: (work) => (document.hidden ? setTimeout(work, 100) : requestAnimationFrame(work)),
    now: () => Date.now(),
  });
  // What takes the longest begins first.
  const loading = app.models.load(firstRequest(new URL(location.href), app.state.get()));
  draw();
  tellOfUpdate();
  addEventListener("pagehide", () => void app?.answers.keepUnfinished());
  await goOn(app);
  await loading;
  void app.models.probe();
  handle.keep();
}
