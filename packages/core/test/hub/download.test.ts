// Rows D1 to D3 of the fault table: connections that break, ranges that are not honoured, and wrong bytes.
import { readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Progress } from "../../src/index.ts";
import { COMMIT, json, NAME, sha256, weights } from "./server.ts";
import { bytesOf, everything, expectFiles, expectTrustworthy, fault, hubForTests, open, WEIGHTS } from "./support.ts";

const { hub, original, place, setting, blob, blobs } = hubForTests();

describe("a model by name", () => {
  test("is fetched once: only the files Doge needs, in the cache's layout", async () => {
    await expectFiles(await open(setting()), original.files);
    expect(hub.log.some(({ file }) => file === "README.md")).toBe(false);
    const paths = (await everything(place.cacheDir))
      .map((path) => path.replace("models--Small--Doge-test/", ""))
      .sort();
    expect(paths.filter((path) => !path.startsWith("blobs/"))).toEqual([
      "refs/main",
      ...["config.json", "generation_config.json", WEIGHTS, "tokenizer.json"].map(
        (file) => `snapshots/${COMMIT}/${file}`,
      ),
    ]);
    expect(await readFile(join(place.cacheDir, "models--Small--Doge-test", "refs", "main"), "utf8")).toBe(COMMIT);
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
    expect(await fault(open({ ...setting(), cacheDir: `${place.cacheDir}-b` }))).toMatchObject({
      code: "file-missing",
    });
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

    const link = join(place.cacheDir, "models--Small--Doge-test", "snapshots", COMMIT, second);
    await rm(link);
    const missing = await fault(open(setting({ offline: true })));
    expect(missing).toMatchObject({ code: "offline-missing", message: expect.stringContaining(second) });
    await writeFile(join(place.folder, "outside"), shards[second]!);
    await symlink(join(place.folder, "outside"), link);
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
    expect(await everything(place.cacheDir)).toEqual([]);
  });
});

describe("D1 a connection cut at any byte", () => {
  test("is resumed with Range and If-Range where it broke off, and nothing comes twice", async () => {
    const size = original.files[WEIGHTS]!.length;
    for (const cut of [0, 1, 7, 8, 9, 4095, 65536, 65537, size - 1]) {
      hub.reset();
      hub.misbehave = ({ method, file }, count) =>
        method === "GET" && file === WEIGHTS && count === 1 ? { cutAt: cut } : null;
      const cache = `${place.cacheDir}-${cut}`;
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
      const cache = `${place.cacheDir}-${file}-${cut}`;
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
      await expectFiles(await open({ ...setting(), cacheDir: `${place.cacheDir}-${file}` }), {
        ...files,
        [file]: changed,
      });
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
    const other = `${place.cacheDir}-b`;
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
      const cache = `${place.cacheDir}-${wrong.length}`;
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
    await rm(join(place.cacheDir, "models--Small--Doge-test", "snapshots", COMMIT, WEIGHTS));
    await expectFiles(await open(setting()), original.files);
    await rm(blob());
    await expectFiles(await open(setting()), original.files);
  });
});
