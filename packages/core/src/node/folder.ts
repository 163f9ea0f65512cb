// A folder on disk as Files. A file is recognised by size and time of change, so that one replaced under us is noticed.

import type { Stats } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { aborted, DogeError } from "../errors.ts";
import { checkFileName, checkRange, type Files, fileChanged, fileMissing } from "../loading/files.ts";

/** What a file looked like when it was first touched. */
interface Seen {
  readonly size: number;
  readonly changed: number;
}

const seenOf = (stats: Stats): Seen => ({ size: stats.size, changed: stats.mtimeMs });

/** The files of one folder; subfolders are not looked into. Handles stay open between reads until close().
 *  Nothing is touched before the first call. */
export function folder(path: string): Files {
  const root = resolve(path);
  const first = new Map<string, Seen>();
  const handles = new Map<string, Promise<FileHandle>>();
  let closed = false;

  const alive = () => {
    if (closed) throw new DogeError("closed", `The folder ${path} was closed; open it again to read from it.`);
  };
  const check = (file: string, stats: Stats): Seen => {
    if (!stats.isFile()) throw new DogeError("file-missing", `${JSON.stringify(file)} in ${path} is not a file.`);
    const now = seenOf(stats);
    const before = first.get(file);
    if (before === undefined) {
      first.set(file, now);
      return now;
    }
    if (before.size !== now.size) throw fileChanged(file, `it had ${before.size} bytes and has ${now.size}`);
    if (before.changed !== now.changed) throw fileChanged(file, "it was written to");
    return now;
  };
  const missing = (file: string, cause: unknown): unknown =>
    ["ENOENT", "ENOTDIR"].includes((cause as { code?: string }).code ?? "") ? fileMissing(files, file) : cause;
  const handle = (file: string): Promise<FileHandle> => {
    let opened = handles.get(file);
    if (opened === undefined) {
      opened = open(join(root, file), "r").catch((cause) => {
        handles.delete(file);
        throw missing(file, cause);
      });
      handles.set(file, opened);
    }
    return opened;
  };

  const files: Files = {
    name: path,
    async list() {
      alive();
      try {
        const entries = await readdir(root, { withFileTypes: true });
        return entries.filter((entry) => entry.isFile() || entry.isSymbolicLink()).map((entry) => entry.name);
      } catch (cause) {
        throw new DogeError("file-missing", `There is no folder ${path} that can be read.`, { cause });
      }
    },
    async size(file) {
      alive();
      checkFileName(file, `A caller of ${basename(root)}`);
      const stats = await stat(join(root, file)).catch((cause) => {
        throw missing(file, cause);
      });
      return check(file, stats).size;
    },
    async read(file, from, to, signal) {
      alive();
      if (signal?.aborted) throw aborted(signal);
      checkFileName(file, `A caller of ${basename(root)}`);
      const opened = await handle(file);
      const { size } = check(file, await opened.stat());
      checkRange(file, from, to, size);
      const bytes = new Uint8Array(to - from);
      for (let done = 0; done < bytes.length; ) {
        const { bytesRead } = await opened.read(bytes, done, bytes.length - done, from + done);
        if (bytesRead === 0) throw fileChanged(file, `it ends before byte ${to}`);
        done += bytesRead;
        if (signal?.aborted) throw aborted(signal);
      }
      return bytes;
    },
    async close() {
      closed = true;
      const open = [...handles.values()];
      handles.clear();
      for (const result of await Promise.allSettled(open)) {
        if (result.status === "fulfilled") await result.value.close();
      }
    },
  };
  return files;
}
