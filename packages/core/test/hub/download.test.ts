// Rows D1 to D6 and D8 of the fault table: connections, servers and disks that fail while a model is fetched.
import { readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Progress } from "../../src/index.ts";
import { type Disk, disk } from "../../src/node/disk.ts";
import { COMMIT, json, NAME, repository, sha256, TestHub, weights } from "./server.ts";
import { bytesOf, everything, expectFiles, expectTrustworthy, fault, open, temporary } from "./support.ts";

const WEIGHTS = "model.safetensors";
const original = repository();
const hub = new TestHub({ [NAME]: original });
let folder: Awaited<ReturnType<typeof temporary>>;
let cacheDir: string;
let n = 0;

beforeAll(async () => {
  await hub.start();
  folder = await temporary();
});
afterAll(async () => {
  await hub.stop();
  await folder.remove();
});
beforeEach(() => {
  hub.reset();
  hub.bytesFrom = null;
  hub.repositories[NAME] = { ...original, files: { ...original.files } };
  cacheDir = join(folder.path, `cache-${++n}`);
});
const setting = (more = {}) => ({ cacheDir, endpoint: hub.url, ...more });
const blob = () => join(cacheDir, "models--Small--Doge-test", "blobs", sha256(original.files[WEIGHTS]!));
const blobs = async () => (await readdir(join(cacheDir, "models--Small--Doge-test", "blobs")).catch(() => [])).sort();

describe("a model by name", () => {
  test("is fetched once: only the files Doge needs, in the cache's layout", async () => {
    await expectFiles(await open(setting()), original.files);
    expect(hub.log.some(({ file }) => file === "README.md")).toBe(false);
    const paths = (await everything(cacheDir)).map((path) => path.replace("models--Small--Doge-test/", "")).sort();
    expect(paths.filter((path) => !path.startsWith("blobs/"))).toEqual([
      "refs/main",
      ...["config.json", "generation_config.json", WEIGHTS, "tokenizer.json"].map(
        (file) => `snapshots/${COMMIT}/${file}`,
      ),
    ]);
    expect(await readFile(join(cacheDir, "models--Small--Doge-test", "refs", "main"), "utf8")).toBe(COMMIT);
    hub.reset();
    await expectFiles(await open(setting()), original.files);
    expect(hub.log.map(({ method, file }) => `${method} ${file}`)).toEqual(["GET api"]);
  });

  test("tells of progress, file by file and over all", async () => {
    const seen: Progress[] = [];
    await open(setting({ onProgress: (progress: Progress) => seen.push(progress) }));
    const needed = Object.entries(original.files).filter(([file]) => file !== "README.md");
    const total = needed.reduce((sum, [, bytes]) => sum + bytes.length, 0);
    expect(seen.at(-1)!.overall).toEqual({ loaded: total, total });
    expect(seen.every(({ overall }) => overall!.total === total)).toBe(true);
    for (const [file, bytes] of needed) {
      expect(seen.filter((progress) => progress.file === file).at(-1)).toMatchObject({
        loaded: bytes.length,
        total: bytes.length,
      });
    }
    const loaded = seen.map(({ overall }) => overall!.loaded);
    expect(loaded).toEqual([...loaded].sort((a, b) => a - b));
  });

  test("shards follow the index", async () => {
    const shards = {
      "model-00001-of-00002.safetensors": weights(5000, 2),
      "model-00002-of-00002.safetensors": weights(6000, 3),
    };
    const { [WEIGHTS]: _, ...rest } = original.files;
    const index = json({ weight_map: { a: Object.keys(shards)[0], b: Object.keys(shards)[1] } });
    const files = { ...rest, "model.safetensors.index.json": index, ...shards };
    hub.repositories[NAME] = { commit: COMMIT, files: { ...files, "pytorch_model.bin": weights(10) } };
    await expectFiles(await open(setting()), files);
    const { "model-00002-of-00002.safetensors": __, ...without } = files;
    hub.repositories[NAME] = { commit: COMMIT, files: without };
    expect(await fault(open({ ...setting(), cacheDir: `${cacheDir}-b` }))).toMatchObject({ code: "file-missing" });
  });

  test("shards in subfolders, too: cut, resumed, served offline, and refused as links out of the cache", async () => {
    const shards: Record<string, Uint8Array> = {
      "sub/model-00001-of-00002.safetensors": weights(50_000, 2),
      "sub/deep er/model-00002-of-00002.safetensors": weights(60_000, 3),
    };
    const [first, second] = Object.keys(shards) as [string, string];
    const { [WEIGHTS]: _, ...rest } = original.files;
    const index = json({ weight_map: { a: first, b: second } });
    hub.repositories[NAME] = {
      commit: COMMIT,
      files: { ...rest, "model.safetensors.index.json": index, "sub/README.md": json(1), ...shards },
    };
    hub.misbehave = ({ method, file }, count) =>
      method === "GET" && file === second && count === 1 ? { cutAt: 20_000 } : null;
    const expectShards = async (files: Awaited<ReturnType<typeof open>>) => {
      for (const [file, bytes] of Object.entries(shards)) expect(await bytesOf(files, file), file).toEqual(bytes);
      await files.close?.();
    };
    await expectShards(await open(setting()));
    expect(hub.gets(second).map(({ from }) => from)).toEqual([0, 20_000]);
    expect(hub.gets("sub/README.md")).toEqual([]);
    hub.reset();
    await expectShards(await open(setting()));
    await expectShards(await open(setting({ offline: true })));
    expect(hub.log.map(({ file }) => file)).toEqual(["api"]);

    const link = join(cacheDir, "models--Small--Doge-test", "snapshots", COMMIT, second);
    await rm(link);
    const missing = await fault(open(setting({ offline: true })));
    expect(missing).toMatchObject({ code: "offline-missing", message: expect.stringContaining(second) });
    await writeFile(join(folder.path, "outside"), shards[second]!);
    await symlink(join(folder.path, "outside"), link);
    const files = await open(setting({ offline: true }));
    expect((await fault(files.size(second))).code).toBe("unsafe-path");
    await files.close?.();
  });

  test("a repository with pickle or GGUF alone gets advice before anything is fetched", async () => {
    for (const [file, word] of [
      ["pytorch_model.bin", "save_pretrained"],
      ["doge-q8.gguf", "GGUF"],
    ] as const) {
      const { [WEIGHTS]: _, ...rest } = original.files;
      hub.repositories[NAME] = { commit: COMMIT, files: { ...rest, [file]: weights(10) } };
      const error = await fault(open(setting()));
      expect(error.code).toBe("unsupported-format");
      expect(error.message).toContain(word);
    }
    expect(await everything(cacheDir)).toEqual([]);
  });
});

