// What a person should know: errors with the way out, warnings, facts. They stay until they are dismissed.
import type { Notice, Way } from "../state/problems.ts";
import { refocus, useApp, usePage } from "./context.ts";
import { IconButton } from "./icons.tsx";

const WORDS: Readonly<Record<Way, string>> = {
  "choose-model": "Choose a model",
  "demo-model": "Use the demo model",
  "try-again": "Try again",
  reload: "Reload the page",
  storage: "See what is stored",
  wasm: "Use WebAssembly",
};

/** `lasting`: without what is about the answer in sight. */
export function Notices({ lasting = false }: { readonly lasting?: boolean }) {
  const notices = useApp(({ notices }) => notices);
  return (
    <div class="notices">
      {notices
        .filter(({ passing }) => !lasting || passing !== true)
        .map((notice) => (
          <NoticeCard key={notice.id} notice={notice} />
        ))}
    </div>
  );
}

function NoticeCard({ notice }: { readonly notice: Notice }) {
  const { app, opened, open, reload } = usePage();
  // Not the way to where one is.
  const ways = notice.ways.filter((way) => opened !== "model" || (way !== "choose-model" && way !== "storage"));
  const dismiss = () => {
    app.dismiss(notice.id);
    refocus();
  };
  const go = (way: Way) => {
    dismiss();
    if (way === "choose-model" || way === "storage") open("model");
    else if (way === "demo-model")
      void app.models.load({ source: { kind: "demo" }, backend: app.state.get().settings.backend, dtype: "f32" });
    else if (way === "try-again") void app.models.loadAgain();
    else if (way === "wasm") {
      app.set({ backend: "wasm" });
      void app.models.loadAgain({ backend: "wasm" });
    } else reload();
  };
  return (
    <section class={`notice ${notice.tone}`} role={notice.tone === "error" ? "alert" : "status"}>
      <div>
        <strong>{notice.title}</strong>
        <p>{notice.text}</p>
        {ways.length > 0 && (
          <div class="row">
            {ways.map((way) => (
              <button key={way} type="button" class="button small" onClick={() => go(way)}>
                {WORDS[way]}
              </button>
            ))}
          </div>
        )}
      </div>
      <IconButton icon="close" label={`Dismiss: ${notice.title}`} onClick={dismiss} />
    </section>
  );
}
