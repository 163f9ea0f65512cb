// The cache of a browser, on a folder that behaves as OPFS does; names, hashes and other parts without a platform.
import { createHash } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { cabinetStore, memoryCabinet, opfsCabinet } from "../../src/browser/hub.ts";
import { openHub } from "../../src/browser/index.ts";
import { blobName, isHubName, repositoryFolder, repositoryOf } from "../../src/hub/names.ts";
import { HubServer } from "../../src/hub/server.ts";
import { sha256 } from "../../src/hub/sha256.ts";
import { openSnapshot } from "../../src/hub/snapshot.ts";
import { COMMIT, json, NAME, repository, TestHub, weights } from "./server.ts";
import { expectFiles, fault } from "./support.ts";

const failure = (name: string) => Object.assign(new Error(name), { name });

/** As much of a FileSystemDirectoryHandle as the cache uses; at most `room` bytes. */
class FakeFolder {
  readonly folders = new Map<string, FakeFolder>();
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly disk: { room: number };
  constructor(disk: { room: number }) {
    this.disk = disk;
  }
  async getDirectoryHandle(name: string, { create = false } = {}) {
    if (!this.folders.has(name)) {
      if (!create) throw failure("NotFoundError");
      this.folders.set(name, new FakeFolder(this.disk));
    }
    return this.folders.get(name)!;
  }
  async getFileHandle(name: string, { create = false } = {}) {
    if (!this.files.has(name) && !create) throw failure("NotFoundError");
    return {
      getFile: async () => new Blob([this.files.get(name)!]),
      createWritable: async () => {
        let pending = new Uint8Array(0);
        return {
          write: async (bytes: Uint8Array<ArrayBuffer>) => {
            if (bytes.length > this.disk.room) throw failure("QuotaExceededError");
            pending = bytes.slice();
          },
          close: async () => {
            this.disk.room -= pending.length;
            this.files.set(name, pending);
          },
          abort: async () => undefined,
        };
      },
    };
  }
  async removeEntry(name: string) {
    if (!this.files.has(name)) throw failure("NotFoundError");
    this.disk.room += this.files.get(name)!.length;
    this.files.delete(name);
  }
  async *keys() {
    yield* [...this.folders.keys(), ...this.files.keys()];
  }
}

const SIZE = 40 * 1024 * 1024;
const original = repository(SIZE);
const hub = new TestHub({ [NAME]: original });
beforeAll(() => hub.start());
afterAll(() => hub.stop());
beforeEach(() => hub.reset());

const fake = (room: number) => new FakeFolder({ room }) as unknown as FileSystemDirectoryHandle;
const open = (store: ReturnType<typeof cabinetStore>, more = {}) =>
  openSnapshot(NAME, {
    ...more,
    store,
    server: () => new HubServer({ endpoint: hub.url, redirects: "follow", sleep: async () => undefined }),
  });