describe("D1 a connection cut at any byte", () => {
  test("is resumed with Range and If-Range where it broke off, and nothing comes twice", async () => {
    const size = original.files[WEIGHTS]!.length;
    for (const cut of [0, 1, 7, 8, 9, 4095, 65536, 65537, size - 1]) {
      hub.reset();
      hub.misbehave = ({ method, file }, count) =>
        method === "GET" && file === WEIGHTS && count === 1 ? { cutAt: cut } : null;
      const cache = `${cacheDir}-${cut}`;
      await expectFiles(await open({ ...setting(), cacheDir: cache }), original.files);
      const [first, second, ...more] = hub.gets(WEIGHTS);
      expect([first!.from, second!.from, more.length]).toEqual([0, cut, 0]);
      expect(second!.headers["if-range"]).toBe(cut === 0 ? undefined : `"${sha256(original.files[WEIGHTS]!)}"`);
    }
  });

  test("is seen where nothing tells the length and the end is a closed connection, and nothing is kept", async () => {
    for (const [file, cut] of [
      ["config.json", 10],
      [WEIGHTS, 5000],
      [WEIGHTS, 60],
    ] as const) {
      let left = 1; // as many transfers are cut
      const old = createServer((request, response) => {
        const name = request.url!.split("/").at(-1)!;
        const body = request.url!.startsWith("/api/")
          ? json({ sha: COMMIT, siblings: Object.keys(original.files).map((rfilename) => ({ rfilename })) })
          : original.files[name]!;
        response.useChunkedEncodingByDefault = false;
        response.writeHead(200, { etag: `"etag-${name}"`, connection: "close" });
        if (request.method === "HEAD") return response.end();
        response.end(name === file && left-- > 0 ? body.subarray(0, cut) : body);
      });
      await new Promise<void>((resolve) => old.listen(0, "127.0.0.1", resolve));
      const endpoint = `http://127.0.0.1:${(old.address() as AddressInfo).port}`;
      const cache = `${cacheDir}-${file}-${cut}`;
      await expectFiles(await open({ ...setting(), endpoint, cacheDir: cache }), original.files);
      left = 2;
      const error = await fault(open({ ...setting(), endpoint, cacheDir: `${cache}-twice` }));
      expect(error.code).toBe("integrity");
      expect(error.message).toContain(file);
      expect((await everything(`${cache}-twice`)).filter((path) => path.includes(`etag-${file}`))).toEqual([]);
      old.closeAllConnections();
      await new Promise((resolve) => old.close(resolve));
    }
  });

  test("many cuts with progress between them do not exhaust the tries", async () => {
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { cutAt: 20_000 } : null);
    await expectFiles(await open(setting()), original.files);
    expect(hub.gets(WEIGHTS).length).toBeGreaterThan(9);
  });

  test("after five tries that bring nothing, the error keeps what came, and the next run goes on from there", async () => {
    const pauses: number[] = [];
    hub.misbehave = ({ method, file }, count) =>
      method === "GET" && file === WEIGHTS ? { cutAt: count === 1 ? 50_000 : 0 } : null;
    const error = await fault(open(setting(), pauses));
    expect(error.code).toBe("hub-unreachable");
    expect(error.message).toContain(WEIGHTS);
    expect(pauses).toEqual([300, 600, 1200, 2400]);
    expect(hub.gets(WEIGHTS).length).toBe(5);
    expect((await readFile(`${blob()}.incomplete`)).length).toBe(50_000);
    hub.reset();
    await expectFiles(await open(setting()), original.files);
    expect(hub.gets(WEIGHTS).map(({ from }) => from)).toEqual([50_000]);
    expect(await blobs()).not.toContain(`${sha256(original.files[WEIGHTS]!)}.incomplete`);
  });

  test("an abort leaves a beginning that is resumed", async () => {
    const controller = new AbortController();
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { stallAt: 30_000 } : null);
    const onProgress = ({ file, loaded }: Progress) => {
      if (file === WEIGHTS && loaded === 30_000) controller.abort();
    };
    const error = await fault(open(setting({ signal: controller.signal, onProgress })));
    expect(error.code).toBe("aborted");
    expect((await readFile(`${blob()}.incomplete`)).length).toBe(30_000);
    hub.reset();
    await expectFiles(await open(setting()), original.files);
    expect(hub.gets(WEIGHTS).map(({ from }) => from)).toEqual([30_000]);
  });
});

