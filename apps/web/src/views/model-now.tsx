// What answers now: the model, where it runs, what it takes; and how far the next one has come.
import { useEffect, useState } from "preact/hooks";
import { backendName, bytes, useApp, usePage } from "./context.ts";

export function LoadingProgress() {
  const { app } = usePage();
  const loading = useApp(({ loading }) => loading);
  if (loading === null) return null;
  const { name, progress } = loading;
  const share = progress !== null && progress.total > 0 ? progress.loaded / progress.total : null;
  return (
    <section class="group loading" aria-label="Loading">
      <div class="row between">
        <strong>{name}</strong>
        <button type="button" class="button small" onClick={() => app.models.cancelLoading()}>
          Cancel
        </button>
      </div>
      <progress aria-label={`Loading ${name}`} max={1} {...(share === null ? {} : { value: share })} />
      <p class="quiet small">
        {progress === null
          ? "Starting…"
          : `${progress.phase === "fetching" ? "Downloading" : "Reading"} ${progress.file}: ${bytes(progress.loaded)}${progress.total > 0 ? ` of ${bytes(progress.total)}` : ""}`}
      </p>
    </section>
  );
}

/** Bytes of the whole page with its workers, where the browser tells an isolated page. */
function usePageMemory(): number | null {
  const [memory, set] = useState<number | null>(null);
  useEffect(() => {
    let gone = false;
    const measure = (performance as { measureUserAgentSpecificMemory?: () => Promise<{ bytes: number }> })
      .measureUserAgentSpecificMemory;
    if (crossOriginIsolated && measure !== undefined)
      measure.call(performance).then(
        ({ bytes }) => gone || set(bytes),
        () => {},
      );
    return () => {
      gone = true;
    };
  }, []);
  return memory;
}

export function ModelNow() {
  const model = useApp(({ model }) => model);
  const memory = usePageMemory();
  if (model === null) return <p class="quiet">No model is loaded.</p>;
  const { name, backend, device, dtype, threads, context, loadMs, weightBytes, parameters, layers, window } = model;
  const rows: [string, string][] = [
    ["Model", `${name}, ${millions(parameters)} parameters in ${layers} layers`],
    [
      "Runs on",
      `${backendName(backend)}: ${device}${backend === "wasm" ? `, ${threads} ${threads === 1 ? "thread" : "threads"}` : ""}`,
    ],
    ["Weights", `${bytes(weightBytes)} as ${dtype}`],
    [
      "Longest text",
      `${context} tokens${window === null || window >= context ? "" : `, of which each head keeps ${window}`}`,
    ],
    ["Loaded in", `${Math.round(loadMs)} ms`],
    ...(memory === null ? [] : [["Whole page", bytes(memory)] as [string, string]]),
  ];
  return (
    <section class="group" aria-labelledby="now-title">
      <h3 id="now-title">What answers now</h3>
      <dl class="facts-list">
        {rows.map(([term, value]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {model.warnings.map((warning) => (
        <p key={warning} class="quiet small">
          {warning}
        </p>
      ))}
    </section>
  );
}

const millions = (count: number): string => `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} million`;
