// Where a model's files come from: a folder, blobs or bytes, all behind one small interface. Platform-free.

import { aborted, DogeError } from "../errors.ts";
import { decodeUtf8, type Json, parseJson } from "../json.ts";

/** Some files by name. Nothing is read before read() is called, and never more than the range asked for. */
export interface Files {
  /** What they are together, for messages: a folder's path, a hub name. */
  readonly name: string;
  /** Names of the files there are, in no particular order. */
  list(): Promise<readonly string[]>;
  /** Bytes. @throws DogeError "file-missing". */
  size(file: string): Promise<number>;
  /** Bytes [from, to), exactly that many.
   *  @throws DogeError "file-missing", "file-changed" (no longer as it was first seen), "aborted". */
  read(file: string, from: number, to: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** What their user should know: an older copy because the hub cannot be reached, for instance. */
  readonly notices?: readonly string[];
  /** Give back what the platform holds open; reading afterwards rejects with "closed". */
  close?(): Promise<void>;
  /** The same files once more, for when weights are needed again after these were closed. */
  reopen?(): Promise<Files>;
}

/** JSON files of a model stay far below this; a file above it is no such file, or an attack. */
const TEXT_CAP = 64 * 1024 * 1024;

/** Why `file` cannot be the name of a file beside the others, or null when it can. Names that come out of model files
 *  are hostile until this has seen them. */
function unsafeFileName(file: string): string | null {
  if (file.length === 0 || file.length > 255) return `has ${file.length} characters (1 to 255 are allowed)`;
  if (/\p{Cc}/u.test(file)) return "contains a control character";
  if (file.includes("\\")) return "contains a backslash";
  if (file.includes(":")) return "contains a colon, as URLs and drive letters do";
  if (file.startsWith("/")) return "is an absolute path";
  if (file.startsWith("~")) return "begins with a tilde";
  if (file.split("/").some((part) => part === "" || part === "." || part === ".."))
    return "leaves its folder or has an empty part";
  return null;
}

/** @throws DogeError "unsafe-path" when `file`, named by `where`, could lead out of the model's folder. */
export function checkFileName(file: string, where: string): void {
  const why = unsafeFileName(file);
  if (why !== null) {
    throw new DogeError(
      "unsafe-path",
      `${where} names the file ${JSON.stringify(file.slice(0, 100))}, which ${why}; it was not opened.`,
    );
  }
}

export function fileMissing(files: { readonly name: string }, file: string): DogeError {
  return new DogeError("file-missing", `There is no file ${JSON.stringify(file)} in ${files.name}.`);
}

/** @throws DogeError "invalid-argument" when [from, to) is no range inside a file of `size` bytes. */
export function checkRange(what: string, from: number, to: number, size: number): void {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || to < from || to > size) {
    throw new DogeError(
      "invalid-argument",
      `Bytes ${from} to ${to} do not lie inside ${what}, which has ${size} bytes.`,
    );
  }
}

/** The parts of a record as Files: blobs (a browser's File too) are read piece by piece, bytes are copied piece by piece. */
export function filesFrom(record: { readonly [name: string]: Blob | Uint8Array }, name = "the files given"): Files {
  const parts = new Map<string, Blob | Uint8Array>();
  for (const [file, part] of Object.entries(record)) {
    if (!(part instanceof Uint8Array) && !(part instanceof Blob)) {
      throw new DogeError("invalid-argument", `The file ${JSON.stringify(file)} must be a Blob or a Uint8Array.`);
    }
    parts.set(file, part);
  }
  const sizeOf = (part: Blob | Uint8Array) => (part instanceof Uint8Array ? part.byteLength : part.size);
  // What was first seen is what must be read: the owner of an array may still resize it.
  const sizes = new Map(Array.from(parts, ([file, part]) => [file, sizeOf(part)]));
  const files: Files = {
    name,
    list: async () => [...parts.keys()],
    size: async (file) => {
      const size = sizes.get(file);
      if (size === undefined) throw fileMissing(files, file);
      return size;
    },
    read: async (file, from, to, signal) => {
      if (signal?.aborted) throw aborted(signal);
      const part = parts.get(file);
      if (part === undefined) throw fileMissing(files, file);
      checkRange(file, from, to, sizes.get(file)!);
      if (sizeOf(part) !== sizes.get(file))
        throw fileChanged(file, `it had ${sizes.get(file)} bytes and has ${sizeOf(part)}`);
      if (part instanceof Uint8Array) return part.slice(from, to);
      let bytes: Uint8Array;
      try {
        bytes = new Uint8Array(await part.slice(from, to).arrayBuffer());
      } catch (cause) {
        // A browser's File refuses to be read once the file behind it has changed.
        throw fileChanged(file, "the browser can no longer read it", cause);
      }
      if (bytes.length !== to - from) throw fileChanged(file, `bytes ${from} to ${to} are no longer there`);
      return bytes;
    },
  };
  return files;
}

/** A browser's `<input type="file">`, with or without `webkitdirectory`: the chosen folder's own name is dropped. */
export function fileList(list: readonly File[]): Files {
  const record: { [name: string]: Blob } = Object.create(null);
  for (const file of list) {
    const path = (file as { webkitRelativePath?: string }).webkitRelativePath ?? "";
    const name = path === "" ? file.name : path.slice(path.indexOf("/") + 1);
    if (name in record) {
      throw new DogeError(
        "invalid-argument",
        `Two of the files given are called ${JSON.stringify(name)}; give one model at a time.`,
      );
    }
    record[name] = file;
  }
  return filesFrom(record);
}

export function fileChanged(file: string, why: string, cause?: unknown): DogeError {
  return new DogeError(
    "file-changed",
    `The file ${JSON.stringify(file)} changed after it was opened (${why}); load the model again.`,
    { cause },
  );
}

export async function hasFile(files: Files, file: string): Promise<boolean> {
  return (await files.list()).includes(file);
}

/** A whole text file, UTF-8; a byte order mark is dropped.
 *  @throws DogeError "file-missing", "limit-exceeded" above `cap` bytes, "json-invalid" when it is not UTF-8. */
export async function readText(files: Files, file: string, cap = TEXT_CAP, signal?: AbortSignal): Promise<string> {
  const size = await files.size(file);
  if (size > cap) {
    throw new DogeError("limit-exceeded", `${file} has ${size} bytes; at most ${cap} are read of such a file.`);
  }
  return decodeUtf8(await files.read(file, 0, size, signal), { file });
}

/** A whole JSON file. A byte order mark and CRLF are fine; comments, NaN and repeated keys are not.
 *  @throws DogeError as readText() and parseJson(). */
export async function readJson(files: Files, file: string, signal?: AbortSignal): Promise<Json> {
  return parseJson(await readText(files, file, TEXT_CAP, signal), { file });
}
