// Models by name in a browser: kept in the origin private file system (OPFS), or in memory where that is not to be had or full.
//   models--owner--name/blobs/<etag>.<n>             pieces of a content, 16 MiB each; whole ones, so that a closed tab loses little
//   models--owner--name/blobs/<etag>.whole           how many bytes there are: all of it is there
//   models--owner--name/refs/<revision>              the commit a branch or tag meant last
//   models--owner--name/snapshots/<commit>/<file>    the blob's name; "/" in the file's name is written %2F
import { DogeError } from "../errors.ts";
import { repositoryFolder } from "../hub/names.ts";
import type { HubOptions } from "../hub/options.ts";
import { HubServer } from "../hub/server.ts";
import { sha256 } from "../hub/sha256.ts";
import { openSnapshot } from "../hub/snapshot.ts";
import type { Cached, HubStore, Partial } from "../hub/store.ts";
import { downloadAborted } from "../hub/transport.ts";
import { type Files, filesFrom } from "../loading/files.ts";

const PIECE = 16 * 1024 * 1024;
const DEFAULT_CACHE = "doge";

/** Bytes by path. put() happens wholly or not at all. */
export interface Cabinet {
  get(path: readonly string[]): Promise<Blob | null>;
  put(path: readonly string[], bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(path: readonly string[]): Promise<void>;
  list(folder: readonly string[]): Promise<string[]>;
}

const named = (error: unknown, ...names: readonly string[]): boolean => names.includes((error as Error)?.name);

/** The cabinet in a folder of OPFS. */
export function opfsCabinet(root: FileSystemDirectoryHandle): Cabinet {
  const folderOf = async (path: readonly string[], create: boolean): Promise<FileSystemDirectoryHandle | null> => {
    let at = root;
    for (const part of path) {
      try {
        at = await at.getDirectoryHandle(part, { create });
      } catch (error) {
        if (named(error, "NotFoundError")) return null;
        throw error;
      }
    }
    return at;
  };
  return {
    async get(path) {
      const folder = await folderOf(path.slice(0, -1), false);
      const handle = await folder?.getFileHandle(path.at(-1)!).catch((error) => {
        if (named(error, "NotFoundError")) return null;
        throw error;
      });
      return (await handle?.getFile()) ?? null;
    },
    async put(path, bytes) {
      const folder = await folderOf(path.slice(0, -1), true);
      const handle = await folder!.getFileHandle(path.at(-1)!, { create: true });
      // What is written counts when the stream is closed, and then all of it.
      const stream = await handle.createWritable();
      try {
        await stream.write(bytes);
        await stream.close();
      } catch (error) {
        await stream.abort().catch(() => undefined);
        await folder!.removeEntry(path.at(-1)!).catch(() => undefined);
        throw error;
      }
    },
    async remove(path) {
      const folder = await folderOf(path.slice(0, -1), false);
      await folder?.removeEntry(path.at(-1)!).catch((error) => {
        if (!named(error, "NotFoundError")) throw error;
      });
    },
    async list(path) {
      const folder = await folderOf(path, false);
      const names: string[] = [];
      if (folder !== null) for await (const name of folder.keys()) names.push(name);
      return names;
    },
  };
}

/** A cabinet in memory; with a `below`, one that takes over once that one is full, and says so once. */
export function memoryCabinet(below: Cabinet | null, notice: (sentence: string) => void): Cabinet {
  const kept = new Map<string, Blob>();
  let full = below === null;
  const key = (path: readonly string[]) => path.join("/");
  return {
    get: async (path) => kept.get(key(path)) ?? (await below?.get(path)) ?? null,
    async put(path, bytes) {
      if (!full) {
        try {
          return await below!.put(path, bytes);
        } catch (error) {
          if (!named(error, "QuotaExceededError")) throw error;
          full = true;
          notice("The browser's storage is full: the rest of the model is kept in memory and fetched again next time.");
        }
      }
      kept.set(key(path), new Blob([bytes]));
    },
    async remove(path) {
      kept.delete(key(path));
      await below?.remove(path);
    },
    async list(path) {
      const prefix = `${key(path)}/`;
      const here = [...kept.keys()].filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
      return [...new Set([...((await below?.list(path)) ?? []), ...here.filter((name) => !name.includes("/"))])];
    },
  };
}

/** A cache in a cabinet. `locks`: what keeps other tabs out, where there is such a thing. */
export function cabinetStore(
  name: string,
  cabinet: Cabinet,
  notices: readonly string[],
  locks?: LockManager,
): HubStore {
  const blobs = (id: string) => [repositoryFolder(id), "blobs"];
  const text = async (path: readonly string[]) => (await cabinet.get(path))?.text();
  const write = (path: readonly string[], content: string) => cabinet.put(path, new TextEncoder().encode(content));
  const pieces = async (id: string, blob: string): Promise<Blob[]> => {
    const found: Blob[] = [];
    for (let n = 0; ; n++) {
      const piece = await cabinet.get([...blobs(id), `${blob}.${n}`]);
      if (piece === null) return found;
      found.push(piece);
    }
  };
  const whole = async (id: string, blob: string): Promise<Blob | null> => {
    const size = await text([...blobs(id), `${blob}.whole`]);
    if (size === undefined) return null;
    const content = new Blob(await pieces(id, blob));
    // The browser may have thrown some of it away.
    return content.size === Number(size) ? content : null;
  };
  const clear = async (id: string, blob: string) => {
    await cabinet.remove([...blobs(id), `${blob}.whole`]);
    const mine = (await cabinet.list(blobs(id))).filter((entry) => entry.startsWith(`${blob}.`));
    for (const entry of mine) await cabinet.remove([...blobs(id), entry]);
  };
  const snapshot = async (id: string, commit: string): Promise<(Cached & { readonly content: Blob })[]> => {
    const found = [];
    const folder = [repositoryFolder(id), "snapshots", commit];
    for (const file of await cabinet.list(folder)) {
      const blob = await text([...folder, file]);
      const content = blob === undefined ? null : await whole(id, blob);
      if (content !== null) found.push({ name: decodeURIComponent(file), size: content.size, blob: blob!, content });
    }
    return found;
  };
  const ref = (id: string, revision: string) => [repositoryFolder(id), "refs", ...revision.split("/")];

  return {
    name,
    notices,
    sha256,
    readRef: async (id, revision) => (await text(ref(id, revision))) ?? null,
    writeRef: (id, revision, commit) => write(ref(id, revision), commit),
    list: snapshot,
    open(id, commit) {
      let opened: Promise<Files> | undefined;
      const files = () =>
        (opened ??= snapshot(id, commit).then((all) =>
          filesFrom(Object.fromEntries(all.map((file) => [file.name, file.content])), id),
        ));
      return {
        name: id,
        list: async () => (await files()).list(),
        size: async (file) => (await files()).size(file),
        read: async (file, from, to, signal) => (await files()).read(file, from, to, signal),
      };
    },
    async exclusive(id, blob, signal, work) {
      if (locks === undefined) return work();
      const wait = signal === undefined ? {} : { signal };
      try {
        return await locks.request(`${name}/${repositoryFolder(id)}/${blob}`, wait, work);
      } catch (error) {
        if (signal?.aborted && !(error instanceof DogeError)) throw downloadAborted(signal);
        throw error;
      }
    },
    size: async (id, blob) => (await whole(id, blob))?.size ?? null,
    async read(id, blob, from, to) {
      const content = await whole(id, blob);
      return new Uint8Array((await content?.slice(from, to).arrayBuffer()) ?? new ArrayBuffer(0));
    },
    drop: clear,
    async partial(id, blob) {
      let done = await pieces(id, blob);
      const short = done.findIndex((piece) => piece.size !== PIECE);
      if (short >= 0) done = done.slice(0, short);
      let count = done.length;
      let held = new Uint8Array(PIECE);
      let fill = 0;
      const flush = async () => {
        if (fill === 0) return;
        await cabinet.put([...blobs(id), `${blob}.${count}`], held.slice(0, fill));
        done.push((await cabinet.get([...blobs(id), `${blob}.${count}`]))!);
        count++;
        fill = 0;
      };
      const partial: Partial = {
        get size() {
          return count * PIECE + fill;
        },
        async read(from, to) {
          const content = new Blob([...done, held.subarray(0, fill)]);
          return new Uint8Array(await content.slice(from, to).arrayBuffer());
        },
        async append(bytes) {
          for (let at = 0; at < bytes.length; ) {
            const taken = Math.min(bytes.length - at, PIECE - fill);
            held.set(bytes.subarray(at, at + taken), fill);
            at += taken;
            fill += taken;
            if (fill === PIECE) await flush();
          }
        },
        async restart() {
          await clear(id, blob);
          done = [];
          count = 0;
          fill = 0;
        },
        async finish() {
          const size = partial.size;
          await flush();
          await write([...blobs(id), `${blob}.whole`], `${size}`);
        },
        discard: () => partial.restart(),
        async close() {
          held = new Uint8Array(0);
          fill = 0;
        },
      };
      return partial;
    },
    link: (id, commit, file, blob) =>
      write([repositoryFolder(id), "snapshots", commit, encodeURIComponent(file)], blob),
  };
}

/** The cache of this browser, by name; in memory, with a notice, where there is no OPFS. */
async function browserStore(cache: string): Promise<HubStore> {
  const notices: string[] = [];
  const say = (sentence: string) => void notices.push(sentence);
  let below: Cabinet | null = null;
  try {
    const root = await navigator.storage.getDirectory();
    below = opfsCabinet(await root.getDirectoryHandle(cache, { create: true }));
  } catch (error) {
    say(
      named(error, "QuotaExceededError")
        ? "The browser's storage is full: the model is kept in memory and fetched again next time."
        : "This browser gives no storage here (a private window, or no https): the model is kept in memory alone.",
    );
  }
  return cabinetStore(cache, memoryCabinet(below, say), notices, navigator.locks);
}

/** The files of the model `id` ("owner/name"), fetched where the cache has not got them. Errors: those of openSnapshot(). */
export async function openHub(id: string, options: HubOptions = {}): Promise<Files> {
  const { endpoint = "https://huggingface.co", token, cacheDir = DEFAULT_CACHE } = options;
  return openSnapshot(id, {
    ...options,
    store: await browserStore(cacheDir),
    // Browsers do not show redirects; they drop the token at another host themselves.
    server: () => new HubServer({ endpoint, token, redirects: "follow" }),
  });
}
