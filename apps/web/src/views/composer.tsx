// Where things are said: Enter sends, Shift and Enter begin a line, Escape stops the answer.
import { useEffect, useRef, useState } from "preact/hooks";
import { draftKey } from "../state/conversation.ts";
import { toMessage, useApp, usePage } from "./context.ts";
import { Icon } from "./icons.tsx";

export function Composer() {
  const { app } = usePage();
  const { drafts } = app.around;
  const ready = useApp(({ model }) => model?.chats === true);
  const mute = useApp(({ model }) => model?.chats === false);
  const answering = useApp(({ answering }) => answering !== null);
  const loading = useApp(({ loading }) => loading !== null);
  const id = useApp(({ current }) => current.id);
  const key = useApp(({ current }) => draftKey(current));
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(() => drafts.load(key));

  useEffect(() => {
    if (document.querySelector("dialog[open]") === null) toMessage();
  }, [id]);
  useEffect(() => setText(drafts.load(key)), [key]);

  const change = (draft: string) => {
    setText(draft);
    drafts.save(key, draft);
  };
  const send = async () => {
    change("");
    if (await app.answers.send(text)) return;
    // Not taken: it is there again, ahead of what was written since.
    const back = [text, drafts.load(key)].filter((part) => part !== "").join("\n");
    drafts.save(key, back);
    if (draftKey(app.state.get().current) === key) setText(back);
  };
  const submit = () => {
    if (answering) app.answers.stop();
    else if (ready && text.trim() !== "") void send();
    field.current?.focus();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <label class="sr-only" for="message">
        Message
      </label>
      <textarea
        id="message"
        ref={field}
        // Where a field does not grow by itself.
        rows={Math.min(6, text.split("\n").length)}
        dir="auto"
        value={text}
        placeholder={
          ready
            ? "Message Doge"
            : loading
              ? "The model is being loaded…"
              : mute
                ? "This model does not chat"
                : "Choose a model first"
        }
        aria-describedby="message-keys"
        enterkeyhint="send"
        onInput={({ currentTarget }) => change(currentTarget.value)}
        onKeyDown={(event) => {
          // While a word is being composed, Enter ends that.
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          if (!answering) submit();
        }}
      />
      <button
        type="submit"
        class={answering ? "send stop" : "send"}
        aria-label={answering ? "Stop" : "Send"}
        title={answering ? "Stop (Escape)" : "Send (Enter)"}
        disabled={!answering && (!ready || text.trim() === "")}
      >
        <Icon name={answering ? "stop" : "send"} />
      </button>
      <p id="message-keys" class="keys">
        Enter sends, Shift + Enter begins a new line, Escape stops the answer.
      </p>
    </form>
  );
}
