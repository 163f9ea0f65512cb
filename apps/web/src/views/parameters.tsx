// How answers are drawn, and the system message.
import { useId } from "preact/hooks";
import { DEFAULT_PARAMETERS, fitted, type Parameters, RANGES, seedOf } from "../state/settings.ts";
import { useApp, usePage } from "./context.ts";
import { Dialog } from "./dialog.tsx";

const WORDS: Readonly<
  Record<keyof typeof RANGES, { readonly name: string; readonly says: string; readonly draws: boolean }>
> = {
  temperature: {
    name: "Temperature",
    says: "0: always the most likely token. Higher: more surprising.",
    draws: false,
  },
  topK: { name: "Top-k", says: "Draw among the k most likely tokens; 0: all.", draws: true },
  topP: { name: "Top-p", says: "Draw among the most likely tokens that together reach this probability.", draws: true },
  minP: { name: "Min-p", says: "Leave out tokens less likely than this share of the most likely one.", draws: true },
  repetitionPenalty: {
    name: "Repetition penalty",
    says: "Above 1: tokens that were there already become less likely.",
    draws: false,
  },
  maxNewTokens: { name: "Longest answer", says: "Tokens at most.", draws: false },
};
const ORDER = ["temperature", "topK", "topP", "minP", "repetitionPenalty", "maxNewTokens"] as const;

export function ParametersDialog({ onClose }: { readonly onClose: () => void }) {
  const { app } = usePage();
  const parameters = useApp(({ settings }) => settings.parameters);
  const system = useApp(({ current }) => current.system);
  const standard = useApp(({ settings }) => settings.system);
  const greedy = parameters.temperature === 0;
  return (
    <Dialog title="Parameters" class="side" onClose={onClose}>
      <section class="group">
        <label class="field">
          <strong>System message of this conversation</strong>
          <textarea
            rows={3}
            dir="auto"
            value={system}
            placeholder="You are a helpful assistant."
            onInput={({ currentTarget }) => void app.conversations.setSystem(currentTarget.value)}
          />
        </label>
        <div class="row wrap">
          <button type="button" class="button small" disabled={system === standard} onClick={() => app.set({ system })}>
            Use it for new conversations, too
          </button>
        </div>
      </section>
      <section class="group" aria-label="How answers are drawn">
        {ORDER.map((name) => (
          <Slider
            key={name}
            name={name}
            value={parameters[name]}
            idle={greedy && WORDS[name].draws}
            onChange={(value) => app.setParameters({ [name]: value })}
          />
        ))}
        <label class="field">
          <strong>Seed</strong>
          <span class="quiet small">The same seed gives the same answer again; empty: another one each time.</span>
          <input
            inputMode="numeric"
            value={parameters.seed ?? ""}
            placeholder="random"
            disabled={greedy}
            onChange={({ currentTarget }) => {
              const seed = seedOf(currentTarget.value);
              currentTarget.value = seed === null ? "" : `${seed}`;
              app.setParameters({ seed });
            }}
          />
        </label>
        {greedy && (
          <p class="quiet small">
            At temperature 0 nothing is drawn: top-k, top-p, min-p and the seed have nothing to do.
          </p>
        )}
        <button type="button" class="button" onClick={() => app.setParameters(DEFAULT_PARAMETERS)}>
          Back to the defaults
        </button>
      </section>
    </Dialog>
  );
}

function Slider({
  name,
  value,
  idle,
  onChange,
}: {
  readonly name: Exclude<keyof Parameters, "seed">;
  readonly value: number;
  readonly idle: boolean;
  readonly onChange: (value: number) => void;
}) {
  const { least, most, step } = RANGES[name];
  const words = WORDS[name];
  const id = useId();
  const change = (text: string) => onChange(fitted(name, Number(text)));
  return (
    <div class={idle ? "slider idle" : "slider"}>
      <label for={id}>
        <strong>{words.name}</strong>
      </label>
      <input
        class="number-field"
        type="number"
        min={least}
        max={most}
        step={step}
        value={value}
        disabled={idle}
        aria-label={`${words.name}, as a number`}
        onChange={({ currentTarget }) => {
          // Nothing, or no number: it stays as it was.
          if (currentTarget.value === "") currentTarget.value = `${value}`;
          else change(currentTarget.value);
        }}
      />
      <input
        id={id}
        type="range"
        min={least}
        max={most}
        step={step}
        value={value}
        disabled={idle}
        aria-describedby={`${id}-says`}
        onInput={({ currentTarget }) => change(currentTarget.value)}
      />
      <p id={`${id}-says`} class="quiet small">
        {words.says}
      </p>
    </div>
  );
}
