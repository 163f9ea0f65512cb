// Which version of a turn is in sight, and the way to the others; nothing where there is one alone.
import { useEffect, useRef } from "preact/hooks";
import type { Turn } from "../state/conversation.ts";
import { versionsOf } from "../state/versions.ts";
import { useApp, useBusy, usePage } from "./context.ts";
import { IconButton } from "./icons.tsx";

export function VersionSwitch({ turn, what }: { readonly turn: Turn; readonly what: "message" | "answer" }) {
  const { app } = usePage();
  const busy = useBusy();
  const turns = useApp(({ current }) => current.turns);
  const own = useRef<HTMLDivElement>(null);
  // Answers differ in length: the way on stays in sight.
  useEffect(() => {
    if (own.current?.contains(document.activeElement)) own.current.scrollIntoView({ block: "nearest" });
  }, [turn.id]);
  const versions = versionsOf(turns, turn);
  const place = versions.findIndex(({ id }) => id === turn.id);
  if (versions.length < 2) return null;
  const go = (to: number) => {
    const next = versions[to];
    if (next === undefined || busy) return;
    void app.conversations.see(next.id, `Version ${to + 1} of ${versions.length}.`);
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms.
    <div ref={own} class="versions" role="group" aria-label={`Versions of this ${what}`}>
      {/* At the ends they keep the focus, and do nothing. */}
      <IconButton icon="back" label="The version before" idle={busy || place === 0} onClick={() => go(place - 1)} />
      <span class="versions-place">
        <span class="sr-only">Version </span>
        {place + 1} / {versions.length}
      </span>
      <IconButton
        icon="forth"
        label="The next version"
        idle={busy || place === versions.length - 1}
        onClick={() => go(place + 1)}
      />
    </div>
  );
}
