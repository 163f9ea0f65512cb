// An answer, with what can be done with it.
import { useState } from "preact/hooks";
import type { AnswerFacts } from "../engine/protocol.ts";
import type { Turn } from "../state/conversation.ts";
import { backendName, toMessage, useBusy, usePage } from "./context.ts";
import { Copy } from "./copy.tsx";
import { IconButton } from "./icons.tsx";
import { Markdown } from "./markdown.tsx";
import { TokenView } from "./token-view.tsx";
import { VersionSwitch } from "./version-switch.tsx";

export function Answer({ turn, last }: { readonly turn: Turn; readonly last: boolean }) {
  const { app, open } = usePage();
  const busy = useBusy();
  const [tokens, showTokens] = useState(false);
  const { facts } = turn;
  const empty = turn.content.trim() === "";
  return (
    <li class="turn answer">
      <h2 class="who">Doge</h2>
      {empty ? <p class="quiet">(an empty answer)</p> : <Markdown text={turn.content} />}
      <div class="ways">
        <VersionSwitch turn={turn} what="answer" />
        {!empty && <Copy text={turn.content} what="answer" />}
        {last && (
          <IconButton
            icon="retry"
            label="Answer again"
            disabled={busy}
            onClick={() => {
              void app.answers.retry();
              toMessage();
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
              opens
              onClick={() => open({ attention: facts })}
            />
            <Facts facts={facts} />
          </>
        )}
      </div>
      {tokens && facts !== undefined && <TokenView facts={facts} />}
    </li>
  );
}

const ENDS: Readonly<Partial<Record<AnswerFacts["stopReason"], string>>> = {
  length: "cut at its greatest length",
  abort: "stopped",
  exhausted: "nothing could follow",
};

/** Why an answer ended, where that was not its own end. */
function endOf({ ids, promptIds, stopReason, context }: AnswerFacts): string | undefined {
  const full = stopReason === "length" && promptIds.length + ids.length === context;
  return full ? `cut because the model's ${context} tokens are full` : ENDS[stopReason];
}

function Facts({ facts }: { readonly facts: AnswerFacts }) {
  const { ids, speed, firstMs, truncated, model, backend } = facts;
  const end = endOf(facts);
  const parts = [
    `${ids.length} ${ids.length === 1 ? "token" : "tokens"}`,
    ...(speed === null ? [] : [`${Math.round(speed)} tokens/s`]),
    `first after ${firstMs < 10 ? firstMs.toFixed(1) : Math.round(firstMs)} ms`,
    ...(end === undefined ? [] : [end]),
    ...(truncated === 0 ? [] : [`the first ${truncated} tokens of the conversation left out`]),
    `${model}, ${backendName(backend)}`,
  ];
  return <p class="facts">{parts.join(" · ")}</p>;
}
