// Which backend computes: the automatic choice or a forced one, with what each says of itself.
import type { BackendChoice, BackendReport } from "../engine/protocol.ts";
import { backendName, useApp, usePage } from "./context.ts";

const CHOICES: readonly BackendChoice[] = ["auto", "webgpu", "wasm"];

export function BackendChooser() {
  const { app } = usePage();
  const backends = useApp(({ backends }) => backends);
  const settings = useApp(({ settings }) => settings);
  const request = useApp(({ request }) => request);
  const backend = request?.backend ?? settings.backend;
  const threads = request === null ? settings.threads : (request.threads ?? null);
  const model = useApp(({ model }) => model);
  const chosen = model?.backend;
  const reason = model?.tried.find((one) => one.chosen)?.reason;
  const why =
    model === null || backend !== "auto" || reason === undefined
      ? "The one that is measured to be the fastest here."
      : `${backendName(model.backend)}. ${reason}`;
  const says = (choice: BackendChoice): string => {
    if (choice === "auto") return why;
    const report = backends?.find(({ name }) => name === choice);
    if (report === undefined) return "Being asked…";
    const tried = model?.tried.find(({ name }) => name === choice);
    // With what was measured, where something was.
    return backend === "auto" && report.available && tried !== undefined
      ? `${sentence(report)} ${tried.reason}`
      : sentence(report);
  };
  const choose = (choice: BackendChoice) => {
    app.set({ backend: choice });
    void app.models.loadAgain({ backend: choice });
  };
  return (
    <section class="group">
      <fieldset class="choices">
        <legend>Backend</legend>
        {CHOICES.map((choice) => (
          <label key={choice} class="choice">
            <input
              type="radio"
              name="backend"
              value={choice}
              checked={backend === choice}
              onChange={() => choose(choice)}
            />
            <span>
              <strong>{choice === "auto" ? "Automatic" : backendName(choice)}</strong>
              {chosen === choice && <span class="badge">in use</span>}
              <span class="quiet small block">{says(choice)}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <label class="field">
        Threads of WebAssembly
        <select
          value={threads ?? ""}
          onChange={({ currentTarget: { value } }) => {
            const count = value === "" ? null : Number(value);
            app.set({ threads: count });
            void app.models.loadAgain({ threads: count ?? undefined });
          }}
        >
          <option value="">What suits this machine</option>
          {[...new Set([1, 2, 4, 8, ...(threads === null ? [] : [threads])])].map((count) => (
            <option key={count} value={count}>
              {count}
            </option>
          ))}
        </select>
      </label>
      {!crossOriginIsolated && (
        <p class="quiet small">
          This page is not isolated from others, so browsers give it one thread: its host does not send the headers
          Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy, and no service worker could add them. Everything
          works, more slowly.
        </p>
      )}
    </section>
  );
}

/** What a report says of an adapter that computes on the CPU, to callers of the library: the page's way is to choose it. */
const ASKED_FOR = / Ask for it with .*$/;

const sentence = ({ available, says, warnings }: BackendReport): string =>
  available
    ? [`Here: ${says}.`, ...warnings].join(" ")
    : ASKED_FOR.test(says)
      ? `Not by itself. ${says.replace(ASKED_FOR, " It can be chosen here all the same.")}`
      : `Not here. ${says}`;
