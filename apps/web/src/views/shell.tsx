// The whole page: the list of conversations, the bar, the conversation, where things are said, and what is open above.
import { useEffect, useState } from "preact/hooks";
import type { Offline } from "../offline.ts";
import type { App } from "../state/app.ts";
import { UNTITLED } from "../state/conversation.ts";
import { droppedFiles } from "../storage/local-files.ts";
import { AttentionDialog } from "./attention-view.tsx";
import { Composer } from "./composer.tsx";
import { type Opened, PageContext, useApp, useMedia, usePage, WIDE } from "./context.ts";
import { Dialog } from "./dialog.tsx";
import { Header } from "./header.tsx";
import { ModelDialog } from "./model-dialog.tsx";
import { Notices } from "./notices.tsx";
import { ParametersDialog } from "./parameters.tsx";
import { Sidebar } from "./sidebar.tsx";
import { Thread } from "./thread.tsx";

export function Shell({
  app,
  offline,
  reload,
}: {
  readonly app: App;
  readonly offline: Offline;
  readonly reload: () => void;
}) {
  const [opened, open] = useState<Opened>(null);
  return (
    <PageContext.Provider value={{ app, offline, reload, opened, open }}>
      <Layout />
    </PageContext.Provider>
  );
}

function Layout() {
  const { app, opened, open } = usePage();
  const wide = useMedia(WIDE);
  const theme = useApp(({ settings }) => settings.theme);
  const announcement = useApp(({ announcement }) => announcement);
  const title = useApp(({ current }) => current.title);
  const [dragging, setDragging] = useState(false);

  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);
  useEffect(() => {
    document.title = title === UNTITLED ? "Doge" : `${title} – Doge`;
  }, [title]);
  useEffect(() => {
    const stop = (event: KeyboardEvent) => {
      // A dialog's own Escape closes it first.
      if (event.key === "Escape" && !event.defaultPrevented && document.querySelector("dialog[open]") === null)
        app.answers.stop();
    };
    addEventListener("keydown", stop);
    return () => removeEventListener("keydown", stop);
  }, [app]);

  const drop = async (items: DataTransferItemList) => {
    try {
      const { name, files } = await droppedFiles(items);
      const { backend, threads, dtype } = app.state.get().settings;
      const source = { kind: "files", name, files } as const;
      await app.models.load({ source, backend, dtype, threads: threads ?? undefined });
    } catch (error) {
      app.tell({ tone: "error", title: "This is no model", text: (error as Error).message, ways: ["choose-model"] });
    }
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping is a second way; the dialog about models has buttons.
    <div
      class={dragging ? "shell dragging" : "shell"}
      onDragOver={(event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        setDragging(true);
      }}
      onDragLeave={({ currentTarget, relatedTarget }) => {
        if (!currentTarget.contains(relatedTarget as Node | null)) setDragging(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setDragging(false);
        if (event.dataTransfer !== null) void drop(event.dataTransfer.items);
      }}
    >
      <a class="skip" href="#message">
        To the message field
      </a>
      {wide && (
        <nav class="aside" aria-label="Conversations">
          <Sidebar />
        </nav>
      )}
      <div class="main">
        <Header />
        <main class="stage">
          <Thread />
          <div class="column foot">
            {/* An open dialog makes the page behind it inert: the one about models shows them itself. */}
            {opened !== "model" && <Notices />}
            <Composer />
          </div>
        </main>
      </div>
      <p class="sr-only" role="status">
        {announcement}
      </p>
      {dragging && <p class="drop-here">Drop a model's folder or files</p>}
      {opened === "model" && <ModelDialog onClose={() => open(null)} />}
      {opened === "parameters" && <ParametersDialog onClose={() => open(null)} />}
      {opened === "conversations" && !wide && (
        <Dialog title="Conversations" class="side left" onClose={() => open(null)}>
          <Sidebar />
        </Dialog>
      )}
      {typeof opened === "object" && opened !== null && (
        <AttentionDialog facts={opened.attention} onClose={() => open(null)} />
      )}
    </div>
  );
}
