// The cache on disk, in the layout of Python's hub library and shared with it:
//   models--owner--name/blobs/<etag>                 contents; <etag>.incomplete while being fetched
//   models--owner--name/refs/<revision>              the commit a branch or tag meant last
//   models--owner--name/snapshots/<commit>/<file>    a link to the blob
//   .locks/models--owner--name/<etag>.doge           held by the process that fetches the blob
import { createHash, randomUUID } from "node:crypto";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { DogeError } from "../errors.ts";
import { isCommit, repositoryFolder } from "../hub/names.ts";
import type { Cached, HubStore, Partial } from "../hub/store.ts";
import { checkFileName, type Files } from "../loading/files.ts";
import { codeOf, type Disk, disk, diskFull, freeBytes, ifThere, onDisk, syncFolder } from "./disk.ts";
import { folder } from "./folder.ts";
import { type Lock, takeLock } from "./lock.ts";

/** Room left free on the disk besides what a download needs. */
const MARGIN = 1024 * 1024;

/** The cache in the folder `path`, which need not exist yet. */
export function hubCache(path: string, fs: Disk = disk): HubStore {
  const root = resolve(path);
  const repository = (id: string) => join(root, repositoryFolder(id));
  const locksOf = (id: string) => join(root, ".locks", repositoryFolder(id));
  const blobPath = (id: string, blob: string) => join(repository(id), "blobs", blob);
  const snapshot = (id: string, commit: string) => join(repository(id), "snapshots", commit);
  const guarded = <T>(work: () => Promise<T>, needed?: () => number | null) => onDisk(fs, root, work, needed);
  const locks = new Map<string, Lock>();

  /** Whole or not at all: made elsewhere, so that a sudden death leaves nothing among the files, then renamed. */
  const replace = async (id: string, file: string, make: (elsewhere: string) => Promise<void>): Promise<void> => {
    const elsewhere = join(locksOf(id), `${randomUUID()}.new`);
    await fs.mkdir(dirname(elsewhere), { recursive: true });
    await fs.mkdir(dirname(file), { recursive: true });
    try {
      await make(elsewhere);
      await fs.rename(elsewhere, file);
    } catch (error) {
      await fs.rm(elsewhere, { force: true }).catch(() => undefined);
      throw error;
    }
  };

  return {
    name: path,
    notices: [],
    sha256() {
      const hash = createHash("sha256");
      return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest("hex") };
    },

    async readRef(id, revision) {
      const text = await ifThere(fs.readFile(join(repository(id), "refs", ...revision.split("/")), "utf8")).catch(
        (error) => {
          if (codeOf(error) === "EISDIR") return undefined;
          throw error;
        },
      );
      const commit = text?.trim() ?? "";
      return isCommit(commit) ? commit : null;
    },
    async writeRef(id, revision, commit) {
      if ((await this.readRef(id, revision)) === commit) return;
      const file = join(repository(id), "refs", ...revision.split("/"));
      await guarded(() =>
        replace(id, file, async (elsewhere) => {
          const handle = await fs.open(elsewhere, "wx");
          try {
            await handle.writeFile(commit);
            await handle.sync();
          } finally {
            await handle.close();
          }
        }),
      );
    },

    async list(id, commit) {
      const at = snapshot(id, commit);
      const found: Cached[] = [];
      for (const name of (await ifThere(fs.readdir(at, { recursive: true }))) ?? []) {
        const path = join(at, name);
        // A link to a blob that is gone is no file.
        const stats = await ifThere(fs.stat(path));
        if (!stats?.isFile()) continue;
        const link = await fs.readlink(path).catch(() => null);
        const blob =
          link !== null && resolve(dirname(path), link) === blobPath(id, basename(link)) ? basename(link) : null;
        found.push({ name: name.replaceAll(sep, "/"), size: stats.size, blob });
      }
      return found;
    },
    open: (id, commit) => within(folder(snapshot(id, commit)), snapshot(id, commit), root, id, fs),

    async exclusive(id, blob, signal, work) {
      const path = join(locksOf(id), `${blob}.doge`);
      const lock = await guarded(() => takeLock(fs, path, signal));
      locks.set(`${id} ${blob}`, lock);
      try {
        return await work();
      } finally {
        locks.delete(`${id} ${blob}`);
        await lock.release();
      }
    },

    size: async (id, blob) => (await ifThere(fs.stat(blobPath(id, blob))))?.size ?? null,
    async read(id, blob, from, to) {
      const handle = await fs.open(blobPath(id, blob), "r");
      try {
        return await readRange(handle, from, to, blob);
      } finally {
        await handle.close();
      }
    },
    drop: (id, blob) => guarded(() => fs.rm(blobPath(id, blob), { force: true })),

    partial: (id, blob, total) =>
      guarded(async () => {
        const lock = locks.get(`${id} ${blob}`);
        return openPartial(fs, {
          root,
          path: blobPath(id, blob),
          total,
          held: async () => (await lock?.held()) ?? true,
        });
      }),

    link: (id, commit, file, blob) =>
      guarded(async () => {
        checkFileName(file, id);
        const pointer = join(snapshot(id, commit), ...file.split("/"));
        const target = relative(dirname(pointer), blobPath(id, blob));
        if ((await fs.readlink(pointer).catch(() => null)) === target) return;
        await replace(id, pointer, (elsewhere) => point(fs, blobPath(id, blob), target, elsewhere));
        await syncFolder(fs, dirname(pointer));
      }),
  };
}

