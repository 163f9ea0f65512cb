// One conversation of the list: open it, rename it, export it, delete it.
import { useRef, useState } from "preact/hooks";
import type { Conversation } from "../state/conversation.ts";
import { exportSession, fileNameOf } from "../storage/session-file.ts";
import { download, refocus, usePage } from "./context.ts";
import { MenuButton } from "./menu.tsx";

export function Entry({
  conversation,
  current,
  stop,
  onStop,
}: {
  readonly conversation: Conversation;
  readonly current: boolean;
  /** The cell that Tab comes to; null: to another conversation. */
  readonly stop: number | null;
  readonly onStop: (cell: number) => void;
}) {
  const { app, open } = usePage();
  const [doing, set] = useState<"naming" | "deleting" | null>(null);
  const { id, title } = conversation;
  const row = useRef<HTMLTableRowElement>(null);
  /** Done with it: the focus goes to the title. */
  const leave = () => {
    set(null);
    requestAnimationFrame(() => row.current?.querySelector<HTMLElement>(".entry-title")?.focus());
  };
  if (doing === "naming")
    return (
      <tr ref={row} class="entry">
        <td colSpan={2}>
          <NameForm
            title={title}
            onName={(name) => void app.conversations.rename(id, name).then(leave)}
            onLeave={leave}
          />
        </td>
      </tr>
    );
  if (doing === "deleting")
    return (
      <tr ref={row} class="entry">
        <td colSpan={2}>
          <div class="row entry-sure">
            <span class="entry-title">{title}</span>
            <button
              type="button"
              class="button small danger"
              aria-label={`Delete: ${title}`}
              ref={(own) => own?.focus()}
              onClick={() => {
                const { nextElementSibling: next, previousElementSibling: before } = row.current!;
                void app.conversations.remove(id);
                (next ?? before)?.querySelector("button")?.focus();
                refocus();
              }}
            >
              Delete
            </button>
            <button type="button" class="button small" aria-label={`Keep: ${title}`} onClick={leave}>
              Keep
            </button>
          </div>
        </td>
      </tr>
    );
  const cell = (place: number) => ({ tabIndex: stop === place ? 0 : -1, onFocus: () => onStop(place) });
  return (
    <tr ref={row} class={current ? "entry current" : "entry"}>
      <td>
        <button
          type="button"
          class="entry-title"
          dir="auto"
          title={title}
          aria-current={current ? "true" : undefined}
          aria-keyshortcuts="F2 Delete"
          onClick={() => {
            app.conversations.open(id);
            open(null);
          }}
          onKeyDown={({ key }) => {
            if (key === "F2") set("naming");
            else if (key === "Delete") set("deleting");
          }}
          {...cell(0)}
        >
          {title}
        </button>
      </td>
      <td class="entry-more">
        <MenuButton
          label={`More: ${title}`}
          items={[
            { icon: "edit", label: "Rename", onChoose: () => set("naming") },
            {
              icon: "download",
              label: "Export",
              onChoose: () =>
                download(fileNameOf(conversation), `${JSON.stringify(exportSession(conversation), null, 2)}\n`),
            },
            { icon: "trash", label: "Delete", danger: true, onChoose: () => set("deleting") },
          ]}
          {...cell(1)}
        />
      </td>
    </tr>
  );
}

function NameForm({
  title,
  onName,
  onLeave,
}: {
  readonly title: string;
  readonly onName: (name: string) => void;
  readonly onLeave: () => void;
}) {
  return (
    <form
      class="row naming"
      onSubmit={(event) => {
        event.preventDefault();
        onName(new FormData(event.currentTarget).get("title") as string);
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
          onLeave();
        }}
      />
      <button type="submit" class="button small">
        Save
      </button>
    </form>
  );
}
