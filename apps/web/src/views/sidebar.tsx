// Beside the conversation: a new one, the list of all, files of others, and the colours of the page.
import { useRef } from "preact/hooks";
import icon from "../../public/icon.svg?url";
import type { Theme } from "../state/settings.ts";
import { importSession } from "../storage/session-file.ts";
import { useApp, usePage } from "./context.ts";
import { ConversationList } from "./conversation-list.tsx";
import { Icon, IconButton, type IconName } from "./icons.tsx";

export function Sidebar() {
  const { app, open } = usePage();
  const empty = useApp(({ conversations }) => conversations.length === 0);
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
      {empty ? (
        <p class="quiet small">What you talk about is kept here, in this browser alone.</p>
      ) : (
        <ConversationList />
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