describe("D2 a range that is not honoured", () => {
  const cases = {
    "200 with everything": { ignoreRange: true },
    "416": { status: 416 },
    "206 from elsewhere": { shift: 3 },
  };
  for (const [what, how] of Object.entries(cases)) {
    test(`${what}: from 0 again, never appended`, async () => {
      hub.misbehave = ({ method, file }, count) =>
        method !== "GET" || file !== WEIGHTS || count > 2 ? null : count === 1 ? { cutAt: 70_000 } : how;
      await expectFiles(await open(setting()), original.files);
      expect(hub.gets(WEIGHTS).map(({ from }) => from)).toEqual(what.startsWith("200") ? [0, 70_000] : [0, 70_000, 0]);
    });
  }

  test("an ETag that changed in between: the new file, whole", async () => {
    for (const file of [WEIGHTS, "tokenizer.json"]) {
      hub.reset();
      hub.repositories[NAME] = {
        ...original,
        files: { ...original.files, "tokenizer.json": json({ long: "a".repeat(9000) }) },
      };
      const { files } = hub.repositories[NAME]!;
      const changed = file === WEIGHTS ? weights(150_000, 9) : json({ other: "b".repeat(8000) });
      hub.misbehave = (seen, count) => {
        if (seen.method !== "GET" || seen.file !== file) return null;
        if (count === 1) return { cutAt: 5000 };
        files[file] = changed;
        return null;
      };
      await expectFiles(await open({ ...setting(), cacheDir: `${cacheDir}-${file}` }), { ...files, [file]: changed });
    }
  });
});

