// A model's files to a Doge: checkpoint, tokenizer, chat template and defaults, on a backend.
import type { Backend, LoadOptions, Provider } from "./backend.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { ChooseOptions } from "./choosing/choose.ts";
import { choose } from "./choosing/lazy.ts";
import { broken, nothingOpened, type Tried } from "./choosing/tried.ts";
import { checked } from "./contract/checked.ts";
import type { LastingCheckpoint } from "./contract/recovering-model.ts";
import type { Fallback } from "./contract/recovery.ts";
import { aborted, DogeError, isDogeError } from "./errors.ts";
import type { HubOptions, Progress } from "./hub/options.ts";
import type { Json } from "./json.ts";
import { type Files, hasFile, readJson, readText } from "./loading/files.ts";
import { type GenerationDefaults, readGenerationConfig } from "./loading/generation-config.ts";
import { openCheckpoint } from "./loading/open.ts";
import { Doge, type DogeParts } from "./running/doge.ts";
import { show } from "./show.ts";
import { chatTemplate } from "./text/chat.ts";
import { createTokenizer, type Tokenizer, type TokenizerFactory } from "./text/tokenizer.ts";

/** A folder, a hub's name ("owner/name"), a browser's files, or files by name; or Files of one's own, which the caller closes. */
export type Source = string | readonly File[] | { readonly [name: string]: Blob | Uint8Array } | Files;

/** How to load; revision, endpoint, token, cacheDir and offline are for hub names. */
export interface LoadDogeOptions extends LoadOptions, Omit<HubOptions, "weights"> {
  /** Where to run it; of a list, where choose() finds that this model is decoded fastest, until that one fails. */
  readonly backend: Provider | readonly Provider[];
  /** How to choose from a list; config and dtype are the model's. */
  readonly choosing?: Omit<ChooseOptions, "config" | "dtype" | "routing" | "signal" | "onFallback"> | undefined;
  /** Told when a backend of a list fails and is opened again, or another takes over. Default: a warning on the console. */
  readonly onFallback?: ((fallback: Fallback) => void) | undefined;
  /** Generations that run at once and share their calls, at most; the others wait. Default 16; each needs `room`. */
  readonly rows?: number | undefined;
  /** What makes the tokenizer from the model's files; default `createTokenizer`. */
  readonly tokenizer?: TokenizerFactory | undefined;
}

/** Load the Doge in `source`. A folder with config.json and weights alone works with ids; it then has no tokenizer.
 *  Errors: those of fetching a hub's model and of opening files, of the backend's open and load, "tokenizer-invalid", "unavailable", "aborted". */
export async function loadDoge(source: Source, options: LoadDogeOptions): Promise<Doge> {
  const start = performance.now();
  const {
    backend: providers,
    onProgress,
    revision,
    endpoint,
    token,
    cacheDir,
    offline,
    rows,
    tokenizer,
    choosing,
    onFallback,
    ...load
  } = options;
  if (providers === undefined) {
    throw new DogeError("invalid-argument", "backend is undefined; it must be a provider or a list of providers.");
  }
  if (rows !== undefined && !(Number.isInteger(rows) && rows > 0)) {
    throw new DogeError("invalid-argument", `rows is ${show(rows)}; it must be a whole number above 0.`);
  }
  const { signal } = load;
  if (signal?.aborted) throw aborted(signal);
  const files = await open(source, { revision, endpoint, token, cacheDir, offline, signal, onProgress });
  let backend: Backend | undefined;
  try {
    const counted = counter(files, onProgress);
    const checkpoint = await openCheckpoint(counted.files, { signal });
    const text = await readTextFiles(files, tokenizer, signal);
    const { config } = checkpoint;
    const { dtype, routing } = load;
    const fallbacks: Fallback[] = [];
    const note = (fallback: Fallback) => {
      fallbacks.push(fallback);
      if (onFallback === undefined) console.warn(`[doge:core] ${fallback.message}`);
      else onFallback(fallback);
    };
    const chosen = isList(providers)
      ? await choose(providers, { ...choosing, config, dtype, routing, signal, onFallback: note })
      : await openOnly(providers, signal);
    backend = checked(chosen.backend);
    counted.begin(checkpoint.source.files);
    const model = await backend.load(
      lasting(checkpoint, source, { revision, endpoint, token, cacheDir, offline }),
      load,
    );
    counted.end();
    const loadMs = performance.now() - start;
    const warnings = [...(files.notices ?? []), ...(checkpoint.warnings ?? []), ...text.warnings];
    const info = {
      ...{ source: files.name, loadMs, warnings, fallbacks },
      get tried() {
        return chosen.tried;
      },
    };
    const parts: DogeParts = { backend, model, ...text, info, rows, observe: chosen.observe };
    return new Doge(parts);
  } catch (error) {
    await backend?.close();
    throw error;
  } finally {
    if (files !== source) await files.close?.();
  }
}

