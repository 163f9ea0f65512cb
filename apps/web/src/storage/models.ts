// The models that lie in this browser's storage: which, how large, and away with them. The layout is the one of core's cache in OPFS.
interface KeptModel {
  /** "owner/name". */
  readonly name: string;
  readonly bytes: number;
  /** All that was begun has come. */
  readonly whole: boolean;
}

export interface StorageUse {
  readonly models: readonly KeptModel[];
  /** Bytes of everything this site keeps, and what it may keep at most; null where the browser does not say. */
  readonly used: number | null;
  readonly most: number | null;
}

/** The folder that core's cache has by default. */
const CACHE = "doge";
const PREFIX = "models--";

async function cacheFolder(): Promise<FileSystemDirectoryHandle | null> {
  try {
    return await (await navigator.storage.getDirectory()).getDirectoryHandle(CACHE);
  } catch {
    return null;
  }
}

async function weigh(
  folder: FileSystemDirectoryHandle,
): Promise<{ bytes: number; pieces: Set<string>; done: Set<string> }> {
  let bytes = 0;
  const pieces = new Set<string>();
  const done = new Set<string>();
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind === "directory") {
      const inner = await weigh(handle as FileSystemDirectoryHandle);
      bytes += inner.bytes;
      for (const piece of inner.pieces) pieces.add(piece);
      for (const blob of inner.done) done.add(blob);
    } else {
      bytes += (await (handle as FileSystemFileHandle).getFile()).size;
      const [, blob, end] = /^(.+)\.(\d+|whole)$/.exec(name) ?? [];
      if (end === "whole") done.add(blob!);
      else if (end !== undefined) pieces.add(blob!);
    }
  }
  return { bytes, pieces, done };
}

export async function storageUse(): Promise<StorageUse> {
  const models: KeptModel[] = [];
  const folder = await cacheFolder();
  if (folder !== null) {
    for await (const [name, handle] of folder.entries()) {
      if (handle.kind !== "directory" || !name.startsWith(PREFIX)) continue;
      const { bytes, pieces, done } = await weigh(handle as FileSystemDirectoryHandle);
      const whole = done.size > 0 && [...pieces].every((blob) => done.has(blob));
      models.push({ name: name.slice(PREFIX.length).replace("--", "/"), bytes, whole });
    }
  }
  models.sort((a, b) => a.name.localeCompare(b.name));
  const { usage = null, quota = null } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
  return { models, used: usage, most: quota };
}

export async function removeModel(name: string): Promise<void> {
  const folder = await cacheFolder();
  await folder?.removeEntry(`${PREFIX}${name.replace("/", "--")}`, { recursive: true });
}
