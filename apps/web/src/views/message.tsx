// One turn of a conversation, with what can be done with it.
import { useEffect, useRef, useState } from "preact/hooks";
import type { AnswerFacts } from "../engine/protocol.ts";
import type { Turn } from "../state/conversation.ts";
import { backendName, refocus, toMessage, useApp, usePage } from "./context.ts";
import { Copy } from "./copy.tsx";
import { IconButton } from "./icons.tsx";
import { Markdown } from "./markdown.tsx";
import { TokenView } from "./token-view.tsx";

export function Question({
  turn,
  index,
  last,
}: {
  readonly turn: Turn;
  readonly index: number;
  readonly last: boolean;
}) {
  const { app } = usePage();
  const busy = useApp(({ answering }) => answering !== null);
  const [editing, setEditing] = useState(false);
  const edit = useRef<HTMLSpanElement>(null);
  const leave = () => {
    setEditing(false);
    requestAnimationFrame(() => edit.current?.querySelector("button")?.focus());
  };
  return (
    <li class={last && !busy ? "turn question open" : "turn question"}>
      <h2 class="sr-only">You</h2>
      {editing ? (
        <EditForm
          text={turn.content}
          busy={busy}
          onCancel={leave}
          onSave={(text) => {
            setEditing(false);
            void app.answers.edit(index, text);
            toMessage();
          }}
        />
      ) : (
        <div class="said-row">
          <p class="said" dir="auto">
            {turn.content}
          </p>
          <div class="ways">
            {last && !busy && (
              <IconButton
                icon="retry"
                label="Answer this message"
                onClick={() => {
                  void app.answers.retry();
                  refocus();
                }}
              />
            )}
            <Copy text={turn.content} what="message" />
            <span ref={edit}>
              <IconButton icon="edit" label="Edit this message" disabled={busy} onClick={() => setEditing(true)} />
            </span>
          </div>
        </div>
      )}
    </li>
  );
}

function EditForm({
  text,
  busy,
  onSave,
  onCancel,
}: {
  readonly text: string;
  /** Another answer is being written: this one waits. */
  readonly busy: boolean;
  readonly onSave: (text: string) => void;
  readonly onCancel: () => void;
}) {
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  return (
    <form
      class="edit"
      onSubmit={(event) => {
        event.preventDefault();
        if (!busy) onSave(field.current!.value);
      }}
    >
      <textarea
        ref={field}
        dir="auto"
        aria-label="Edit the message"
        defaultValue={text}
        rows={3}
        required
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            onCancel();
          } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }
        }}
      />
      <p class="quiet small">What came after this message is replaced by the new answer.</p>
      <div class="row end">
        <button type="button" class="button small" onClick={onCancel}>
          Cancel
        </button>
        <button type="submit" class="button small primary" disabled={busy}>
          Ask again
        </button>
      </div>
    </form>
  );
}

export function Answer({ turn, index, last }: { readonly turn: Turn; readonly index: number; readonly last: boolean }) {
  const { app, open } = usePage();
  const busy = useApp(({ answering }) => answering !== null);
  const [tokens, showTokens] = useState(false);
  const { facts } = turn;
  return (
    <li class="turn answer">
      <h2 class="who">Doge</h2>
      {turn.content.trim() === "" ? <p class="quiet">(an empty answer)</p> : <Markdown text={turn.content} />}
      <div class="ways">
        <Copy text={turn.content} what="answer" />
        {last && (
          <IconButton
            icon="retry"
            label="Answer again"
            disabled={busy}
            onClick={() => {
              void app.answers.retry();
              refocus();
            }}
          />
        )}
        {facts !== undefined && (
          <>
            <IconButton
              icon="tokens"
              label="Tokens and their probabilities"
              pressed={tokens}
              disabled={busy}
              onClick={() => showTokens(!tokens)}
            />
            <IconButton
              icon="eye"
              label="What the model attends to"
              disabled={busy}
              onClick={() => open({ attention: index })}
            />
            <Facts facts={facts} />
          </>
        )}
      </div>
      {tokens && facts !== undefined && <TokenView index={index} facts={facts} />}
    </li>
  );
}

const ENDS: Readonly<Partial<Record<AnswerFacts["stopReason"], string>>> = {
  length: "cut at its greatest length",
  abort: "stopped",
  exhausted: "nothing could follow",
};

function Facts({ facts }: { readonly facts: AnswerFacts }) {
  const { ids, speed, firstMs, stopReason, truncated, model, backend } = facts;
  const parts = [
    `${ids.length} ${ids.length === 1 ? "token" : "tokens"}`,
    ...(speed === null ? [] : [`${Math.round(speed)} tokens/s`]),
    `first after ${firstMs < 10 ? firstMs.toFixed(1) : Math.round(firstMs)} ms`,
    ...(ENDS[stopReason] === undefined ? [] : [ENDS[stopReason]]),
    ...(truncated === 0 ? [] : [`the first ${truncated} tokens of the conversation left out`]),
    `${model}, ${backendName(backend)}`,
  ];
  return <p class="facts">{parts.join(" · ")}</p>;
}
