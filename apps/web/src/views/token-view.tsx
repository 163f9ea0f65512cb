// An answer token by token: how likely each was, and what else might have stood at its place.
import { useState } from "preact/hooks";
import type { Choice } from "../engine/protocol.ts";
import type { TurnFacts } from "../state/conversation.ts";
import { percent } from "./context.ts";
import { quoted, TokenStrip, visible } from "./token-strip.tsx";
import { useLook } from "./use-look.ts";

export function TokenView({ index, facts }: { readonly index: number; readonly facts: TurnFacts }) {
  const looked = useLook(index, facts);
  const [chosen, choose] = useState(0);
  if (looked === null) return <p class="quiet" role="status">Looking into the answer…</p>;
  if ("fault" in looked) return <p class="quiet" role="status">{looked.fault}</p>;
  const { choices } = looked.look;
  const choice = choices[chosen];
  return (
    <section class="token-view" aria-label="Tokens of the answer">
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

function Alternatives({ choice, place, count }: { readonly choice: Choice; readonly place: number; readonly count: number }) {
  const rank = choice.rank === 0 ? "the most likely" : `number ${choice.rank + 1} of the likely ones`;
  return (
    <div class="alternatives">
      <p role="status">
        Token {place + 1} of {count}: <strong>{quoted(choice.text)}</strong>, {percent(choice.probability)} (ln p{" "}
        {Math.log(choice.probability).toFixed(2)}), {rank}.
      </p>
      <table>
        <caption class="sr-only">What might have stood at this place</caption>
        <thead class="sr-only">
          <tr>
            <th scope="col">Token</th>
            <th scope="col">Probability</th>
          </tr>
        </thead>
        <tbody>
          {choice.alternatives.map(({ text, probability }, rank) => (
            <tr key={rank} class={rank === choice.rank ? "taken" : ""}>
              <th scope="row">
                <code>{visible(text)}</code>
                {rank === choice.rank && <span class="sr-only"> (taken)</span>}
              </th>
              <td>
                <span class="bar-track" aria-hidden="true">
                  <span class="bar-fill" style={{ width: `${Math.max(0.5, 100 * probability)}%` }} />
                </span>
                <span class="number">{percent(probability)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
