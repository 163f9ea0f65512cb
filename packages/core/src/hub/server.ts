// What a hub is asked: which files a revision has, what one of them is, and its bytes. Nothing else (see docs/hub.md).
import { DogeError, isDogeError } from "../errors.ts";
import { isJsonObject, parseJson } from "../json.ts";
import { blobName, isCommit } from "./names.ts";
import { type Answer, Transient, Transport, type TransportOptions } from "./transport.ts";

export interface Listing {
  readonly commit: string;
  readonly names: readonly string[];
  /** What the listing itself says about files; hubs may leave it out. */
  readonly facts: ReadonlyMap<string, Facts>;
}

/** What a file is, before its bytes are there. */
export interface Facts {
  /** Name of its blob: the ETag. */
  readonly blob: string;
  readonly size: number | null;
  /** Of large files alone. */
  readonly sha256: string | null;
  /** The validator that a resumed transfer sends, where the server that sends the bytes is known to know it. */
  readonly validator: string | null;
}

/** A listing is text: a hub that sends more is none. */
const LISTING_CAP = 32 * 1024 * 1024;

export class HubServer {
  readonly transport: Transport;

  constructor(options: TransportOptions) {
    this.transport = new Transport(options);
  }

  get host(): string {
    return this.transport.endpoint.host;
  }

  /** Whether redirects are followed unseen, as in browsers. */
  get blind(): boolean {
    return this.transport.options.redirects === "follow";
  }

  /** @throws DogeError "hub-not-found", "hub-unauthorized", "hub-unreachable", "hub-busy", "hub-response". */
  async listing(id: string, revision: string, signal?: AbortSignal): Promise<Listing> {
    const what = `the model ${id} at revision ${revision}`;
    const path = `/api/models/${id}/revision/${encodeURIComponent(revision)}`;
    // Where redirects are followed unseen, a file's facts are not to be had from its own address.
    const text = await this.transport.persist(signal, async () => {
      const answer = await this.transport.ask({
        method: "GET",
        path: this.blind ? `${path}?blobs=true` : path,
        what,
        signal,
      });
      checkNoPage(answer, what);
      return bodyText(answer, what);
    });
    return readListing(text, `The answer of ${this.host} about ${what}`);
  }

  /** What `file` is, by HEAD, or by a GET whose body is dropped where HEAD is refused, in whatever way: what GET says counts. */
  async facts(id: string, commit: string, file: string, signal?: AbortSignal): Promise<Facts> {
    const what = `${file} of ${id}`;
    return this.transport.persist(signal, async () => {
      const ask = (method: "HEAD" | "GET") =>
        this.transport.ask({
          method,
          path: filePath(id, commit, file),
          what,
          signal,
          enough: (headers) => headers.has("x-linked-etag") || headers.has("etag"),
        });
      const answer = await ask("HEAD").catch((error: unknown) => {
        if (isDogeError(error) && error.code !== "aborted") return ask("GET");
        throw error;
      });
      await answer.drop();
      checkNoPage(answer, what);
      checkCommit(answer, commit, what);
      return factsOf(answer, what, this.host);
    });
  }

  /** The bytes of `file` from `from` on. */
  async bytes(
    {
      id,
      commit,
      file,
      from,
      validator,
    }: { id: string; commit: string; file: string; from: number; validator: string | null },
    signal?: AbortSignal,
  ): Promise<Answer> {
    const what = `${file} of ${id}`;
    const headers =
      from === 0 ? {} : { range: `bytes=${from}-`, ...(validator === null ? {} : { "if-range": validator }) };
    const answer = await this.transport.ask({ method: "GET", path: filePath(id, commit, file), what, signal, headers });
    try {
      checkNoPage(answer, what);
      checkCommit(answer, commit, what);
    } catch (error) {
      await answer.drop();
      throw error;
    }
    return answer;
  }
}

const filePath = (id: string, commit: string, file: string): string =>
  `/${id}/resolve/${commit}/${file.split("/").map(encodeURIComponent).join("/")}`;

