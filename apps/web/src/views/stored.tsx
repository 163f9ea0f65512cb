// What lies in this browser's storage, and away with it.
import { useEffect, useState } from "preact/hooks";
import { removeModel, type StorageUse, storageUse } from "../storage/models.ts";
import { bytes, refocus, usePage } from "./context.ts";
import { IconButton } from "./icons.tsx";

const OFFLINE = {
  unsupported: "The page itself needs a network: there is no service worker here.",
  preparing: "The page itself is being kept for days without a network…",
  ready: "The page itself and the demo model are kept, too: they open without a network.",
  failed: "The page itself could not be kept, and needs a network the next time.",
} as const;

export function Stored({ onLoad }: { readonly onLoad: (name: string) => void }) {
  const { offline } = usePage();
  const [use, setUse] = useState<StorageUse | null>(null);
  const look = () => storageUse().then(setUse, () => setUse({ models: [], used: null, most: null }));
  useEffect(() => void look(), []);
  return (
    <section class="group" aria-labelledby="stored-title">
      <h3 id="stored-title">Kept in this browser</h3>
      {use !== null && use.models.length > 0 && (
        <ul class="stored">
          {use.models.map(({ name, bytes: size, whole }) => (
            <li key={name} class="row between">
              <span>
                {name}{" "}
                <span class="quiet small">
                  {bytes(size)}
                  {whole ? "" : ", a part of it"}
                </span>
              </span>
              <span class="row">
                <button type="button" class="button small" onClick={() => onLoad(name)}>
                  {whole ? "Load" : "Go on"}
                </button>
                <IconButton
                  icon="trash"
                  label={`Delete ${name}`}
                  onClick={() => void removeModel(name).then(look).then(refocus)}
                />
              </span>
            </li>
          ))}
        </ul>
      )}
      <p class="quiet small">
        {use !== null && use.models.length === 0 && "No model was downloaded. "}
        {use?.used != null &&
          `${bytes(use.used)} are used${use.most === null ? "" : ` of ${bytes(use.most)} that the browser allows`}. `}
        {OFFLINE[offline]}
      </p>
    </section>
  );
}