describe("OPFS", () => {
  test("keeps a model, goes on with whole pieces after a cut, and serves it offline", async () => {
    const root = fake(1e9);
    const store = () => cabinetStore("doge", opfsCabinet(root), [], navigator.locks);
    hub.misbehave = ({ method, file }, count) =>
      method !== "GET" || file !== "model.safetensors"
        ? null
        : count === 1
          ? { cutAt: 20 * 1024 * 1024 }
          : { status: 403 };
    expect((await fault(open(store()))).code).toBe("hub-unauthorized");
    hub.reset();
    await expectFiles(await open(store()), original.files);
    // Of a closed tab, pieces of 16 MiB remain.
    const gets = hub.gets("model.safetensors").map(({ from, headers }) => [from, headers["if-range"]]);
    expect(gets).toEqual([[16 * 1024 * 1024, undefined]]);
    hub.reset();
    await expectFiles(await open(store(), { offline: true }), original.files);
    expect(hub.log).toEqual([]);
  });

  test("keeps shards that lie in subfolders", async () => {
    const name = "Small/Doge-sharded";
    const shards: Record<string, Uint8Array> = {
      "sub/a.safetensors": weights(500, 2),
      "b.safetensors": weights(600, 3),
    };
    const index = json({ weight_map: { a: "sub/a.safetensors", b: "b.safetensors" } });
    const { "model.safetensors": _, ...rest } = original.files;
    const files = { ...rest, "model.safetensors.index.json": index, ...shards };
    hub.repositories[name] = { commit: COMMIT, files };
    const store = cabinetStore("doge", opfsCabinet(fake(1e9)), []);
    const server = () => new HubServer({ endpoint: hub.url, redirects: "follow", sleep: async () => undefined });
    await openSnapshot(name, { store, server });
    await expectFiles(await openSnapshot(name, { store, server, offline: true }), files);
  });

  test("evicted pieces are fetched again (D11)", async () => {
    const cabinet = opfsCabinet(fake(1e9));
    const store = cabinetStore("doge", cabinet, []);
    await open(store);
    const folder = [repositoryFolder(NAME), "blobs"];
    const piece = (await cabinet.list(folder)).find((name) => name.endsWith(".1"))!;
    await cabinet.remove([...folder, piece]);
    expect((await fault(open(store, { offline: true }))).code).toBe("offline-missing");
    await expectFiles(await open(store), original.files);
    await expectFiles(await open(store, { offline: true }), original.files);
  });

  test("a full storage falls back to memory once, with one notice (D6)", async () => {
    const notices: string[] = [];
    const cabinet = memoryCabinet(opfsCabinet(fake(20 * 1024 * 1024)), (sentence) => notices.push(sentence));
    const files = await open(cabinetStore("doge", cabinet, notices));
    expect(notices.length).toBe(1);
    expect(files.notices!.join()).toContain("storage is full");
    await expectFiles(files, original.files);
  });

  test("an abort while another tab fetches", async () => {
    const store = cabinetStore(
      "doge",
      memoryCabinet(null, () => undefined),
      [],
      navigator.locks,
    );
    let go: (value?: unknown) => void = () => undefined;
    const blocked = store.exclusive(NAME, "b", undefined, () => new Promise((resolve) => (go = resolve)));
    const error = await fault(store.exclusive(NAME, "b", AbortSignal.timeout(50), async () => undefined));
    expect(error.code).toBe("aborted");
    go();
    await blocked;
  });

  test("without any storage, the model is kept in memory, with a notice", async () => {
    hub.repositories[NAME] = { ...original, files: { ...original.files, "model.safetensors": weights(1000) } };
    vi.stubGlobal("navigator", { storage: undefined, locks: undefined });
    try {
      const files = await openHub(NAME, { endpoint: hub.url });
      expect(files.notices!.join()).toContain("in memory alone");
      await expectFiles(files, hub.repositories[NAME]!.files);
    } finally {
      vi.unstubAllGlobals();
      hub.repositories[NAME] = original;
    }
  });

  test("what the listing says about files is enough where redirects cannot be looked at", async () => {
    const bytes = weights(1000);
    const digest = createHash("sha256").update(bytes).digest("hex");
    const siblings = [
      { rfilename: "config.json", blobId: "a".repeat(40), size: 2 },
      { rfilename: "model.safetensors", blobId: "b".repeat(40), size: bytes.length, lfs: { sha256: digest } },
    ];
    const asked: string[] = [];
    const fetch = async (url: unknown) => {
      const { pathname, search } = new URL(String(url));
      asked.push(pathname + search);
      if (pathname.startsWith("/api/")) return Response.json({ sha: COMMIT, siblings });
      return new Response(pathname.endsWith("config.json") ? "{}" : bytes.slice());
    };
    const files = await openSnapshot(NAME, {
      store: cabinetStore(
        "doge",
        memoryCabinet(null, () => undefined),
        [],
      ),
      server: () => new HubServer({ endpoint: hub.url, redirects: "follow", fetch: fetch as typeof globalThis.fetch }),
    });
    expect(await files.size("model.safetensors")).toBe(bytes.length);
    expect(asked).toEqual([
      `/api/models/${NAME}/revision/main?blobs=true`,
      `/${NAME}/resolve/${COMMIT}/config.json`,
      `/${NAME}/resolve/${COMMIT}/model.safetensors`,
    ]);
  });
});

describe("parts", () => {
  test("SHA-256 in pieces is SHA-256", () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 8 });
    fc.assert(
      fc.property(pieces, (all) => {
        const ours = sha256();
        const theirs = createHash("sha256");
        for (const piece of all) {
          ours.update(piece);
          theirs.update(piece);
        }
        expect(ours.digest()).toBe(theirs.digest("hex"));
      }),
      { numRuns: 300 },
    );
    for (let length = 0; length < 200; length++) {
      const ours = sha256();
      ours.update(new Uint8Array(length).fill(length));
      expect(ours.digest()).toBe(createHash("sha256").update(new Uint8Array(length).fill(length)).digest("hex"));
    }
  });

  test("names of models go to folders and back", () => {
    for (const name of ["SmallDoge/Doge-60M-Instruct", "a/b", "a_b/c.d-e"]) {
      expect(isHubName(name)).toBe(true);
      expect(repositoryOf(repositoryFolder(name))).toBe(name);
    }
    for (const name of ["gpt2", "a/b/c", "./a", "/a/b", "a//b", "", "a/b\n"]) expect(isHubName(name)).toBe(false);
    expect(repositoryFolder("SmallDoge/Doge-20M")).toBe("models--SmallDoge--Doge-20M");
    expect(repositoryOf("datasets--a--b")).toBeNull();
  });

  test("ETags become names of blobs, and nothing else does", () => {
    expect(blobName('"abc"')).toBe("abc");
    expect(blobName('W/"abc-1.2"')).toBe("abc-1.2");
    for (const etag of [null, "", '""', '"../x"', '"a/b"', '"a\\b"', '".hidden"', '"x.incomplete"', '"con"', "a b"]) {
      expect(blobName(etag)).toBeNull();
    }
  });
});