function factsOf(answer: Answer, what: string, host: string): Facts {
  const linked = blobName(answer.header("x-linked-etag"));
  const etag = answer.response.headers.get("etag") ?? answer.header("etag");
  const blob = linked ?? blobName(etag);
  if (blob === null) {
    throw new DogeError("hub-response", `${host} sends no ETag with ${what}, as a hub does; is it one?`);
  }
  const length = (name: string) => whole(answer.header(name));
  const own =
    answer.response.status === 200 && !encoded(answer) ? whole(answer.response.headers.get("content-length")) : null;
  const direct = answer.response.status === 200 && !answer.foreign;
  return {
    blob,
    size: length("x-linked-size") ?? own,
    sha256: linked !== null && /^[0-9a-f]{64}$/.test(linked) ? linked : null,
    // A weak ETag cannot say that bytes are the same.
    validator: direct && etag?.startsWith('"') ? etag : null,
  };
}

/** Bytes as a header has them, or null. */
export function whole(header: string | null): number | null {
  const value = header !== null && /^\d+$/.test(header) ? Number(header) : Number.NaN;
  return Number.isSafeInteger(value) ? value : null;
}

/** Whether Content-Length counts other bytes than the ones that arrive. */
export const encoded = ({ response }: Answer): boolean =>
  !["", "identity"].includes(response.headers.get("content-encoding") ?? "");

/** @throws DogeError "hub-response" for a web page: what a login or a proxy puts in a file's place. */
function checkNoPage(answer: Answer, what: string): void {
  const whole = answer.response.status === 200 || answer.response.status === 206;
  if (whole && /^(text\/html|application\/xhtml)/i.test(answer.response.headers.get("content-type") ?? "")) {
    void answer.drop();
    throw new DogeError(
      "hub-response",
      `Instead of ${what}, a web page came back, as a login or a proxy sends it; nothing was kept. Check the endpoint and the connection.`,
    );
  }
}

function checkCommit(answer: Answer, commit: string, what: string): void {
  const found = answer.header("x-repo-commit");
  if (found !== null && found !== commit) {
    throw new DogeError(
      "integrity",
      `${what} was asked for at the commit ${commit}, and the server answers with ${JSON.stringify(found.slice(0, 80))}.`,
    );
  }
}

async function bodyText(answer: Answer, what: string): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of answer.body()) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > LISTING_CAP) throw new DogeError("hub-response", `The answer about ${what} does not end.`);
  }
  if (text === "") {
    throw new Transient(new DogeError("hub-response", `The answer about ${what} is empty; no hub sends that.`));
  }
  return text + decoder.decode();
}

function readListing(text: string, what: string): Listing {
  const json = parseJson(text, { file: what, code: "hub-response" });
  const fail = (why: string) => new DogeError("hub-response", `${what} ${why}; is it a hub?`);
  if (!isJsonObject(json)) throw fail("is not an object");
  const { sha, siblings } = json;
  if (typeof sha !== "string" || !isCommit(sha)) {
    throw fail(`has the sha ${JSON.stringify(sha)?.slice(0, 80)}, which is no commit hash`);
  }
  if (!Array.isArray(siblings)) throw fail("has no array of siblings");
  const facts = new Map<string, Facts>();
  const names = siblings.map((sibling) => {
    if (!isJsonObject(sibling) || typeof sibling.rfilename !== "string") throw fail("has a sibling without rfilename");
    const { rfilename, blobId, size, lfs } = sibling;
    const sha256 =
      isJsonObject(lfs) && typeof lfs.sha256 === "string" && /^[0-9a-f]{64}$/.test(lfs.sha256) ? lfs.sha256 : null;
    const blob = sha256 ?? (typeof blobId === "string" ? blobName(blobId) : null);
    if (blob !== null) {
      facts.set(rfilename, { blob, size: typeof size === "number" ? size : null, sha256, validator: null });
    }
    return rfilename;
  });
  return { commit: sha, names, facts };
}
