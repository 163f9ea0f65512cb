// An answer token by token: how likely each was, and what else might have stood at its place.
import { useEffect, useRef, useState } from "preact/hooks";
import type { AnswerFacts, Choice, Look } from "../engine/protocol.ts";
import { Bar } from "./bar.tsx";
import { percent } from "./context.ts";
import { quoted, TokenStrip, visible } from "./token-strip.tsx";
import { useLook } from "./use-look.ts";

export function TokenView({ facts }: { readonly facts: AnswerFacts }) {
  const looked = useLook(facts);
  if (looked === null)
    return (
      <p class="quiet" role="status">
        Looking into the answer…
      </p>
    );
  if ("fault" in looked)
    return (
      <p class="quiet" role="status">
        {looked.fault}
      </p>
    );
  return <Tokens look={looked.look} />;
}

function Tokens({ look: { choices } }: { readonly look: Look }) {
  const [chosen, choose] = useState(0);
  const own = useRef<HTMLElement>(null);
  // What was asked for comes into sight, also below the end of the last answer.
  useEffect(() => own.current?.scrollIntoView({ block: "nearest" }), []);
  const choice = choices[chosen];
  return (
    <section ref={own} class="token-view" aria-label="Tokens of the answer">
      <TokenStrip
        label="Tokens of the answer"
        tokens={choices.map(({ text, probability }) => ({
          text,
          label: `${quoted(text)}, ${percent(probability)}`,
          heat: 1 - probability,
        }))}
        chosen={chosen}
        onChoose={choose}
      />
      <p class="legend">
        <span class="scale" aria-hidden="true" /> The less likely a token was, the stronger its colour.
      </p>
      {choice !== undefined && <Alternatives choice={choice} place={chosen} count={choices.length} />}
    </section>
  );
}

function Alternatives({
  choice,
  place,
  count,
}: {
  readonly choice: Choice;
  readonly place: number;
  readonly count: number;
}) {
  const rank = choice.rank === 0 ? "the most likely" : `number ${choice.rank + 1} of the likely ones`;
  return (
    <div class="alternatives">
      <p role="status">
        Token {place + 1} of {count}: <strong>{quoted(choice.text)}</strong>, {percent(choice.probability)} (ln p{" "}
        {logarithm(choice.probability)}), {rank}.
      </p>
      <ol class="bars" aria-label="What might have stood at this place, the most likely first">
        {choice.alternatives.map(({ text, probability }, rank) => (
          <Bar
            key={rank}
            name={visible(text)}
            share={probability}
            number={percent(probability)}
            taken={rank === choice.rank}
          />
        ))}
      </ol>
    </div>
  );
}

/** ln p without a minus before nothing. */
const logarithm = (probability: number): string => {
  const text = Math.abs(Math.log(probability)).toFixed(2);
  return text === "0.00" ? text : `−${text}`;
};
