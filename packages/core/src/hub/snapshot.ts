// A model by name: what a revision has, which of its files Doge needs, and those into the cache; or, offline, out of it.
import { DogeError, isDogeError } from "../errors.ts";
import type { Files } from "../loading/files.ts";
import { foreignWeights } from "../loading/foreign-format.ts";
import { INDEX_FILE, shardNames, WEIGHTS_FILE } from "../loading/shards.ts";
import { sentenceOf } from "../sentence.ts";
import { download, hashOf } from "./download.ts";
import { checkHubName, checkListing, checkRevision, checkWanted, isCommit } from "./names.ts";
import type { HubOptions } from "./options.ts";
import type { HubServer, Listing } from "./server.ts";
import type { Cached, HubStore } from "./store.ts";

/** The files beside the weights, where a repository has them. */
const TEXT_FILES = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
];

export interface SnapshotOptions extends HubOptions {
  readonly store: HubStore;
  /** Not asked when offline. */
  readonly server: () => HubServer;
}

/** The files of the model `id` that Doge needs, all of them in the cache.
 *  @throws DogeError "offline-missing", "integrity", "unsafe-path", "unsupported-format" for a repository without safetensors,
 *  "aborted", and those of the server and the store. */
export async function openSnapshot(id: string, options: SnapshotOptions): Promise<Files> {
  checkHubName(id);
  const { revision = "main", store, signal, offline = false } = options;
  checkRevision(revision);
  if (offline) {
    const commit = await fromCache(id, revision, options, "the hub is not asked when offline");
    return withNotices(store.open(id, commit), store.notices);
  }
  const server = options.server();
  let listing: Listing;
  try {
    listing = await server.listing(id, revision, signal);
  } catch (error) {
    // As in Python: a hub that cannot be reached does not matter to those who have the model.
    if (!isDogeError(error, "hub-unreachable") && !isDogeError(error, "hub-busy")) throw error;
    const commit = await fromCache(id, revision, options, "").catch(() => null);
    if (commit === null) throw error;
    const notice = `${sentenceOf(error)} The cached ${id} is used, which may be older than the hub's.`;
    return withNotices(store.open(id, commit), [...store.notices, notice]);
  }
  if (isCommit(revision) && listing.commit !== revision) {
    throw new DogeError(
      "integrity",
      `${id} was asked for at the commit ${revision}, and ${server.host} answers with ${listing.commit}.`,
    );
  }
  await new Fetch(id, listing, server, options).run(revision);
  return withNotices(store.open(id, listing.commit), store.notices);
}

/** One model into the cache. */
class Fetch {
  readonly id: string;
  readonly listing: Listing;
  readonly server: HubServer;
  readonly options: SnapshotOptions;
  /** Bytes by file, of those that are fetched. */
  readonly progress = new Map<string, { loaded: number; total: number }>();

  constructor(id: string, listing: Listing, server: HubServer, options: SnapshotOptions) {
    this.id = id;
    this.listing = listing;
    this.server = server;
    this.options = options;
  }

  async run(revision: string): Promise<void> {
    const { id, listing, options } = this;
    const { store, signal, weights = true } = options;
    const { commit, names } = listing;
    checkListing(id, names);
    const wanted = TEXT_FILES.filter((file) => names.includes(file));
    const main = [WEIGHTS_FILE, INDEX_FILE].find((file) => names.includes(file));
    if (weights) {
      if (main === undefined) throw noWeights(id, names);
      wanted.push(main);
    }
    checkWanted(id, wanted, names);
    // The first time, the branch points at what is about to come, so that offline it can be said what is missing; later, the old
    // commit serves until the new one is whole.
    if (!isCommit(revision) && (await store.readRef(id, revision)) === null) await this.#writeRef(revision);
    await this.#fetch(wanted);
    if (weights && main === INDEX_FILE) {
      const shards = await withFiles(store.open(id, commit), (files) => shardNames(files, signal));
      checkWanted(id, shards, names);
      const missing = shards.filter((shard) => !names.includes(shard));
      if (missing.length > 0) {
        throw new DogeError("file-missing", `${INDEX_FILE} of ${id} names shards that it has not: ${some(missing)}.`);
      }
      await this.#fetch(shards);
    }
    if (!isCommit(revision)) await this.#writeRef(revision);
  }

