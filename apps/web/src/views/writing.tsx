// The answer that is being written, here or in another tab.
import { useEffect } from "preact/hooks";
import { useApp } from "./context.ts";
import { Markdown } from "./markdown.tsx";

/** Apart from the rest of the conversation, which is not drawn again with every token. */
export function Writing({ onGrow }: { readonly onGrow: () => void }) {
  const answering = useApp(({ answering }) => answering);
  const elsewhere = useApp(({ elsewhere }) => elsewhere);
  useEffect(onGrow, [answering, elsewhere]);
  if (answering === null && !elsewhere) return null;
  return (
    <li class="turn answer" aria-busy="true">
      <h2 class="who">Doge</h2>
      {answering === null || answering.text === "" ? (
        <p class="thinking">
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {answering === null ? (
            <span class="quiet">Another tab is answering in this conversation.</span>
          ) : (
            <span class="sr-only">Reading the conversation</span>
          )}
        </p>
      ) : (
        <Markdown text={answering.text} writing />
      )}
      <p class="facts">
        {answering !== null && answering.tokens > 0 && `${answering.tokens} tokens`}
        {answering !== null && answering.speed !== null && ` · ${Math.round(answering.speed)} tokens/s`}
      </p>
    </li>
  );
}
