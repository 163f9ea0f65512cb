// A text as its tokens, of which one is chosen: by pointing, or by Tab into it and the arrow keys.
import { Fragment } from "preact";
import { useEffect, useRef } from "preact/hooks";

export interface StripToken {
  readonly text: string;
  /** For screen readers: the text and what is to be known of it. */
  readonly label: string;
  /** 0 to 1: how strongly it is coloured. */
  readonly heat: number;
  readonly class?: string;
}

/** Spaces and ends of lines made visible. */
export const visible = (text: string): string =>
  text === "" ? "∅" : text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replace(/^ /, "·");

const CONTROL = /^<\|.*\|>$/;

/** For sentences: in quotation marks. */
export const quoted = (text: string): string =>
  text.trim() === "" ? `“${visible(text).trim()}”` : `“${text.replaceAll("\n", "↵").trim()}”`;

export function TokenStrip({
  label,
  tokens,
  chosen,
  onChoose,
}: {
  readonly label: string;
  readonly tokens: readonly StripToken[];
  readonly chosen: number;
  readonly onChoose: (index: number) => void;
}) {
  const strip = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // The strip scrolls, not the page around it.
    const { current: box } = strip;
    const token = box?.querySelectorAll("button")[chosen];
    if (box && token) box.scrollTop = token.offsetTop - box.offsetTop - box.clientHeight / 3;
  }, []);
  const move = (index: number) => {
    const next = Math.min(tokens.length - 1, Math.max(0, index));
    onChoose(next);
    strip.current?.querySelectorAll("button")[next]?.focus();
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms.
    <div
      ref={strip}
      class="strip"
      role="group"
      aria-label={`${label}; the arrow keys move among the tokens`}
      onKeyDown={(event) => {
        const to = {
          ArrowRight: chosen + 1,
          ArrowDown: chosen + 1,
          ArrowLeft: chosen - 1,
          ArrowUp: chosen - 1,
          Home: 0,
          End: tokens.length - 1,
        }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        move(to);
      }}
    >
      {tokens.map((token, index) => (
        <Fragment key={index}>
          <button
            type="button"
            tabIndex={index === chosen ? 0 : -1}
            aria-label={token.label}
            aria-pressed={index === chosen}
            class={`token ${CONTROL.test(token.text) ? "control" : ""} ${token.class ?? ""}`}
            style={{ "--heat": `${Math.round(100 * token.heat)}%` }}
            onClick={() => move(index)}
            onFocus={() => onChoose(index)}
            onPointerEnter={({ pointerType }) => pointerType === "mouse" && onChoose(index)}
          >
            {visible(token.text)}
          </button>
          {token.text.endsWith("\n") && <br />}
        </Fragment>
      ))}
    </div>
  );
}
