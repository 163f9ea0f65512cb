// The conversations of this browser: begin, open, rename, delete, export and import them.
import { useEffect, useRef, useState } from "preact/hooks";
import icon from "../../public/icon.svg?url";
import type { Conversation } from "../state/conversation.ts";
import type { Theme } from "../state/settings.ts";
import { exportSession, fileNameOf, importSession } from "../storage/session-file.ts";
import { download, refocus, useApp, usePage } from "./context.ts";
import { Icon, IconButton, type IconName } from "./icons.tsx";

export function Sidebar() {
  const { app, open } = usePage();
  const conversations = useApp(({ conversations }) => conversations);
  const current = useApp(({ current }) => current.id);
  const chooser = useRef<HTMLInputElement>(null);
  const bring = async (files: FileList | null) => {
    for (const file of files ?? []) {
      try {
        await app.conversations.add(await importSession(file, Date.now()));
      } catch (error) {
        app.tell({ tone: "error", title: "Nothing was imported", text: (error as Error).message, ways: [] });
      }
    }
    // Whatever came of it is seen on the page.
    open(null);
  };
  return (
    <div class="sidebar">
      <div class="brand">
        <img src={icon} alt="" width={32} height={32} />
        <span>Doge</span>
      </div>
      <button
        type="button"
        class="button tinted"
        onClick={() => {
          app.conversations.fresh();
          open(null);
        }}
      >
        <Icon name="plus" /> New conversation
      </button>
      <h2 class="list-title">Conversations</h2>
      {conversations.length === 0 ? (
        <p class="quiet small">What you talk about is kept here, in this browser alone.</p>
      ) : (
        <ul class="conversations">
          {conversations.map((one) => (
            <Entry key={one.id} conversation={one} current={one.id === current} />
          ))}
        </ul>
      )}
      <input
        ref={chooser}
        type="file"
        accept=".json,application/json"
        multiple
        hidden
        onChange={({ currentTarget }) => {
          void bring(currentTarget.files).then(() => {
            currentTarget.value = "";
          });
        }}
      />
      <div class="row between sidebar-foot">
        <button type="button" class="button quiet-button" onClick={() => chooser.current?.click()}>
          <Icon name="upload" /> Import
        </button>
        <ThemeSwitch />
      </div>
    </div>
  );
}

const THEMES: readonly (readonly [Theme, IconName, string])[] = [
  ["light", "sun", "Light"],
  ["system", "system", "As the system"],
  ["dark", "moon", "Dark"],
];

function ThemeSwitch() {
  const { app } = usePage();
  const theme = useApp(({ settings }) => settings.theme);
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms.
    <div class="themes" role="group" aria-label="Colours">
      {THEMES.map(([name, icon, label]) => (
        <IconButton
          key={name}
          icon={icon}
          label={label}
          pressed={theme === name}
          onClick={() => app.set({ theme: name })}
        />
      ))}
    </div>
  );
}

function Entry({ conversation, current }: { readonly conversation: Conversation; readonly current: boolean }) {
  const { app, open } = usePage();
  const [naming, setNaming] = useState(false);
  const [sure, setSure] = useState(false);
  const { id, title } = conversation;
  const entry = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (current) entry.current?.scrollIntoView({ block: "nearest" });
  }, [current]);
  /** The focus goes back to where it came from: Rename is the first of the ways, Delete the last. */
  const back = (to: "first" | "last") =>
    requestAnimationFrame(() => entry.current?.querySelector<HTMLElement>(`.entry-ways > button:${to}-child`)?.focus());
  if (naming) {
    const leave = () => {
      setNaming(false);
      back("first");
    };
    return (
      <li ref={entry} class="entry">
        <form
          class="row naming"
          onSubmit={(event) => {
            event.preventDefault();
            void app.conversations.rename(id, new FormData(event.currentTarget).get("title") as string);
            leave();
          }}
        >
          <input
            name="title"
            aria-label="Name of the conversation"
            dir="auto"
            value={title}
            maxLength={200}
            ref={(field) => field?.select()}
            onKeyDown={(event) => {
              if (event.key !== "Escape") return;
              event.preventDefault();
              event.stopPropagation();
              leave();
            }}
          />
          <button type="submit" class="button small">
            Save
          </button>
        </form>
      </li>
    );
  }
  return (
    <li ref={entry} class={current ? "entry current" : "entry"}>
      <button
        type="button"
        class="entry-title"
        dir="auto"
        title={title}
        aria-current={current ? "true" : undefined}
        onClick={() => {
          app.conversations.open(id);
          open(null);
        }}
      >
        {title}
      </button>
      {sure ? (
        <div class="row entry-ways">
          <button
            type="button"
            class="button small danger"
            ref={(own) => own?.focus()}
            onClick={() => {
              const { nextElementSibling: next, previousElementSibling: before } = entry.current!;
              void app.conversations.remove(id);
              (next ?? before)?.querySelector("button")?.focus();
              refocus();
            }}
          >
            Delete
          </button>
          <button
            type="button"
            class="button small"
            onClick={() => {
              setSure(false);
              back("last");
            }}
          >
            Keep
          </button>
        </div>
      ) : (
        <div class="row entry-ways">
          <IconButton icon="edit" label={`Rename: ${title}`} onClick={() => setNaming(true)} />
          <IconButton
            icon="download"
            label={`Export: ${title}`}
            onClick={() =>
              download(fileNameOf(conversation), `${JSON.stringify(exportSession(conversation), null, 2)}\n`)
            }
          />
          <IconButton icon="trash" label={`Delete: ${title}`} onClick={() => setSure(true)} />
        </div>
      )}
    </li>
  );
}
