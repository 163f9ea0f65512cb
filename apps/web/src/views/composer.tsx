// Where things are said: Enter sends, Shift and Enter begin a line, Escape stops the answer.
import { useEffect, useRef, useState } from "preact/hooks";
import { toMessage, useApp, usePage } from "./context.ts";
import { Icon } from "./icons.tsx";

export function Composer() {
  const { app } = usePage();
  const ready = useApp(({ model }) => model !== null);
  const answering = useApp(({ answering }) => answering !== null);
  const loading = useApp(({ loading }) => loading !== null);
  const id = useApp(({ current }) => current.id);
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState("");

  useEffect(() => {
    if (document.querySelector("dialog[open]") === null) toMessage();
  }, [id]);

  const submit = () => {
    if (answering) {
      app.answers.stop();
    } else if (ready && text.trim() !== "") {
      setText("");
      void app.answers.send(text);
    }
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
        rows={1}
        dir="auto"
        value={text}
        placeholder={ready ? "Message Doge" : loading ? "The model is being loaded…" : "Choose a model first"}
        aria-describedby="message-keys"
        enterkeyhint="send"
        onInput={({ currentTarget }) => setText(currentTarget.value)}
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
