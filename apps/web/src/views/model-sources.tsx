// Models from a hub by name, and from this machine as a folder or as files.
import { useRef, useState } from "preact/hooks";
import type { LoadRequest, ModelSource } from "../engine/protocol.ts";
import { hubName } from "../state/hub-name.ts";
import { chosenFiles, nameOfFiles } from "../storage/local-files.ts";
import { Icon } from "./icons.tsx";

type Load = (source: ModelSource, change?: Partial<LoadRequest>) => Promise<void>;

/** Instruct models of the architecture, small ones first. */
const KNOWN = ["SmallDoge/Doge-20M-Instruct", "SmallDoge/Doge-60M-Instruct", "SmallDoge/Doge-160M-Instruct"];

export function HubForm({ onLoad }: { readonly onLoad: Load }) {
  const submit = (form: HTMLFormElement) => {
    const data = new FormData(form);
    const text = (name: string) => {
      const value = (data.get(name) as string).trim();
      return value === "" ? undefined : value;
    };
    const name = text("name");
    if (name === undefined) return;
    const { revision, endpoint, ...named } = hubName(name);
    void onLoad({
      kind: "hub",
      ...named,
      revision: text("revision") ?? revision,
      endpoint: text("endpoint") ?? endpoint,
      token: text("token"),
    });
  };
  return (
    <form
      class="source stacked"
      onSubmit={(event) => {
        event.preventDefault();
        submit(event.currentTarget);
      }}
    >
      <label class="field" for="hub-name">
        <strong>From a hub</strong>
        <span class="quiet small">Downloaded once, then kept in this browser.</span>
      </label>
      <div class="row">
        <input
          id="hub-name"
          name="name"
          class="grow"
          list="known-models"
          placeholder="SmallDoge/Doge-60M-Instruct"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          required
        />
        <button type="submit" class="button primary">
          Load
        </button>
      </div>
      <datalist id="known-models">
        {KNOWN.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <details>
        <summary>Revision, hub and token</summary>
        <div class="fields">
          <label class="field">
            Revision
            <input name="revision" placeholder="main" autocomplete="off" spellcheck={false} />
          </label>
          <label class="field">
            Address of the hub
            <input name="endpoint" type="url" placeholder="https://huggingface.co" autocomplete="off" />
          </label>
          <label class="field">
            Access token
            <input name="token" type="password" placeholder="only for gated models; not kept" autocomplete="off" />
          </label>
        </div>
      </details>
    </form>
  );
}

export function LocalChooser({
  onLoad,
  onFault,
}: {
  readonly onLoad: Load;
  readonly onFault: (sentence: string) => void;
}) {
  const folder = useRef<HTMLInputElement>(null);
  const files = useRef<HTMLInputElement>(null);
  const [name, setName] = useState("");
  const choose = ({ currentTarget }: { currentTarget: HTMLInputElement }) => {
    const list = [...(currentTarget.files ?? [])];
    currentTarget.value = "";
    if (list.length === 0) return;
    try {
      const source = { kind: "files", name: nameOfFiles(list), files: chosenFiles(list) } as const;
      setName(source.name);
      void onLoad(source);
    } catch (error) {
      onFault((error as Error).message);
    }
  };
  return (
    <div class="source stacked">
      <div>
        <strong>From this machine</strong>
        <p class="quiet small">
          A folder with config.json, the safetensors files and the tokenizer's files. It is read where it lies and not
          copied; dropping it onto the page does the same.
        </p>
      </div>
      <div class="row wrap">
        <button type="button" class="button" onClick={() => folder.current?.click()}>
          <Icon name="folder" /> Choose a folder
        </button>
        <button type="button" class="button" onClick={() => files.current?.click()}>
          <Icon name="upload" /> Choose files
        </button>
        {name !== "" && <span class="quiet small">{name}</span>}
      </div>
      <input
        ref={folder}
        id="local-folder"
        type="file"
        hidden
        multiple
        {...{ webkitdirectory: true }}
        onChange={choose}
      />
      <input ref={files} id="local-files" type="file" hidden multiple onChange={choose} />
    </div>
  );
}
