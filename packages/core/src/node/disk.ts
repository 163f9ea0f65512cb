// The few operations on files that the cache needs, in one object, so that tests can let any of them fail.
import { constants } from "node:fs";
import {
  access,
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  utimes,
} from "node:fs/promises";
import { DogeError } from "../errors.ts";

export const disk = {
  access,
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  utimes,
};
export type Disk = typeof disk;

export const codeOf = (error: unknown): string => (error as { code?: string } | null)?.code ?? "";
const isAbsent = (error: unknown): boolean => ["ENOENT", "ENOTDIR"].includes(codeOf(error));

/** Undefined where there is no such file. */
export async function ifThere<T>(work: Promise<T>): Promise<T | undefined> {
  return work.catch((error) => {
    if (isAbsent(error)) return undefined;
    throw error;
  });
}

/** Bytes free for us in `folder` or the nearest folder above it, or null where that cannot be known. */
export async function freeBytes(fs: Disk, folder: string): Promise<number | null> {
  const stats = await fs.statfs(folder).catch(() => null);
  return stats === null ? null : stats.bavail * stats.bsize;
}

/** Do `work`, and say what a full or read-only disk means for the cache. `needed`: bytes still to come. */
export async function onDisk<T>(
  fs: Disk,
  folder: string,
  work: () => Promise<T>,
  needed: () => number | null = () => null,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = codeOf(error);
    if (["ENOSPC", "EDQUOT", "EFBIG"].includes(code))
      throw diskFull(folder, needed(), await freeBytes(fs, folder), error);
    if (!(error instanceof DogeError) && code !== "") {
      throw new DogeError(
        "cache-unwritable",
        `The cache ${folder} cannot be written to (${code}); name a folder that can, by HF_HUB_CACHE, HF_HOME or the option cacheDir.`,
        { cause: error },
      );
    }
    throw error;
  }
}

export function diskFull(folder: string, needed: number | null, free: number | null, cause?: unknown): DogeError {
  const bytes = (count: number | null) => (count === null ? "an unknown number of" : `${count}`);
  return new DogeError(
    "disk-full",
    `The disk of the cache ${folder} is full: ${bytes(needed)} bytes are needed, and ${bytes(free)} are free. Make room (\`doge ls\` shows what models take, \`doge rm\` removes one), or set HF_HOME to another disk.`,
    { cause },
  );
}

/** Make renames inside `folder` survive a loss of power, where the platform can. */
export async function syncFolder(fs: Disk, folder: string): Promise<void> {
  const handle = await fs.open(folder, constants.O_RDONLY).catch(() => null);
  if (handle === null) return;
  await handle.sync().catch(() => undefined);
  await handle.close();
}
