// What a person has said, and saying it differently.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Turn } from "../state/conversation.ts";
import { toMessage, useBusy, usePage } from "./context.ts";
import { Copy } from "./copy.tsx";
import { IconButton } from "./icons.tsx";
import { VersionSwitch } from "./version-switch.tsx";

export function Question({ turn, last }: { readonly turn: Turn; readonly last: boolean }) {
  const { app } = usePage();
  const busy = useBusy();
  /** The version that is being edited. */
  const [edited, setEdited] = useState<string | null>(null);
  const editing = edited === turn.id;
  const edit = useRef<HTMLSpanElement>(null);
  const leave = (sent: boolean) => {
    setEdited(null);
    if (sent) toMessage();
    else requestAnimationFrame(() => edit.current?.querySelector("button")?.focus());
  };
  const unanswered = last && !busy;
  return (
    <li class={unanswered ? "turn question open" : "turn question"}>
      <h2 class="sr-only">You</h2>
      {editing ? (
        <EditForm key={turn.id} turn={turn} onLeave={leave} />
      ) : (
        <div class="said-row">
          <p class="said" dir="auto">
            {turn.content}
          </p>
          <div class="ways">
            {unanswered && (
              <IconButton
                icon="retry"
                label="Answer this message"
                onClick={() => {
                  void app.answers.retry();
                  toMessage();
                }}
              />
            )}
            <Copy text={turn.content} what="message" />
            <span ref={edit}>
              <IconButton icon="edit" label="Edit this message" disabled={busy} onClick={() => setEdited(turn.id)} />
            </span>
          </div>
        </div>
      )}
      {!editing && <VersionSwitch turn={turn} what="message" />}
    </li>
  );
}

function EditForm({ turn, onLeave }: { readonly turn: Turn; readonly onLeave: (sent: boolean) => void }) {
  const { app } = usePage();
  const { drafts } = app.around;
  // While another answer is being written this one waits.
  const busy = useBusy();
  const field = useRef<HTMLTextAreaElement>(null);
  const text = useRef(drafts.load(turn.id) || turn.content);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.current.length, text.current.length);
  }, []);
  const submit = () => {
    const { value } = field.current!;
    if (busy || value.trim() === "") return;
    drafts.save(turn.id, "");
    // What was not taken is there when the message is edited again.
    void app.answers.edit(turn, value).then((taken) => taken || drafts.save(turn.id, value));
    onLeave(true);
  };
  const cancel = () => {
    drafts.save(turn.id, "");
    onLeave(false);
  };
  return (
    <form
      class="edit"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <textarea
        ref={field}
        dir="auto"
        aria-label="Edit the message"
        defaultValue={text.current}
        rows={3}
        required
        onInput={({ currentTarget }) => drafts.save(turn.id, currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            cancel();
          } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }
        }}
      />
      <p class="quiet small">The conversation goes on from here. As it is now, it stays as another version.</p>
      <div class="row end">
        <button type="button" class="button small" onClick={cancel}>
          Cancel
        </button>
        <button type="submit" class="button small primary" disabled={busy}>
          Ask again
        </button>
      </div>
    </form>
  );
}
