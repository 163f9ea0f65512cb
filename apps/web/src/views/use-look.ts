// The inside of an answer, asked for once and kept as long as the answer is.
import { useEffect, useState } from "preact/hooks";
import { isStopped } from "../engine/client.ts";
import type { AnswerFacts, Look } from "../engine/protocol.ts";
import { usePage } from "./context.ts";

export type Looked = { readonly look: Look } | { readonly fault: string } | null;

const kept = new WeakMap<AnswerFacts, Look>();

/** Null while it is being computed. */
export function useLook(facts: AnswerFacts): Looked {
  const { app } = usePage();
  const [looked, set] = useState<Looked>(null);
  useEffect(() => {
    const known = kept.get(facts);
    if (known !== undefined) {
      set({ look: known });
      return;
    }
    const model = app.state.get().model;
    if (model?.name !== facts.model) {
      const now = model === null ? "none is" : `${model.name} is`;
      set({
        fault: `${facts.model} gave this answer, and ${now} loaded now: only the model that gave it can be looked into.`,
      });
      return;
    }
    const abort = new AbortController();
    set(null);
    app.answers.look(facts, abort.signal).then(
      (look) => {
        kept.set(facts, look);
        set({ look });
      },
      (error: unknown) => {
        if (!isStopped(error)) set({ fault: error instanceof Error ? error.message : String(error) });
      },
    );
    return () => abort.abort();
  }, [app, facts]);
  return looked;
}
