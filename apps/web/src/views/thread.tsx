// The conversation itself: what was said and answered, the answer that is being written, and the system message above.
import { useEffect, useRef, useState } from "preact/hooks";
import { refocus, useApp } from "./context.ts";
import { IconButton } from "./icons.tsx";
import { Markdown } from "./markdown.tsx";
import { Answer, Question } from "./message.tsx";
import { Welcome } from "./welcome.tsx";

/** So near the end counts as being there. */
const NEAR = 120;

export function Thread() {
  const current = useApp(({ current }) => current);
  const answering = useApp(({ answering }) => answering);
  const scroller = useRef<HTMLElement>(null);
  const following = useRef(true);
  const [away, setAway] = useState(false);
  const follow = (follows: boolean) => {
    following.current = follows;
    setAway(!follows);
  };

  const empty = current.turns.length === 0 && answering === null;

  // The end stays in sight, unless the person has scrolled away from it.
  useEffect(() => {
    const { current: box } = scroller;
    if (box !== null && following.current && !empty) box.scrollTop = box.scrollHeight;
  }, [current, answering]);
  // Another conversation, or a question: to its end.
  useEffect(() => {
    toEnd();
  }, [current.id, current.turns.length]);

  function toEnd(): void {
    follow(true);
    const { current: box } = scroller;
    if (box !== null) box.scrollTop = empty ? 0 : box.scrollHeight;
  }
  return (
    <>
      <section
        ref={scroller}
        class="thread"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, also by keyboard.
        tabIndex={0}
        aria-label="Conversation"
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          follow(scrollHeight - scrollTop - clientHeight < NEAR);
        }}
      >
        <div class="column">
          {empty ? (
            <Welcome />
          ) : (
            <>
              <h1 class="sr-only">{current.title}</h1>
              {current.system.trim() !== "" && (
                <p class="system" dir="auto">
                  <span class="quiet">System:</span> {current.system}
                </p>
              )}
              {/* What is opened in a turn belongs to its conversation. */}
              <ol key={current.id} class="turns">
                {current.turns.map((turn, index) =>
                  turn.role === "user" ? (
                    <Question key={index} turn={turn} index={index} last={index === current.turns.length - 1} />
                  ) : (
                    <Answer key={index} turn={turn} index={index} last={index === current.turns.length - 1} />
                  ),
                )}
                {answering !== null && (
                  <li class="turn answer" aria-busy="true">
                    <h2 class="who">Doge</h2>
                    {answering.text === "" ? (
                      <p class="thinking">
                        <span class="sr-only">Reading the conversation</span>
                        <span class="dots" aria-hidden="true">
                          <i />
                          <i />
                          <i />
                        </span>
                      </p>
                    ) : (
                      <Markdown text={answering.text} writing />
                    )}
                    <p class="facts">
                      {answering.tokens > 0 && `${answering.tokens} tokens`}
                      {answering.speed !== null && ` · ${Math.round(answering.speed)} tokens/s`}
                    </p>
                  </li>
                )}
              </ol>
            </>
          )}
        </div>
      </section>
      {away && !empty && (
        <IconButton
          icon="down"
          class="to-end"
          label="To the end of the conversation"
          onClick={() => {
            toEnd();
            refocus();
          }}
        />
      )}
    </>
  );
}
