// A hub on this machine for tests: serves repositories as a hub does, and misbehaves when it is told to.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const gitHash = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly file: string;
  readonly headers: IncomingMessage["headers"];
  /** First byte asked for. */
  readonly from: number;
  /** Bytes of a body handed to the connection. */
  sent: number;
}

/** What to do instead of the right thing; null: the right thing. `n` counts the requests for this file with this method. */
export type Misbehaviour = (
  seen: Seen,
  n: number,
) => null | {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Break the connection after so many bytes of the body. */
  readonly cutAt?: number;
  /** Say nothing more after so many bytes of the body. */
  readonly stallAt?: number;
  /** Answer with everything and 200, whatever the range. */
  readonly ignoreRange?: boolean;
  /** Answer 206 with a range that begins elsewhere. */
  readonly shift?: number;
  /** Send this in the file's place. */
  readonly replace?: Uint8Array;
};

export interface Repository {
  readonly commit: string;
  /** Mutable: files change under clients. */
  files: Record<string, Uint8Array>;
  /** Names to list besides. */
  readonly alsoListed?: readonly string[];
}

export class TestHub {
  readonly repositories: Record<string, Repository>;
  misbehave: Misbehaviour = () => null;
  readonly log: Seen[] = [];
  /** Another server on this machine that sends the bytes of large files. */
  bytesFrom: string | null = null;
  readonly #server = createServer((request, response) => this.#answer(request, response));
  readonly #counts = new Map<string, number>();

  constructor(repositories: Record<string, Repository>) {
    this.repositories = repositories;
  }
  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
  /** Requests for bodies of `file` so far. */
  gets(file: string): Seen[] {
    return this.log.filter((seen) => seen.method === "GET" && seen.file === file);
  }
  reset(): void {
    this.log.length = 0;
    this.#counts.clear();
    this.misbehave = () => null;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { method = "GET", url = "/", headers } = request;
    const path = decodeURIComponent(new URL(url, this.url).pathname);
    const listing = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(path);
    const resolved = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const file = listing ? "api" : (resolved?.[3] ?? path);
    const from = Number(/^bytes=(\d+)-/.exec(headers.range ?? "")?.[1] ?? 0);
    const seen: Seen = { method, url, file, headers, from, sent: 0 };
    const count = (this.#counts.get(`${method} ${file}`) ?? 0) + 1;
    this.#counts.set(`${method} ${file}`, count);
    this.log.push(seen);

    const how = this.misbehave(seen, count) ?? {};
    if (how.status !== undefined) {
      response.writeHead(how.status, how.headers ?? {});
      response.end(method === "HEAD" ? undefined : how.body);
      return;
    }
    const repository = this.repositories[(listing ?? resolved)?.[1] ?? ""];
    if (repository === undefined) {
      response.writeHead(404).end();
      return;
    }
    const { commit } = repository;
    const known = [commit, "main"].includes((listing ?? resolved)![2]!);
    if (listing !== null) {
      const names = [...Object.keys(repository.files), ...(repository.alsoListed ?? [])];
      const body = JSON.stringify({ id: listing[1], sha: commit, siblings: names.map((rfilename) => ({ rfilename })) });
      response.writeHead(known ? 200 : 404, { "content-type": "application/json" }).end(known ? body : undefined);
      return;
    }
    const content = repository.files[file];
    if (content === undefined || !known) {
      response.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
      return;
    }
    const large = file.endsWith(".safetensors");
    const etag = `"${large ? sha256(content) : gitHash(content)}"`;
    const facts: Record<string, string> = { "x-repo-commit": commit, etag };
    if (large) Object.assign(facts, { "x-linked-etag": etag, "x-linked-size": `${content.length}` });
    if (large && this.bytesFrom !== null) {
      response.writeHead(302, { ...facts, location: `${this.bytesFrom}${url}`, "content-type": "text/html" }).end();
      return;
    }
    this.#send(
      response,
      method,
      seen,
      how.replace ?? content,
      { ...facts, "accept-ranges": "bytes", ...how.headers },
      how,
    );
  }

  #send(
    response: ServerResponse,
    method: string,
    seen: Seen,
    content: Uint8Array,
    headers: Record<string, string>,
    how: NonNullable<ReturnType<Misbehaviour>>,
  ): void {
    const ifRange = seen.headers["if-range"];
    const ranged =
      seen.headers.range !== undefined && !how.ignoreRange && (ifRange === undefined || ifRange === headers.etag);
    if (ranged && seen.from >= content.length) {
      response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
      return;
    }
    const start = ranged ? seen.from + (how.shift ?? 0) : 0;
    const body = content.subarray(start);
    response.writeHead(ranged ? 206 : 200, {
      "content-length": body.length,
      ...(ranged ? { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` } : {}),
      ...headers,
    });
    if (method === "HEAD") {
      response.end();
      return;
    }
    const end = how.cutAt ?? how.stallAt ?? body.length;
    seen.sent = Math.min(end, body.length);
    // A cut behind the end is none: the client has it all, and may use the connection again.
    if (end >= body.length) response.end(body);
    else {
      response.flushHeaders();
      const part = body.subarray(0, end);
      const after = () => {
        // What was written is read before the connection breaks, or fetch() drops it.
        if (how.cutAt !== undefined) setTimeout(() => response.socket?.destroy(), 25);
      };
      if (part.length === 0) after();
      else response.write(part, after);
    }
  }
}

/** Bytes of a safetensors file with one tensor of `size` bytes of noise. */
export function weights(size: number, seed = 1): Uint8Array {
  const header = JSON.stringify({ noise: { dtype: "U8", shape: [size], data_offsets: [0, size] } }).padEnd(120);
  const bytes = new Uint8Array(8 + header.length + size);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(new TextEncoder().encode(header), 8);
  let state = seed;
  for (let i = 8 + header.length; i < bytes.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

export const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";
export const NAME = "Small/Doge-test";

/** A repository with a config, a tokenizer, a README and weights of about `size` bytes. */
export function repository(size = 200_000, extra: Record<string, Uint8Array> = {}): Repository {
  return {
    commit: COMMIT,
    files: {
      "config.json": json({ model_type: "doge" }),
      "generation_config.json": json({ eos_token_id: 1 }),
      "tokenizer.json": json({ model: { type: "BPE" } }),
      "README.md": new TextEncoder().encode("# not fetched"),
      "model.safetensors": weights(size),
      ...extra,
    },
  };
}