describe("D3 wrong bytes", () => {
  test("a wrong hash once: fetched again; twice: refused by name and hashes, and nothing left", async () => {
    const wrong = weights(200_000, 5);
    hub.misbehave = ({ method, file }, count) =>
      method === "GET" && file === WEIGHTS && count === 1 ? { replace: wrong } : null;
    await expectFiles(await open(setting()), original.files);
    hub.reset();
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { replace: wrong } : null);
    const other = `${cacheDir}-b`;
    const error = await fault(open({ ...setting(), cacheDir: other }));
    expect(error.code).toBe("integrity");
    for (const part of [WEIGHTS, sha256(original.files[WEIGHTS]!), sha256(wrong)])
      expect(error.message).toContain(part);
    expect(hub.gets(WEIGHTS).length).toBe(2);
    const left = await everything(other);
    expect(left.filter((path) => path.includes(sha256(original.files[WEIGHTS]!)) || path.endsWith(WEIGHTS))).toEqual(
      [],
    );
  });

  test("a wrong size is never taken for the file", async () => {
    for (const wrong of [original.files[WEIGHTS]!.subarray(0, 1000), weights(200_100)]) {
      hub.reset();
      hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { replace: wrong } : null);
      const cache = `${cacheDir}-${wrong.length}`;
      const error = await fault(open({ ...setting(), cacheDir: cache }));
      expect(error.code).toBe("integrity");
      expect(error.message).toContain(`expected ${original.files[WEIGHTS]!.length} bytes, got ${wrong.length}`);
      await expectTrustworthy(cache, original.files);
    }
  });

  test("a beginning that was damaged on disk is found by the hash, and fetched again", async () => {
    hub.misbehave = ({ method, file }, count) =>
      method === "GET" && file === WEIGHTS ? { cutAt: count === 1 ? 50_000 : 0 } : null;
    await fault(open(setting()));
    const damaged = await readFile(`${blob()}.incomplete`);
    damaged[1234]! ^= 4;
    await writeFile(`${blob()}.incomplete`, damaged);
    hub.reset();
    await expectFiles(await open(setting()), original.files);
    expect(hub.gets(WEIGHTS).map(({ from }) => from)).toEqual([50_000, 0]);
  });

  test("a bit that flipped in the cache: fetched again with a connection, refused without", async () => {
    await open(setting());
    const damaged = await readFile(blob());
    damaged[damaged.length - 5]! ^= 1;
    await writeFile(blob(), damaged);
    const error = await fault(open(setting({ offline: true })));
    expect(error.code).toBe("integrity");
    expect(error.message).toContain(WEIGHTS);
    await expectFiles(await open(setting()), original.files);
    await expectFiles(await open(setting({ offline: true })), original.files);
  });

  test("a blob of the wrong length, and a link whose blob is gone, are fetched again", async () => {
    await open(setting());
    await writeFile(blob(), "short");
    await rm(join(cacheDir, "models--Small--Doge-test", "snapshots", COMMIT, WEIGHTS));
    await expectFiles(await open(setting()), original.files);
    await rm(blob());
    await expectFiles(await open(setting()), original.files);
  });
});

describe("D4 pages in a file's place", () => {
  const page = { status: 200, headers: { "content-type": "text/html" }, body: "<!doctype html><title>Log in</title>" };
  test("a login page with status 200 is refused and not kept, wherever it comes", async () => {
    for (const [file, method] of [
      ["api", "GET"],
      ["config.json", "HEAD"],
      ["config.json", "GET"],
      [WEIGHTS, "GET"],
    ]) {
      hub.reset();
      hub.misbehave = (seen) => (seen.file === file && seen.method === method ? page : null);
      const cache = `${cacheDir}-${file}-${method}`;
      const error = await fault(open({ ...setting(), cacheDir: cache }));
      expect(error.code).toBe("hub-response");
      expect(error.message).toContain("web page");
      await expectTrustworthy(cache, original.files);
    }
  });

  test("a page that says it is JSON, an empty body, and doubly packed bytes are refused and not kept", async () => {
    const bodies = [page.body, "", new Uint8Array([0x1f, 0x8b, 8, 0, 1, 2, 3])];
    for (const [index, body] of bodies.entries()) {
      const replace = typeof body === "string" ? new TextEncoder().encode(body) : body;
      hub.reset();
      hub.misbehave = ({ file }) => (file === "tokenizer.json" ? { replace } : null);
      const cache = `${cacheDir}-${index}`;
      const error = await fault(open({ ...setting(), cacheDir: cache }));
      expect(error.code).toBe("integrity");
      expect(error.message).toContain("tokenizer.json");
      expect((await everything(cache)).filter((path) => path.endsWith("tokenizer.json"))).toEqual([]);
      await expectTrustworthy(cache, original.files);
    }
  });

  test("a listing that is no hub's is refused", async () => {
    const bodies = [
      "",
      "[]",
      "{}",
      "not json",
      '{"sha":"../../x","siblings":[]}',
      `{"sha":"${COMMIT}","siblings":[{}]}`,
    ];
    for (const body of bodies) {
      hub.misbehave = ({ file }) => (file === "api" ? { status: 200, body } : null);
      expect((await fault(open(setting()))).code, body).toBe("hub-response");
    }
    const other = COMMIT.replace("0", "f");
    hub.misbehave = ({ file }) => (file === "api" ? { status: 200, body: `{"sha":"${COMMIT}","siblings":[]}` } : null);
    expect((await fault(open(setting({ revision: other })))).code).toBe("integrity");
    hub.misbehave = ({ file }) => (file === WEIGHTS ? { headers: { "x-repo-commit": other } } : null);
    expect((await fault(open(setting()))).code).toBe("integrity");
  });
});

