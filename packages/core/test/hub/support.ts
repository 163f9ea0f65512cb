// What the tests of the hub share: a folder that goes away, a fast client, and what may lie in a cache.
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { HubServer } from "../../src/hub/server.ts";
import { openSnapshot } from "../../src/hub/snapshot.ts";
import type { TransportOptions } from "../../src/hub/transport.ts";
import { DogeError, type Files, type HubOptions } from "../../src/index.ts";
import { type Disk, disk } from "../../src/node/disk.ts";
import { hubCache } from "../../src/node/hub-cache.ts";
import { NAME, repository, sha256, TestHub } from "./server.ts";

async function temporary(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "doge-hub-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

export interface Setting extends HubOptions {
  readonly cacheDir: string;
  readonly endpoint: string;
  readonly fs?: Disk;
  readonly transport?: Partial<TransportOptions>;
  readonly name?: string;
}

export const WEIGHTS = "model.safetensors";

/** For a file of tests, at its top: a hub with one repository as it was at first, and an empty cache for every test. */
export function hubForTests() {
  const original = repository();
  const hub = new TestHub({ [NAME]: original });
  const place = { folder: "", cacheDir: "" };
  let folder: Awaited<ReturnType<typeof temporary>>;
  let n = 0;
  beforeAll(async () => {
    await hub.start();
    folder = await temporary();
    place.folder = folder.path;
  });
  afterAll(async () => {
    await hub.stop();
    await folder.remove();
  });
  beforeEach(() => {
    hub.reset();
    hub.bytesFrom = null;
    hub.repositories[NAME] = { ...original, files: { ...original.files } };
    place.cacheDir = join(folder.path, `cache-${++n}`);
  });
  const kept = (...path: string[]) => join(place.cacheDir, "models--Small--Doge-test", ...path);
  return {
    ...{ original, hub, place, kept },
    setting: (more = {}) => ({ cacheDir: place.cacheDir, endpoint: hub.url, ...more }),
    blobs: async () => (await readdir(kept("blobs")).catch(() => [])).sort(),
    blob: () => kept("blobs", sha256(original.files[WEIGHTS]!)),
  };
}

/** Files that a test has opened: they hold handles, which are given back behind it. */
let opened: Files[] = [];
afterEach(async () => {
  for (const files of opened) await files.close?.();
  opened = [];
});

/** openHub() without waiting: pauses are recorded in `pauses` instead. */
export async function open(
  { fs = disk, transport, name = NAME, ...options }: Setting,
  pauses: number[] = [],
): Promise<Files> {
  const files = await openSnapshot(name, {
    ...options,
    store: hubCache(options.cacheDir, fs),
    server: () =>
      new HubServer({
        endpoint: options.endpoint,
        token: options.token,
        sleep: async (ms) => void pauses.push(ms),
        random: () => 1,
        ...transport,
      }),
  });
  opened.push(files);
  return files;
}

export async function fault(work: Promise<unknown>): Promise<DogeError> {
  const error = await work.then(
    () => new Error("it succeeded"),
    (cause: unknown) => cause,
  );
  expect(error, String((error as Error).stack)).toBeInstanceOf(DogeError);
  return error as DogeError;
}

/** All of a file. */
export async function bytesOf(files: Files, file: string): Promise<Uint8Array> {
  return files.read(file, 0, await files.size(file));
}

/** The model's files must be those of the repository, byte for byte. */
export async function expectFiles(files: Files, expected: Record<string, Uint8Array>): Promise<void> {
  const wanted = Object.keys(expected).filter((file) => file !== "README.md");
  expect([...(await files.list())].sort()).toEqual(wanted.sort());
  for (const file of wanted) {
    expect(sha256(await bytesOf(files, file)), file).toBe(sha256(expected[file]!));
  }
  await files.close?.();
}

/** Every file below `folder`, links not followed, by path. */
export async function everything(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

/** What a later run would trust must be whole: blobs have their size and hash, links lead to blobs. */
export async function expectTrustworthy(cache: string, expected: Record<string, Uint8Array>): Promise<void> {
  const hashes = new Set(Object.values(expected).map(sha256));
  for (const path of await everything(cache)) {
    if (/\/blobs\/[^/]+$/.test(path) && !path.endsWith(".incomplete")) {
      expect(hashes, path).toContain(sha256(await readFile(join(cache, path))));
    }
    if (path.includes("/snapshots/") && !path.endsWith(".new"))
      expect((await stat(join(cache, path))).size, path).toBeGreaterThan(0);
  }
}
