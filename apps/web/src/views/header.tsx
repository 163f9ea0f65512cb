// The bar above the conversation: what answers, and the ways to everything else.
import { backendName, bytes, useApp, useMedia, usePage, WIDE } from "./context.ts";
import { Icon, IconButton } from "./icons.tsx";

export function Header() {
  const { app, open, opened } = usePage();
  const wide = useMedia(WIDE);
  return (
    <header class="bar">
      {!wide && <IconButton icon="menu" label="Conversations" onClick={() => open("conversations")} />}
      <ModelButton />
      <span class="space" />
      <IconButton
        icon="sliders"
        label="Parameters"
        pressed={opened === "parameters"}
        onClick={() => open(opened === "parameters" ? null : "parameters")}
      />
      {!wide && <IconButton icon="plus" label="New conversation" onClick={() => app.conversations.fresh()} />}
    </header>
  );
}

/** The model and where it runs; opens the dialog that changes both. While one is loaded, how far that is. */
function ModelButton() {
  const { app, open } = usePage();
  const model = useApp(({ model }) => model);
  const loading = useApp(({ loading }) => loading);
  const state = loading !== null ? "loading" : model !== null ? "ready" : "none";
  const where = model === null ? "" : `${backendName(model.backend)}${model.threads > 1 ? ` × ${model.threads}` : ""}`;
  const progress = loading?.progress ?? null;
  const share = progress !== null && progress.total > 0 ? progress.loaded / progress.total : null;
  return (
    <div class="model-now">
      <button type="button" class="model-button" onClick={() => open("model")} data-state={state}>
        <span class="dot" aria-hidden="true" />
        <span class="model-words">
          <span class="sr-only">Model: </span>
          <span class="model-name">{loading?.name ?? model?.name ?? "No model"}</span>
          <span class="model-where">
            {loading === null
              ? where
              : progress === null
                ? "starting…"
                : `${bytes(progress.loaded)}${progress.total > 0 ? ` of ${bytes(progress.total)}` : ""}`}
          </span>
        </span>
        <Icon name="chevron" size={16} />
      </button>
      {loading !== null && (
        <>
          <progress aria-label={`Loading ${loading.name}`} max={1} {...(share === null ? {} : { value: share })} />
          <button type="button" class="button small" onClick={() => app.models.cancelLoading()}>
            Cancel
          </button>
        </>
      )}
    </div>
  );
}