describe("D5 servers that refuse, fail and fall silent", () => {
  test("401, 403 and 404 say what to do, at once", async () => {
    for (const [status, code, word] of [
      [401, "hub-unauthorized", "HF_TOKEN"],
      [403, "hub-unauthorized", "accept"],
      [404, "hub-not-found", "revision"],
      [418, "hub-response", "418"],
    ] as const) {
      hub.reset();
      hub.misbehave = () => ({ status, headers: { "x-error-message": "because" } });
      const error = await fault(open(setting()));
      expect(error.code).toBe(code);
      expect(error.message).toContain(word);
      expect(error.message).toContain("because");
      expect(hub.log.length).toBe(1);
    }
    hub.reset();
    const absent = await fault(open(setting({ name: "no/such" })));
    expect(absent.code).toBe("hub-not-found");
    expect(absent.message).toContain("no/such");
    expect((await fault(open(setting({ revision: "v9" })))).code).toBe("hub-not-found");
  });

  test("429 waits as long as it is asked to, and no longer than a minute", async () => {
    const pauses: number[] = [];
    hub.misbehave = ({ file }, count) =>
      file === "api" && count < 3 ? { status: 429, headers: { "retry-after": "7" } } : null;
    await expectFiles(await open(setting(), pauses), original.files);
    expect(pauses).toEqual([7000, 7000]);

    pauses.length = 0;
    hub.reset();
    hub.misbehave = () => ({ status: 429, headers: { "retry-after": "3600" } });
    const error = await fault(open({ ...setting(), cacheDir: `${cacheDir}-b` }, pauses));
    expect([error.code, pauses]).toEqual(["hub-busy", []]);
    expect(error.message).toContain("3600 seconds");

    hub.reset();
    const now = Date.parse("2026-01-01T00:00:00Z");
    const headers = { "retry-after": new Date(now + 9000).toUTCString() };
    hub.misbehave = ({ file }, count) => (file === WEIGHTS && count === 1 ? { status: 503, headers } : null);
    await open({ ...setting({ transport: { now: () => now } }), cacheDir: `${cacheDir}-c` }, pauses);
    expect(pauses).toEqual([9000, 9000]);
  });

  test("5xx is tried five times with growing pauses and jitter, then typed", async () => {
    const pauses: number[] = [];
    hub.misbehave = () => ({ status: 502 });
    expect((await fault(open(setting({ transport: { random: () => 0 } }), pauses))).code).toBe("hub-unreachable");
    expect(pauses).toEqual([150, 300, 600, 1200]);
    expect(hub.log.length).toBe(5);
  });

  test("silence ends a connection, and the transfer goes on where it was", async () => {
    hub.misbehave = ({ method, file }, count) =>
      method === "GET" && file === WEIGHTS && count === 1 ? { stallAt: 10_000 } : null;
    await expectFiles(await open(setting({ transport: { stallMs: 200 } })), original.files);
    expect(hub.gets(WEIGHTS).map(({ from }) => from)).toEqual([0, 10_000]);
    hub.reset();
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { stallAt: 0 } : null);
    const error = await fault(open({ ...setting({ transport: { stallMs: 50 } }), cacheDir: `${cacheDir}-b` }));
    expect(error.code).toBe("hub-unreachable");
    expect(error.message).toContain("nothing came for 0.05 seconds");
  });

  test("names that cannot be looked up, closed ports and bad certificates are typed; certificates are not tried again", async () => {
    const failing = (code: string) => {
      let calls = 0;
      const fetch = async (): Promise<Response> => {
        calls++;
        throw Object.assign(new TypeError("fetch failed"), {
          cause: Object.assign(new Error(`it said ${code}`), { code }),
        });
      };
      return { fetch, calls: () => calls };
    };
    for (const [code, calls, word] of [
      ["ENOTFOUND", 5, "looked up"],
      ["ECONNREFUSED", 5, "ECONNREFUSED"],
      ["DEPTH_ZERO_SELF_SIGNED_CERT", 1, "certificate"],
      ["CERT_HAS_EXPIRED", 1, "certificate"],
    ] as const) {
      const transport = failing(code);
      const error = await fault(open(setting({ transport })));
      expect([error.code, transport.calls()]).toEqual(["hub-unreachable", calls]);
      expect(error.message).toContain(word);
    }
  });

  test("a server without HEAD is asked with GET", async () => {
    for (const status of [405, 501, 403, 404, 400]) {
      hub.reset();
      hub.misbehave = ({ method }) => (method === "HEAD" ? { status } : null);
      await expectFiles(await open({ ...setting(), cacheDir: `${cacheDir}-${status}` }), original.files);
    }
  });
});

