// One file of a hub into the cache: resumed where a transfer broke off, checked before it counts, fetched by one process at a time.
import { DogeError } from "../errors.ts";
import { contentFault, cutFault, SNIFF } from "./content.ts";
import { blobName } from "./names.ts";
import { encoded, type Facts, type HubServer, whole } from "./server.ts";
import type { Hasher } from "./sha256.ts";
import type { HubStore, Partial } from "./store.ts";
import { type Answer, downloadAborted, Transient } from "./transport.ts";

export interface Task {
  readonly id: string;
  readonly commit: string;
  readonly file: string;
  readonly facts: Facts;
}

const PIECE = 4 * 1024 * 1024;

/** Fetch the blob of `task` unless it is there; `onBytes` hears how much of it is.
 *  @throws DogeError "integrity" when it is wrong twice (nothing is kept then); "aborted" and those of the connection, which
 *  leave what came, to be resumed; those of the store. */
export async function download(
  server: HubServer,
  store: HubStore,
  task: Task,
  options: {
    readonly signal?: AbortSignal | undefined;
    readonly onBytes?: (loaded: number, total: number | null) => void;
  },
): Promise<void> {
  const { id, facts } = task;
  const { signal, onBytes } = options;
  const there = async (): Promise<boolean> => {
    const size = await store.size(id, facts.blob);
    if (size === null) return false;
    if (facts.size === null || size === facts.size) {
      onBytes?.(size, size);
      return true;
    }
    await store.drop(id, facts.blob);
    return false;
  };
  if (await there()) return;
  await store.exclusive(id, facts.blob, signal, async () => {
    // Another process may have fetched it while we waited.
    if (await there()) return;
    const partial = await store.partial(id, facts.blob, facts.size);
    try {
      for (let round = 1; ; round++) {
        const fault = await new Transfer(server, store, task, partial, options).run();
        if (fault === null) break;
        if (round === 2) {
          await partial.discard();
          throw new DogeError(
            "integrity",
            `${task.file} of ${id} came twice, and wrong: ${fault}. Nothing of it was kept. The server or something before it serves another file than the one listed.`,
          );
        }
        await partial.restart();
      }
      await partial.finish();
    } finally {
      await partial.close();
    }
  });
}

/** Hash of the bytes that `read` gives. */
export async function hashOf(
  store: HubStore,
  size: number,
  read: (from: number, to: number) => Promise<Uint8Array>,
  signal?: AbortSignal,
): Promise<Hasher> {
  const hasher = store.sha256();
  for (let from = 0; from < size; from += PIECE) {
    if (signal?.aborted) throw downloadAborted(signal);
    hasher.update(await read(from, Math.min(size, from + PIECE)));
  }
  return hasher;
}

/** What came is another file than the one listed; asking for its rest is no use. */
class Wrong extends Error {}

/** The bytes of one file into one partial blob. */
class Transfer {
  readonly server: HubServer;
  readonly store: HubStore;
  readonly task: Task;
  readonly partial: Partial;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: ((loaded: number, total: number | null) => void) | undefined;
  /** Size of the whole, once anything said so. */
  total: number | null;
  validator: string | null;
  hasher: Hasher | null = null;

  constructor(
    server: HubServer,
    store: HubStore,
    task: Task,
    partial: Partial,
    options: {
      readonly signal?: AbortSignal | undefined;
      readonly onBytes?: (loaded: number, total: number | null) => void;
    },
  ) {
    this.server = server;
    this.store = store;
    this.task = task;
    this.partial = partial;
    this.signal = options.signal;
    this.onBytes = options.onBytes;
    this.total = task.facts.size;
    this.validator = task.facts.validator;
  }

  /** Fetch what is missing and look at the whole: what is wrong with it, or null. */
  async run(): Promise<string | null> {
    const { partial, task } = this;
    if (this.total !== null && partial.size > this.total) await this.restart();
    if (task.facts.sha256 !== null) {
      this.hasher = await hashOf(this.store, partial.size, (from, to) => partial.read(from, to), this.signal);
    }
    let most = partial.size;
    this.onBytes?.(partial.size, this.total);
    try {
      await this.server.transport.persist(
        this.signal,
        () => this.attempt(),
        () => {
          const progressed = partial.size > most;
          most = Math.max(most, partial.size);
          return progressed;
        },
      );
    } catch (error) {
      if (error instanceof Wrong) return error.message;
      throw error;
    }
    return this.verdict();
  }

