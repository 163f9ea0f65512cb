// The conversation itself: what was said and answered, and the system message above.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { inSight, pathTo } from "../state/versions.ts";
import { Answer } from "./answer.tsx";
import { refocus, useApp } from "./context.ts";
import { IconButton } from "./icons.tsx";
import { useParse } from "./markdown.tsx";
import { Question } from "./question.tsx";
import { Welcome } from "./welcome.tsx";
import { Writing } from "./writing.tsx";

/** So near the end counts as being there. */
const NEAR = 120;

export function Thread() {
  const current = useApp(({ current }) => current);
  /** The turn that is being answered: what stands behind it makes room. */
  const answered = useApp(({ answering }) => answering?.to ?? null);
  const turns = useMemo(
    () => (answered === null ? inSight(current) : pathTo(current.turns, answered)),
    [current, answered],
  );
  const scroller = useRef<HTMLElement>(null);
  const following = useRef(true);
  /** Where the page itself last scrolled to. */
  const brought = useRef(-1);
  const [away, setAway] = useState(false);
  const follow = (follows: boolean) => {
    following.current = follows;
    setAway(!follows);
  };

  const empty = turns.length === 0;
  const bring = () => {
    const { current: box } = scroller;
    if (box === null) return;
    box.scrollTop = empty ? 0 : box.scrollHeight;
    brought.current = box.scrollTop;
  };
  // The end stays in sight, unless the person has scrolled away from it.
  const keepUp = () => {
    if (following.current && !empty) bring();
  };
  // A notice below, a keyboard on the screen: there is less room, and the end still stays.
  const end = useRef(keepUp);
  end.current = keepUp;
  useEffect(() => {
    const observer = new ResizeObserver(() => end.current());
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);
  // Something new was said, perhaps in another tab. What only comes into sight, as another version, stays where it is.
  useEffect(keepUp, [current.updated]);
  // As Markdown, what was drawn as plain text takes another height.
  const parse = useParse();
  useEffect(keepUp, [parse]);
  // Another conversation, or a question: to its end.
  useEffect(() => {
    if (answered !== null) toEnd();
  }, [answered]);
  useEffect(() => {
    toEnd();
  }, [current.id, empty]);

  function toEnd(): void {
    follow(true);
    bring();
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
          const near = scrollHeight - scrollTop - clientHeight < NEAR;
          // The event comes a frame late: by then there may be less room, which is not the person's doing.
          if (near || scrollTop !== brought.current) follow(near);
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
                {turns.map((turn, index) => {
                  const View = turn.role === "user" ? Question : Answer;
                  // Versions of one turn share their place, and with it the focus.
                  return <View key={`${turn.role} to ${turn.parent}`} turn={turn} last={index === turns.length - 1} />;
                })}
                <Writing onGrow={keepUp} />
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