describe("D6 disks that are full or read-only", () => {
  /** The disk with one operation of open files replaced. */
  const withWrite = (write: (bytes: number) => void): Disk => ({
    ...disk,
    async open(path, flags, mode) {
      const handle = await disk.open(path, flags, mode);
      const real = handle.write.bind(handle) as (...args: unknown[]) => Promise<unknown>;
      return Object.assign(handle, {
        write: async (...args: unknown[]) => {
          write((args[0] as Uint8Array).length);
          return real(...args);
        },
      });
    },
  });
  const failure = (code: string) => Object.assign(new Error(code), { code });

  test("ENOSPC while writing has needed and free; what came is resumed when there is room", async () => {
    let room = 40_000;
    const fs = withWrite((bytes) => {
      room -= bytes;
      if (room < 0) throw failure("ENOSPC");
    });
    const error = await fault(open(setting({ fs })));
    expect(error.code).toBe("disk-full");
    expect(error.message).toMatch(/\d+ bytes are needed, and \d+ are free/);
    await expectTrustworthy(cacheDir, original.files);
    await expectFiles(await open(setting()), original.files);
  });

  test("a disk without the room is seen before the transfer", async () => {
    const fs = { ...disk, statfs: async () => ({ bavail: 100, bsize: 512 }) } as unknown as Disk;
    const error = await fault(open(setting({ fs })));
    expect(error.code).toBe("disk-full");
    expect(error.message).toContain("51200 are free");
    expect(hub.log.filter(({ method, file }) => method === "GET" && file !== "api")).toEqual([]);
  });

  test("a read-only cache that has the model serves it, and one that has not is typed", async () => {
    const refuse = async () => {
      throw failure("EROFS");
    };
    const fs = { ...disk, mkdir: refuse, rename: refuse, symlink: refuse, rm: refuse } as unknown as Disk;
    const error = await fault(open(setting({ fs })));
    expect(error.code).toBe("cache-unwritable");
    expect(error.message).toContain("HF_HOME");
    await open(setting());
    await expectFiles(await open(setting({ fs })), original.files);
  });

  test("without links, the files themselves lie in the snapshot", async () => {
    for (const link of [disk.link, async () => Promise.reject(failure("EPERM"))]) {
      const symlink = async () => Promise.reject(failure("EPERM"));
      const fs = { ...disk, symlink, link } as Disk;
      const cache = `${cacheDir}-${link === disk.link}`;
      await expectFiles(await open({ ...setting({ fs }), cacheDir: cache }), original.files);
      await expectFiles(await open({ ...setting({ fs, offline: true }), cacheDir: cache }), original.files);
    }
  });
});