/** The checkpoint, and a way to have it again after its files were closed: for backends that outlive their device. */
function lasting(checkpoint: Checkpoint, source: Source, options: HubOptions): Checkpoint | LastingCheckpoint {
  if (isFiles(source) && source.reopen === undefined) return checkpoint; // whose owner keeps them open, or not
  return {
    ...checkpoint,
    async reopen() {
      const files = isFiles(source) ? await source.reopen!() : await open(source, options);
      return { ...(await openCheckpoint(files)), close: async () => files.close?.() };
    },
  };
}

async function open(source: Source, options: HubOptions): Promise<Files> {
  if (isFiles(source)) return source;
  // Folders and caches belong to a platform: which one this is, the package's export conditions say.
  const { openSource } = await import("@doge-lm/core/platform");
  return openSource(source, options);
}

const isFiles = (source: Source): source is Files =>
  typeof source === "object" && source !== null && "read" in source && typeof source.read === "function";

const isList = (backend: Provider | readonly Provider[]): backend is readonly Provider[] => Array.isArray(backend);

/** The only provider there is. Errors: "unavailable", with its reason; "aborted". */
async function openOnly(provider: Provider, signal: AbortSignal | undefined) {
  const { name } = provider;
  try {
    const backend = await provider.open(signal);
    const availability = { available: true, ...backend.can } as const;
    const tried: readonly Tried[] = [{ name, availability, state: "chosen", reason: "It is the only one given." }];
    return { backend, tried, observe: undefined };
  } catch (error) {
    if (signal?.aborted) throw aborted(signal);
    if (isDogeError(error, "unavailable")) throw error;
    throw nothingOpened([broken(name, error)]);
  }
}

async function readTextFiles(
  files: Files,
  create: TokenizerFactory = createTokenizer,
  signal: AbortSignal | undefined,
): Promise<{
  tokenizer: Tokenizer | null;
  chatTemplate: string | null;
  defaults: GenerationDefaults;
  warnings: readonly string[];
}> {
  const json = async (file: string): Promise<Json | undefined> =>
    (await hasFile(files, file)) ? readJson(files, file, signal) : undefined;
  const tokenizerJson = await json("tokenizer.json");
  const tokenizerConfig = await json("tokenizer_config.json");
  const generation = await json("generation_config.json");
  const { defaults, warnings } =
    generation === undefined ? { defaults: {}, warnings: [] } : readGenerationConfig(generation);
  const jinja = (await hasFile(files, "chat_template.jinja"))
    ? await readText(files, "chat_template.jinja", undefined, signal)
    : null;
  return {
    tokenizer: tokenizerJson === undefined ? null : await create(tokenizerJson, tokenizerConfig),
    chatTemplate: chatTemplate({ jinja, tokenizerConfig, json: await json("chat_template.json") }),
    defaults,
    warnings,
  };
}

/** Files whose reads of weights are counted from begin() on: what was looked at before is no progress. */
function counter(files: Files, onProgress: ((progress: Progress) => void) | undefined) {
  const progress = new Map<string, { loaded: number; readonly total: number }>();
  const tell = (file: string, { loaded, total }: { loaded: number; total: number }) =>
    onProgress?.({ file, loaded: Math.min(loaded, total), total });
  const counting: Files = {
    name: files.name,
    list: () => files.list(),
    size: (file) => files.size(file),
    read: async (file, from, to, signal) => {
      const bytes = await files.read(file, from, to, signal);
      const count = progress.get(file);
      if (count !== undefined) {
        count.loaded += bytes.length;
        tell(file, count);
      }
      return bytes;
    },
  };
  return {
    files: counting,
    begin: (weights: readonly { readonly name: string; readonly bytes: number }[]) => {
      for (const { name, bytes } of weights) progress.set(name, { loaded: 0, total: bytes });
    },
    /** Headers and padding are not read again: what is loaded is all of it. */
    end: () => {
      for (const [file, { total }] of progress) tell(file, { loaded: total, total });
    },
  };
}