  /** One request, to its end. */
  async attempt(): Promise<void> {
    const { partial, task, signal } = this;
    if (this.total !== null && partial.size === this.total && this.total > 0) return;
    const { id, commit, file, facts } = task;
    // Browsers would ask the other host for leave to send If-Range; the hash at the end is as good.
    const validator = this.server.blind ? null : this.validator;
    // With nothing that could tell another file's rest from this one's, there is no going on.
    if (partial.size > 0 && validator === null && facts.sha256 === null) await this.restart();
    const answer = await this.server.bytes({ id, commit, file, from: partial.size, validator }, signal);
    try {
      await this.begin(answer);
      for await (const chunk of answer.body()) {
        if (signal?.aborted) throw downloadAborted(signal);
        if (this.total !== null && partial.size + chunk.length > this.total) {
          throw new Wrong(`expected ${this.total} bytes, got more`);
        }
        await partial.append(chunk);
        this.hasher?.update(chunk);
        this.onBytes?.(partial.size, this.total);
      }
    } finally {
      await answer.drop();
    }
    if (this.total !== null && partial.size < this.total) {
      throw this.broken(`the transfer ended after ${partial.size} of ${this.total} bytes`);
    }
  }

  /** What the headers say, before any byte is kept. */
  async begin(answer: Answer): Promise<void> {
    const { partial, task } = this;
    const { response } = answer;
    if (response.status === 416) {
      await this.restart();
      throw this.broken("the server refuses the rest of it (416)");
    }
    const etag = response.headers.get("etag");
    const linked = blobName(answer.header("x-linked-etag"));
    const other = task.facts.validator !== null && !answer.foreign && etag !== null && etag !== task.facts.validator;
    if (other || (linked !== null && linked !== task.facts.blob)) {
      await partial.discard();
      throw new DogeError(
        "file-changed",
        `${task.file} of ${task.id} changed on ${this.server.host} while it was fetched (ETag ${task.facts.blob}, then ${linked ?? etag}); load the model again.`,
      );
    }
    if (response.status === 206) {
      const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
      const total = range === null || range[3] === "*" ? null : Number(range[3]);
      const fits =
        range !== null && Number(range[1]) === partial.size && (total === null || total === (this.total ?? total));
      if (!fits || encoded(answer)) {
        await this.restart();
        throw this.broken(
          `the server sent the range ${JSON.stringify(response.headers.get("content-range"))} for another`,
        );
      }
      this.total ??= total;
    } else {
      // All of it, whatever was asked for: never to be appended to what is there.
      if (partial.size > 0) await this.restart();
      const length = encoded(answer) ? null : whole(response.headers.get("content-length"));
      if (length !== null && this.total !== null && length !== this.total) {
        throw new Wrong(`expected ${this.total} bytes, got ${length}`);
      }
      this.total ??= length;
    }
    if (etag?.startsWith('"')) this.validator = etag;
  }

  async restart(): Promise<void> {
    await this.partial.restart();
    if (this.hasher !== null) this.hasher = this.store.sha256();
    this.onBytes?.(0, this.total);
  }

  broken(why: string): Transient {
    const { file, id } = this.task;
    return new Transient(
      new DogeError(
        "hub-unreachable",
        `${this.server.host} does not deliver ${file} of ${id}: ${why}. What came is kept; load it again to go on.`,
      ),
    );
  }

  /** What is wrong with the whole, or null. */
  async verdict(): Promise<string | null> {
    const { partial, task, hasher } = this;
    const { sha256, size } = task.facts;
    if (size !== null && partial.size !== size) return `expected ${size} bytes, got ${partial.size}`;
    if (hasher !== null) {
      const got = hasher.digest();
      return got === sha256 ? null : `expected the SHA-256 ${sha256}, got ${got}`;
    }
    const fault = contentFault(task.file, await partial.read(0, Math.min(SNIFF, partial.size)), partial.size);
    if (fault !== null || this.total !== null) return fault;
    // A connection that is closed may mean the end, or a cut.
    return cutFault(task.file, partial.size, (from, to) => partial.read(from, to));
  }
}
