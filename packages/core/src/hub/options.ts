// What a caller may say about fetching a model by name.

/** Bytes of one file so far: fetched from a hub, or read into the backend. */
export interface Progress {
  readonly file: string;
  readonly loaded: number;
  readonly total: number;
  /** Only while files are fetched: all of them together. Falls back when a file must be fetched again. */
  readonly overall?: { readonly loaded: number; readonly total: number };
}

/** How a model is fetched by name. Under Node, what is left out comes from HF_ENDPOINT, HF_TOKEN (or the token file that
 *  logging in leaves), HF_HUB_CACHE, HF_HOME and HF_HUB_OFFLINE, as for Python's hub library. */
export interface HubOptions {
  /** A branch, a tag or a commit; default "main". A whole commit hash pins every file. */
  readonly revision?: string | undefined;
  /** The hub; default https://huggingface.co. Plain http is for this machine only. */
  readonly endpoint?: string | undefined;
  /** For private and gated models; goes to the endpoint and nowhere else. "": none. */
  readonly token?: string | undefined;
  /** The cache: a folder under Node, a name in a browser's storage. */
  readonly cacheDir?: string | undefined;
  /** Touch no network: what is not in the cache is "offline-missing". */
  readonly offline?: boolean | undefined;
  /** false: config.json and the text files alone. */
  readonly weights?: boolean | undefined;
  /** What was fetched before an abort is kept and resumed the next time. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}