  /** A cache that holds all and can only be read is as good. */
  async #writeRef(revision: string): Promise<void> {
    const { store } = this.options;
    await store.writeRef(this.id, revision, this.listing.commit).catch((error) => {
      if (!isDogeError(error, "cache-unwritable")) throw error;
    });
  }

  async #fetch(files: readonly string[]): Promise<void> {
    const { id, listing, server, options } = this;
    const { store, signal } = options;
    const { commit } = listing;
    const there = new Map((await store.list(id, commit)).map((cached) => [cached.name, cached]));
    const tasks = [];
    for (const file of files) {
      const cached = there.get(file);
      if (cached !== undefined) {
        if ((await flipped(id, cached, store, signal)) === null) continue;
        await store.drop(id, cached.blob!);
      }
      const facts = listing.facts.get(file) ?? (await server.facts(id, commit, file, signal));
      tasks.push({ id, commit, file, facts });
      this.progress.set(file, { loaded: 0, total: facts.size ?? 0 });
    }
    for (const task of tasks) {
      const { file } = task;
      const watch = {
        signal,
        onBytes: (loaded: number, total: number | null) => this.#tell(file, loaded, total ?? loaded),
      };
      const facts = await download(server, store, task, watch).then(
        () => task.facts,
        async (error) => {
          if (!isDogeError(error, "file-changed")) throw error;
          const fresh = await server.facts(id, commit, file, signal);
          await download(server, store, { ...task, facts: fresh }, watch);
          return fresh;
        },
      );
      await store.link(id, commit, file, facts.blob);
    }
  }

  #tell(file: string, loaded: number, total: number): void {
    this.progress.set(file, { loaded, total });
    const overall = { loaded: 0, total: 0 };
    for (const count of this.progress.values()) {
      overall.loaded += count.loaded;
      overall.total += count.total;
    }
    this.options.onProgress?.({ file, loaded, total, overall });
  }
}

/** The commit of `revision`, when all that is needed of it is in the cache and sound. @throws DogeError "offline-missing", "integrity". */
async function fromCache(
  id: string,
  revision: string,
  { store, signal, weights = true }: SnapshotOptions,
  why: string,
): Promise<string> {
  const missing = (what: string) =>
    new DogeError(
      "offline-missing",
      `${what}; ${why}. Load it once with a connection, then it stays in ${store.name}.`,
    );
  const commit = isCommit(revision) ? revision : await store.readRef(id, revision);
  if (commit === null) throw missing(`The model ${id} at revision ${revision} is not in the cache ${store.name}`);
  const there = new Map((await store.list(id, commit)).map((cached) => [cached.name, cached]));
  const needed = ["config.json"];
  if (weights) {
    const main = [WEIGHTS_FILE, INDEX_FILE].find((file) => there.has(file)) ?? WEIGHTS_FILE;
    needed.push(main);
    if (main === INDEX_FILE && there.has(main)) {
      needed.push(...(await withFiles(store.open(id, commit), (files) => shardNames(files, signal))));
    }
  }
  const absent = needed.filter((file) => !there.has(file));
  if (absent.length > 0) {
    throw missing(`Of the model ${id} at revision ${revision}, the cache ${store.name} has no ${some(absent)}`);
  }
  for (const file of needed) {
    const got = await flipped(id, there.get(file)!, store, signal);
    if (got !== null) {
      throw new DogeError(
        "integrity",
        `${file} of ${id} is damaged in the cache ${store.name}: expected the SHA-256 ${there.get(file)!.blob}, got ${got}. With a connection, it is fetched again.`,
      );
    }
  }
  return commit;
}

/** The hash of a cached weight file that is not the one it is stored under (blobs of large files are), or null. */
async function flipped(
  id: string,
  cached: Cached,
  store: HubStore,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  const { blob, name, size } = cached;
  if (blob === null || !name.endsWith(".safetensors") || !/^[0-9a-f]{64}$/.test(blob)) return null;
  const hasher = await hashOf(store, size, (from, to) => store.read(id, blob, from, to), signal);
  const got = hasher.digest();
  return got === blob ? null : got;
}

function noWeights(id: string, names: readonly string[]): DogeError {
  return (
    foreignWeights(names) ??
    new DogeError(
      "file-missing",
      `There is neither ${WEIGHTS_FILE} nor ${INDEX_FILE} in ${id}; it has ${names.length === 0 ? "no files" : some([...names].sort())}.`,
    )
  );
}

const some = (names: readonly string[]): string => `${names.slice(0, 10).join(", ")}${names.length > 10 ? ", …" : ""}`;

async function withFiles<T>(files: Files, work: (files: Files) => Promise<T>): Promise<T> {
  try {
    return await work(files);
  } finally {
    await files.close?.();
  }
}

const withNotices = (files: Files, notices: readonly string[]): Files =>
  notices.length === 0 ? files : { ...files, notices };
