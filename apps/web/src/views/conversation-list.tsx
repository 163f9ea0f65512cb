// The list of conversations: one stop for Tab, by the ARIA Authoring Practices' grid. Up and down go to the others, left and right to what
// can be done with one.
import { useEffect, useRef, useState } from "preact/hooks";
import { useApp } from "./context.ts";
import { Entry } from "./conversation-entry.tsx";

export function ConversationList() {
  const conversations = useApp(({ conversations }) => conversations);
  const current = useApp(({ current }) => current.id);
  const grid = useRef<HTMLTableElement>(null);
  /** Where the focus was last: Tab comes back there. */
  const [stop, setStop] = useState<{ readonly id: string; readonly cell: number } | null>(null);
  useEffect(() => {
    grid.current?.querySelector(".entry.current")?.scrollIntoView({ block: "nearest" });
    setStop(null);
  }, [current]);
  const known = (id: string | undefined) => conversations.some((one) => one.id === id);
  const first = known(current) ? current : conversations[0]?.id;
  const { id: stopped, cell } = stop !== null && known(stop.id) ? stop : { id: first, cell: 0 };

  const move = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    // While a name is typed, the keys are the field's.
    if (target instanceof HTMLInputElement) return;
    const rows = [...grid.current!.rows];
    const at = rows.findIndex((row) => row.contains(target));
    const column = [...(rows[at]?.cells ?? [])].findIndex((one) => one.contains(target));
    const end = Number.POSITIVE_INFINITY;
    const [row, wanted] =
      {
        ArrowDown: [rows[at + 1], column] as const,
        ArrowUp: [rows[at - 1], column] as const,
        ArrowRight: [rows[at], column + 1] as const,
        ArrowLeft: [rows[at], column - 1] as const,
        Home: [event.ctrlKey ? rows[0] : rows[at], 0] as const,
        End: event.ctrlKey ? ([rows.at(-1), 0] as const) : ([rows[at], end] as const),
      }[event.key] ?? [];
    if (row === undefined || wanted === undefined) return;
    event.preventDefault();
    row.cells[Math.min(wanted, row.cells.length - 1)]?.querySelector<HTMLElement>("button, input")?.focus();
  };
  return (
    <div class="conversations">
      {/* biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: a grid of buttons, as the Practices make it of a table. */}
      <table ref={grid} role="grid" aria-label="Conversations" onKeyDown={move}>
        <colgroup>
          <col />
          <col class="entry-more" />
        </colgroup>
        <tbody>
          {conversations.map((one) => (
            <Entry
              key={one.id}
              conversation={one}
              current={one.id === current}
              stop={one.id === stopped ? cell : null}
              onStop={(cell) => setStop({ id: one.id, cell })}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
}