describe("D8 redirects", () => {
  test("the token stays with the endpoint when another host sends the bytes; cuts are resumed there", async () => {
    const bytes = await new TestHub({ [NAME]: original }).start();
    try {
      hub.bytesFrom = bytes.url;
      bytes.misbehave = ({ method }, count) => (method === "GET" && count === 1 ? { cutAt: 5000 } : null);
      await expectFiles(await open(setting({ token: "secret" })), original.files);
      expect(new Set(hub.log.map(({ headers }) => headers.authorization))).toEqual(new Set(["Bearer secret"]));
      expect(bytes.gets(WEIGHTS).map(({ from, headers }) => [from, headers.authorization])).toEqual([
        [0, undefined],
        [5000, undefined],
      ]);
      // A token that was not given is not sent.
      hub.reset();
      await open({ ...setting({ token: "" }), cacheDir: `${cacheDir}-b` });
      expect(hub.log.every(({ headers }) => headers.authorization === undefined)).toBe(true);
    } finally {
      await bytes.stop();
    }
  });

  test("a signed address that has run out is asked for anew; one that never works is the storage's fault", async () => {
    const bytes = await new TestHub({ [NAME]: original }).start();
    try {
      hub.bytesFrom = bytes.url;
      bytes.misbehave = (_, count) => (count <= 2 ? { status: 403 } : null);
      await expectFiles(await open(setting({ token: "secret" })), original.files);
      expect(hub.gets(WEIGHTS).length).toBe(3);
      bytes.misbehave = () => ({ status: 403 });
      const cache = `${cacheDir}-never`;
      const error = await fault(open({ ...setting(), cacheDir: cache }));
      expect(error.code).toBe("hub-unreachable");
      expect(error.message).toContain(new URL(bytes.url).host);
      expect(error.message).not.toContain("token");
      expect((await everything(cache)).filter((file) => file.endsWith(".incomplete"))).toEqual([]);
    } finally {
      await bytes.stop();
    }
  });

  test("a redirect on the same host is followed with the token", async () => {
    hub.misbehave = ({ url }) =>
      url.startsWith("/Old/") || url.includes("/Old/")
        ? { status: 307, headers: { location: url.replace("Old/name", NAME) } }
        : null;
    await expectFiles(await open(setting({ name: "Old/name", token: "secret" })), original.files);
    expect(hub.log.every(({ headers }) => headers.authorization === "Bearer secret")).toBe(true);
  });

  test("plain http to another machine is refused, as endpoint and as redirect; so are loops and odd addresses", async () => {
    for (const endpoint of ["http://example.com", "ftp://127.0.0.1/", "http://127.0.0.1.example.com"]) {
      expect((await fault(open({ ...setting(), endpoint }))).code).toBe("insecure-url");
    }
    for (const endpoint of ["nothing", "https://user:word@example.com", "https://example.com/?x=1"]) {
      expect((await fault(open({ ...setting(), endpoint }))).code).toBe("invalid-argument");
    }
    for (const [location, code] of [
      ["http://example.com/x", "insecure-url"],
      ["file:///etc/passwd", "insecure-url"],
      ["http://[", "hub-response"],
      ["/again", "hub-response"],
    ] as const) {
      hub.misbehave = () => ({ status: 302, headers: { location } });
      expect((await fault(open(setting()))).code).toBe(code);
    }
    // What is reached over https may not send us to this machine.
    const fetch = async (url: unknown) =>
      new Response(null, { status: 302, headers: { location: String(url).replace(/^https:..[^/]+/, hub.url) } });
    hub.reset();
    const transport = { fetch: fetch as typeof globalThis.fetch };
    expect((await fault(open({ ...setting({ transport }), endpoint: "https://example.com" }))).code).toBe(
      "insecure-url",
    );
    expect(hub.log).toEqual([]);
  });
});

test("F9 a weight file that is replaced while it is read", async () => {
  const files = await open(setting());
  await files.read(WEIGHTS, 0, 100);
  await writeFile(blob(), weights(200_000, 77).subarray(0, 150_000));
  expect((await fault(files.read(WEIGHTS, 100, 200))).code).toBe("file-changed");
  await files.close?.();
  expect((await bytesOf(await open(setting()), WEIGHTS)).length).toBe(original.files[WEIGHTS]!.length);
});
