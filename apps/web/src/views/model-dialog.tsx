// The dialog about models: what answers now and where, another backend, another model, what is stored.
import { useEffect, useRef, useState } from "preact/hooks";
import type { LoadRequest, ModelSource } from "../engine/protocol.ts";
import { BackendChooser } from "./backend-chooser.tsx";
import { useApp, usePage } from "./context.ts";
import { Dialog } from "./dialog.tsx";
import { LoadingProgress, ModelNow } from "./model-now.tsx";
import { HubForm, LocalChooser } from "./model-sources.tsx";
import { Notices } from "./notices.tsx";
import { Stored } from "./stored.tsx";

export function ModelDialog({ onClose }: { readonly onClose: () => void }) {
  const { app } = usePage();
  const dtype = useApp(({ settings }) => settings.dtype);
  const [fault, setFault] = useState("");
  const here = useRef(true);
  useEffect(
    () => () => {
      here.current = false;
    },
    [],
  );
  const load = async (source: ModelSource, change: Partial<LoadRequest> = {}) => {
    setFault("");
    const { backend, threads } = app.state.get().settings;
    const request = { source, backend, dtype, threads: threads ?? undefined, ...change };
    if (!(await app.models.load(request))) return;
    // Who downloads a model wants it to stay.
    if (source.kind === "hub") void navigator.storage?.persist?.();
    // It may have been closed meanwhile, and what is open now is another one.
    if (here.current) onClose();
  };
  return (
    <Dialog title="Model and backend" onClose={onClose}>
      <ModelNow />
      <BackendChooser />
      <section class="group" aria-labelledby="other-title">
        <h3 id="other-title">Another model</h3>
        <div class="source">
          <div>
            <strong>The demo model</strong>
            <p class="quiet small">1.7 million parameters, part of this page: it is there at once.</p>
          </div>
          <button type="button" class="button" onClick={() => void load({ kind: "demo" }, { dtype: "f32" })}>
            Use
          </button>
        </div>
        <HubForm onLoad={load} />
        <LocalChooser onLoad={load} onFault={setFault} />
        {fault !== "" && (
          <p class="fault" role="alert">
            {fault}
          </p>
        )}
        <label class="field">
          Weights are held as
          <select
            value={dtype}
            onChange={({ currentTarget }) => app.set({ dtype: currentTarget.value as LoadRequest["dtype"] })}
          >
            <option value="q8">q8: a quarter of the memory, nearly the same answers</option>
            <option value="q4">q4: an eighth of the memory, a little worse</option>
            <option value="bf16">bf16: half the memory</option>
            <option value="f32">f32: exact</option>
          </select>
        </label>
      </section>
      <Stored onLoad={(name) => void load({ kind: "hub", name })} />
      {/* In sight wherever the dialog is scrolled to. */}
      <div class="dialog-foot">
        <Notices lasting />
        <LoadingProgress />
      </div>
    </Dialog>
  );
}
