// A line of a list: a name, a bar, a number.
export function Bar({
  name,
  note,
  share,
  number,
  taken = false,
}: {
  readonly name: string;
  readonly note?: string;
  /** 0 to 1. */
  readonly share: number;
  readonly number: string;
  /** It is the one that was taken. */
  readonly taken?: boolean;
}) {
  return (
    <li class={taken ? "bar-line taken" : "bar-line"}>
      <span class="bar-name">
        <code>{name}</code>
        {note !== undefined && <span class="quiet small"> {note}</span>}
        {taken && <span class="sr-only"> (taken)</span>}
      </span>
      <span class="bar-track" aria-hidden="true">
        <span class="bar-fill" style={{ width: `${Math.max(0.5, 100 * share)}%` }} />
      </span>
      <span class="number">{number}</span>
    </li>
  );
}