/** A link where the platform has them (Windows wants a privilege), else a second name or a copy of the file. */
async function point(fs: Disk, blob: string, target: string, pointer: string): Promise<void> {
  try {
    await fs.symlink(target, pointer);
  } catch (error) {
    if (!["EPERM", "EACCES", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "UNKNOWN"].includes(codeOf(error))) throw error;
    await fs.link(blob, pointer).catch(() => fs.copyFile(blob, pointer));
  }
}

type Handle = Awaited<ReturnType<Disk["open"]>>;

async function readRange(handle: Handle, from: number, to: number, what: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(to - from);
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, from + done);
    if (bytesRead === 0)
      throw new DogeError("file-changed", `${what} in the cache ends before byte ${to}; load the model again.`);
    done += bytesRead;
  }
  return bytes;
}

/** The file `path`.incomplete. Held by whoever has the lock of its blob. */
async function openPartial(
  fs: Disk,
  { root, path, total, held }: { root: string; path: string; total: number | null; held: () => Promise<boolean> },
): Promise<Partial> {
  const incomplete = `${path}.incomplete`;
  await fs.mkdir(dirname(path), { recursive: true });
  const handle = await fs.open(incomplete, "a+");
  let closed = false;
  let size = (await handle.stat()).size;
  const needed = () => (total === null ? null : Math.max(0, total - size));
  const guarded = <T>(work: () => Promise<T>) => onDisk(fs, root, work, needed);
  const close = async () => {
    if (closed) return;
    closed = true;
    await handle.close();
    // Nothing came: there is nothing to resume.
    if (size === 0) await fs.rm(incomplete, { force: true }).catch(() => undefined);
  };

  const free = await freeBytes(fs, root);
  if (free !== null && (needed() ?? 0) + MARGIN > free && needed() !== 0) {
    await close();
    throw diskFull(root, needed(), free);
  }
  return {
    get size() {
      return size;
    },
    read: (from, to) => readRange(handle, from, to, basename(path)),
    append: (bytes) =>
      guarded(async () => {
        for (let done = 0; done < bytes.length; ) {
          const { bytesWritten } = await handle.write(bytes, done, bytes.length - done);
          done += bytesWritten;
          size += bytesWritten;
        }
      }),
    restart: () =>
      guarded(async () => {
        await handle.truncate(0);
        size = 0;
      }),
    finish: () =>
      guarded(async () => {
        await handle.sync();
        await close();
        if (!(await held())) {
          throw new DogeError(
            "file-changed",
            `Another process took over the download of ${basename(path)} while this one stood still; load the model again.`,
          );
        }
        await fs.rename(incomplete, path);
        await syncFolder(fs, dirname(path));
      }),
    discard: async () => {
      await close();
      await fs.rm(incomplete, { force: true });
    },
    close,
  };
}

/** `files` of the folder `at`, whose links may lead anywhere inside the cache and nowhere else. */
function within(files: Files, at: string, root: string, id: string, fs: Disk): Files {
  const safe = new Set<string>();
  const check = async (file: string): Promise<void> => {
    if (safe.has(file)) return;
    checkFileName(file, id);
    const real = await ifThere(fs.realpath(join(at, file)));
    if (real !== undefined && !real.startsWith((await fs.realpath(root)) + sep)) {
      throw new DogeError(
        "unsafe-path",
        `${file} of ${id} in the cache ${root} is a link to a place outside the cache; it was not opened. Remove the model from the cache and load it again.`,
      );
    }
    safe.add(file);
  };
  return {
    name: id,
    list: () => files.list(),
    async size(file) {
      await check(file);
      return files.size(file);
    },
    async read(file, from, to, signal) {
      await check(file);
      return files.read(file, from, to, signal);
    },
    close: async () => files.close?.(),
  };
}
