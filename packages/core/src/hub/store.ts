// Where fetched files are kept: the one interface between the downloader and a disk or a browser's storage.
import type { Files } from "../loading/files.ts";
import type { Hasher } from "./sha256.ts";

/** A blob that is being fetched. Appending is all that happens to it, so that what is there is a beginning of the file. */
export interface Partial {
  /** Bytes that are there. */
  readonly size: number;
  read(from: number, to: number): Promise<Uint8Array>;
  append(bytes: Uint8Array): Promise<void>;
  /** Back to nothing. */
  restart(): Promise<void>;
  /** It is whole: from now on it is the blob. Survives a loss of power. */
  finish(): Promise<void>;
  /** Remove it: it is not what it should be. */
  discard(): Promise<void>;
  /** Let go of it; what is there stays, to be resumed. */
  close(): Promise<void>;
}

/** A model's file in the cache. */
export interface Cached {
  readonly name: string;
  readonly size: number;
  /** The blob it stands for; null where the file itself lies there. */
  readonly blob: string | null;
}

/** A cache of models. `id` is owner/name, `commit` a commit hash, `blob` a file's content by its ETag. Nothing under these names
 *  is ever half there. Errors: "disk-full", "cache-unwritable", "unsafe-path" for links that lead out of the cache. */
export interface HubStore {
  /** What it is, for messages. */
  readonly name: string;
  /** What the user should know: that nothing will be kept, for instance. */
  readonly notices: readonly string[];
  /** The commit that `revision` meant when it was last looked up. */
  readRef(id: string, revision: string): Promise<string | null>;
  writeRef(id: string, revision: string, commit: string): Promise<void>;
  /** The files of a commit that are wholly there. */
  list(id: string, commit: string): Promise<readonly Cached[]>;
  open(id: string, commit: string): Files;
  /** Run `work` while no other process or tab holds this blob. */
  exclusive<T>(id: string, blob: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T>;
  /** Bytes of a whole blob, or null. */
  size(id: string, blob: string): Promise<number | null>;
  /** Bytes [from, to) of a whole blob. */
  read(id: string, blob: string, from: number, to: number): Promise<Uint8Array>;
  drop(id: string, blob: string): Promise<void>;
  /** Begin or go on with a blob of `total` bytes, where that is known. */
  partial(id: string, blob: string, total: number | null): Promise<Partial>;
  /** Make `file` of `commit` stand for a whole blob. */
  link(id: string, commit: string, file: string, blob: string): Promise<void>;
  sha256(): Hasher;
}
