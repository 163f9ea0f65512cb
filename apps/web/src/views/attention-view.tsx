// What the model attends to: the dynamic mask of a conversation, head by head. Every token has a bias in every head; the strongest are kept.
import { useMemo, useState } from "preact/hooks";
import { biasesOf, type Heads, headsOf } from "../attention/draw.ts";
import { standing, strongest } from "../attention/kept.ts";
import type { AnswerFacts, Look } from "../engine/protocol.ts";
import { Bar } from "./bar.tsx";
import { Dialog } from "./dialog.tsx";
import { HeadMap } from "./head-map.tsx";
import { quoted, TokenStrip, visible } from "./token-strip.tsx";
import { useLook } from "./use-look.ts";

const STRONGEST = 8;

export function AttentionDialog({ facts, onClose }: { readonly facts: AnswerFacts; readonly onClose: () => void }) {
  const looked = useLook(facts);
  return (
    <Dialog title="What the model attends to" class="large" onClose={onClose}>
      {looked === null ? (
        <p class="quiet" role="status">
          Looking into the conversation…
        </p>
      ) : "fault" in looked ? (
        <p role="status">{looked.fault}</p>
      ) : looked.look.biases.length === 0 ? (
        <p role="status">This backend does not show the biases of the mask. WebAssembly does.</p>
      ) : (
        <Attention look={looked.look} />
      )}
    </Dialog>
  );
}

function Attention({ look }: { readonly look: Look }) {
  const { tokens, layers, heads, window } = look;
  const all = useMemo(() => headsOf(look), [look]);
  const [row, setRow] = useState(() => widest(look));
  const [chosen, choose] = useState(Math.min(look.answerFrom, tokens.length - 1));
  const [position, setPosition] = useState(tokens.length - 1);
  const layer = Math.floor(row / heads);
  const head = row % heads;
  const limit =
    window === null ? "keeps all of them" : `keeps the ${window} with the greatest bias and forgets the rest for good`;
  return (
    <div class="attention">
      <p>
        Doge gives every token a number, its <em>bias</em>: the greater it is, the more all later tokens look at it (one
        more is 2.7 times as much). Each of the {layers * heads} heads ({layers} layers of {heads}) has a bias of its
        own for every token, and {limit}.
      </p>
      <div class="controls">
        <label>
          Layer
          <select value={layer} onChange={({ currentTarget }) => setRow(Number(currentTarget.value) * heads + head)}>
            {Array.from({ length: layers }, (_, at) => (
              <option key={at} value={at}>
                {at + 1}
              </option>
            ))}
          </select>
        </label>
        <label>
          Head
          <select value={head} onChange={({ currentTarget }) => setRow(layer * heads + Number(currentTarget.value))}>
            {Array.from({ length: heads }, (_, at) => (
              <option key={at} value={at}>
                {at + 1}
              </option>
            ))}
          </select>
        </label>
        <label class="grow">
          As the text has come to token {position + 1} of {tokens.length}, {quoted(tokens[position]!)}
          <input
            type="range"
            min={0}
            max={tokens.length - 1}
            value={position}
            onInput={({ currentTarget }) => setPosition(Number(currentTarget.value))}
          />
        </label>
      </div>
      <Head look={look} all={all} row={row} position={position} chosen={chosen} onChoose={choose} />
      <h3>All heads</h3>
      <HeadMap
        look={look}
        heads={all}
        marks={{ row, column: chosen, position }}
        onChoose={(cell) => {
          setRow(cell.row);
          choose(cell.column);
        }}
      />
      <Strongest look={look} all={all} row={row} position={position} />
    </div>
  );
}

interface HeadProps {
  readonly look: Look;
  readonly all: Heads;
  readonly row: number;
  readonly position: number;
  readonly chosen: number;
  readonly onChoose: (index: number) => void;
}

function Head({ look, all, row, position, chosen, onChoose }: HeadProps) {
  const { tokens, heads } = look;
  const layer = Math.floor(row / heads);
  const head = row % heads;
  const biases = biasesOf(look, layer, head);
  const dropped = all.dropped[row]!;
  const how = standing(chosen, position, dropped);
  const rank = strongest(biases, Math.max(position, chosen), tokens.length).indexOf(chosen) + 1;
  const fate =
    how === "kept"
      ? "It is kept."
      : how === "not yet"
        ? "At this point of the text it is still to come."
        : dropped[chosen] === chosen
          ? "It was dropped as soon as it came."
          : `It was dropped when token ${dropped[chosen]! + 1} came.`;
  return (
    <>
      <TokenStrip
        label={`The conversation in layer ${layer + 1}, head ${head + 1}`}
        tokens={tokens.map((text, at) => {
          const state = standing(at, position, dropped);
          return {
            text,
            label: `${quoted(text)}, bias ${biases[at]!.toFixed(2)}, ${state}`,
            heat: state === "kept" ? all.strengths[row]![at]! : 0,
            class: state === "kept" ? "" : state === "dropped" ? "dropped" : "coming",
          };
        })}
        chosen={chosen}
        onChoose={onChoose}
      />
      <p role="status" class="sentence">
        <strong>{quoted(tokens[chosen]!)}</strong>, token {chosen + 1} of {tokens.length}, has the bias{" "}
        {biases[chosen]!.toFixed(3)} in layer {layer + 1}, head {head + 1}: number {rank} from the top. {fate}
      </p>
    </>
  );
}

function Strongest({ look, all, row, position }: Omit<HeadProps, "chosen" | "onChoose">) {
  const { tokens, heads } = look;
  const layer = Math.floor(row / heads);
  const head = row % heads;
  const biases = biasesOf(look, layer, head);
  return (
    <>
      <h3 id="strongest-title">
        The strongest tokens of layer {layer + 1}, head {head + 1}
      </h3>
      <ol class="bars" aria-labelledby="strongest-title">
        {strongest(biases, position, STRONGEST).map((at) => (
          <Bar
            key={at}
            name={visible(tokens[at]!)}
            note={`at ${at + 1}`}
            share={all.strengths[row]![at]!}
            number={biases[at]!.toFixed(3)}
          />
        ))}
      </ol>
    </>
  );
}

/** The head whose biases differ most: there is the most to see. */
function widest({ biases, layers, heads, tokens }: Look): number {
  const spans = Array.from({ length: layers * heads }, (_, row) => {
    const own = biases.subarray(row * tokens.length, (row + 1) * tokens.length);
    return (
      own.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY) -
      own.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
    );
  });
  return spans.indexOf(Math.max(...spans));
}
