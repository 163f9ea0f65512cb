// The demo model of this repository: a trained Doge small enough to be committed, with the texts that transformers writes.
import {
  type Checkpoint,
  createTokenizer,
  type Files,
  hasFile,
  openCheckpoint,
  readJson,
  type Tokenizer,
} from "@doge-lm/core";

/** One prompt and its greedy continuation, end of text ignored (golden.json of the package). */
interface DemoText {
  /** The rendered prompt; of a chat when `messages` is not null. */
  readonly text: string;
  readonly messages: readonly object[] | null;
  readonly ids: readonly number[];
  readonly continuation: readonly number[];
  /** Gap between the two highest logits at each step. */
  readonly margins: readonly number[];
  /** The continuation up to the end of text, decoded. */
  readonly answer: string;
  readonly endsAfter: number;
}
export interface DemoModel {
  readonly checkpoint: Checkpoint;
  readonly tokenizer: Tokenizer;
  readonly texts: readonly DemoText[];
  /** Give back the files; the checkpoint cannot be read afterwards. */
  close(): Promise<void>;
}

/** Opens the package's folder, or says in a sentence why it cannot be used. */
export async function openDemoModel(): Promise<DemoModel | string> {
  const [{ folder }, { fileURLToPath }, { demoModel }] = await Promise.all([
    import("@doge-lm/core/node"),
    import("node:url"),
    import("@doge-lm/demo-model"),
  ]);
  const files: Files = folder(fileURLToPath(demoModel));
  for (const file of ["config.json", "golden.json", "tokenizer.json", "tokenizer_config.json"]) {
    if (await hasFile(files, file)) continue;
    await files.close?.();
    return `The demo model has no ${file}.`;
  }
  const golden = (await readJson(files, "golden.json")) as unknown as { readonly entries: readonly DemoText[] };
  return {
    checkpoint: await openCheckpoint(files),
    tokenizer: createTokenizer(await readJson(files, "tokenizer.json"), await readJson(files, "tokenizer_config.json")),
    texts: golden.entries,
    close: async () => files.close?.(),
  };
}
