// Models by name under Node: the environment that Python's hub library reads too, its cache folder, and what is in that cache.
import { homedir } from "node:os";
import { join } from "node:path";
import { DogeError } from "../errors.ts";
import { checkHubName, isCommit, repositoryFolder, repositoryOf } from "../hub/names.ts";
import type { HubOptions } from "../hub/options.ts";
import { HubServer } from "../hub/server.ts";
import { openSnapshot } from "../hub/snapshot.ts";
import type { Files } from "../loading/files.ts";
import { type Disk, disk, ifThere, onDisk } from "./disk.ts";
import { hubCache } from "./hub-cache.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const expand = (path: string): string => path.replace(/^~(?=$|[/\\])/, homedir());

function home(environment: Environment): string {
  const { HF_HOME, XDG_CACHE_HOME } = environment;
  return expand(HF_HOME || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface"));
}

/** The folder that models are cached in: HF_HUB_CACHE, or "hub" in HF_HOME. */
export function hubCacheFolder(environment: Environment = process.env): string {
  return expand(environment.HF_HUB_CACHE || join(home(environment), "hub"));
}

/** Options with what the environment says where they say nothing. */
export async function completed(
  options: HubOptions,
  environment: Environment = process.env,
): Promise<
  HubOptions & {
    readonly endpoint: string;
    readonly cacheDir: string;
    readonly offline: boolean;
  }
> {
  const token =
    options.token ??
    (environment.HF_TOKEN || (await disk.readFile(join(home(environment), "token"), "utf8").catch(() => undefined)));
  return {
    ...options,
    endpoint: options.endpoint ?? (environment.HF_ENDPOINT || "https://huggingface.co"),
    token: token?.trim(),
    cacheDir: options.cacheDir === undefined ? hubCacheFolder(environment) : expand(options.cacheDir),
    offline: options.offline ?? /^(1|on|yes|true)$/i.test(environment.HF_HUB_OFFLINE ?? ""),
  };
}

/** The files of the model `id` ("owner/name"), fetched where the cache has not got them. Errors: those of openSnapshot(). */
export async function openHub(id: string, options: HubOptions = {}): Promise<Files> {
  const all = await completed(options);
  return openSnapshot(id, {
    ...all,
    store: hubCache(all.cacheDir),
    server: () => new HubServer({ endpoint: all.endpoint, token: all.token }),
  });
}

/** Fetch the model `id` where the cache has not got it: the folder it lies in, and what its user should know. Errors: those of
 *  openSnapshot(). */
export async function pullModel(
  id: string,
  options: HubOptions = {},
): Promise<{ folder: string; notices: readonly string[] }> {
  const { cacheDir, revision = "main" } = await completed(options);
  const files = await openHub(id, options);
  await files.close?.();
  const commit = isCommit(revision) ? revision : await hubCache(cacheDir).readRef(id, revision);
  const folder = join(cacheDir, repositoryFolder(id), "snapshots", commit ?? revision);
  return { folder, notices: files.notices ?? [] };
}

/** A model in the cache. */
export interface CachedModel {
  readonly name: string;
  readonly folder: string;
  /** Bytes on disk. */
  readonly bytes: number;
  /** Bytes of them in files that are not wholly fetched. */
  readonly incomplete: number;
  /** Branches and tags, and the commits they meant last. */
  readonly revisions: readonly { readonly name: string; readonly commit: string }[];
}

/** The models in the cache, by name. */
export async function cachedModels(cacheDir = hubCacheFolder(), fs: Disk = disk): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  for (const entry of (await ifThere(fs.readdir(cacheDir))) ?? []) {
    const name = repositoryOf(entry);
    const folder = join(cacheDir, entry);
    if (name === null || !(await ifThere(fs.stat(folder)))?.isDirectory()) continue;
    let bytes = 0;
    let incomplete = 0;
    const revisions = [];
    for (const part of await fs.readdir(folder, { recursive: true, withFileTypes: true })) {
      // Links cost nothing; where links are not to be had, the files of snapshots count.
      if (!part.isFile()) continue;
      const path = join(part.parentPath, part.name);
      const { size, nlink } = await fs.stat(path);
      if (path.startsWith(join(folder, "refs"))) {
        revisions.push({
          name: path.slice(join(folder, "refs").length + 1).replaceAll("\\", "/"),
          commit: (await fs.readFile(path, "utf8")).trim(),
        });
      } else if (nlink === 1 || path.startsWith(join(folder, "blobs"))) bytes += size;
      if (part.name.endsWith(".incomplete")) incomplete += size;
    }
    models.push({ name, folder, bytes, incomplete, revisions });
  }
  return models.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Remove a model from the cache: the bytes freed. @throws DogeError "hub-not-found" when it is not there. */
export async function removeCached(id: string, cacheDir = hubCacheFolder(), fs: Disk = disk): Promise<number> {
  checkHubName(id);
  const model = (await cachedModels(cacheDir, fs)).find(({ name }) => name === id);
  if (model === undefined) {
    throw new DogeError("hub-not-found", `The model ${id} is not in the cache ${cacheDir}.`);
  }
  await onDisk(fs, cacheDir, async () => {
    await fs.rm(model.folder, { recursive: true, force: true });
    await fs.rm(join(cacheDir, ".locks", repositoryFolder(id)), { recursive: true, force: true });
  });
  return model.bytes;
}
