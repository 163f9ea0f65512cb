// Rows D7, D9, D10 and F13 of the fault table: several processes, sudden deaths, hostile names, no network, links; and what else
// the cache is asked.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readdir, readFile, readlink, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { DogeError } from "../../src/index.ts";
import { type Disk, disk } from "../../src/node/disk.ts";
import { cachedModels, completed, hubCacheFolder, removeCached } from "../../src/node/hub.ts";
import { folder as folderFiles } from "../../src/node/index.ts";
import { takeLock } from "../../src/node/lock.ts";
import { COMMIT, json, NAME, repository, sha256, TestHub, weights } from "./server.ts";
import { bytesOf, everything, expectFiles, expectTrustworthy, fault, open, temporary } from "./support.ts";

const WEIGHTS = "model.safetensors";
const REPOSITORY = "models--Small--Doge-test";
const original = repository();
const hash = sha256(original.files[WEIGHTS]!);
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
  hub.repositories[NAME] = { ...original, files: { ...original.files } };
  cacheDir = join(folder.path, `cache-${++n}`);
});
const setting = (more = {}) => ({ cacheDir, endpoint: hub.url, ...more });
const snapshot = () => join(cacheDir, REPOSITORY, "snapshots", COMMIT);
const incomplete = () => join(cacheDir, REPOSITORY, "blobs", `${hash}.incomplete`);
const sizeOf = async (path: string) => (await stat(path).catch(() => null))?.size ?? 0;

/** A process that opens the model; its output when it ends. */
function child(): { process: ChildProcess; done: Promise<{ code: number | null; out: string; err: string }> } {
  const path = fileURLToPath(new URL("child.ts", import.meta.url));
  const started = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", path, NAME], {
    env: { ...process.env, HF_ENDPOINT: hub.url, HF_HUB_CACHE: cacheDir, HF_HUB_OFFLINE: "", HF_TOKEN: "" },
  });
  let out = "";
  let err = "";
  started.stdout.on("data", (data) => {
    out += data;
  });
  started.stderr.on("data", (data) => {
    err += data;
  });
  const done = new Promise<{ code: number | null; out: string; err: string }>((resolve) =>
    started.on("close", (code) => resolve({ code, out, err })),
  );
  return { process: started, done };
}

describe("D7 several at once, and sudden death", () => {
  test("processes and calls that want the same model fetch it once", async () => {
    const children = [child(), child()];
    const here = [open(setting()), open(setting())];
    for (const { done } of children) expect(await done).toEqual({ code: 0, out: hash, err: "" });
    for (const files of here) await expectFiles(await files, original.files);
    const sent = hub.gets(WEIGHTS);
    expect(sent.length).toBe(1);
    expect((await everything(join(cacheDir, ".locks"))).length).toBe(0);
  });

  test("ten kills with SIGKILL: each next process goes on where the last one died", async () => {
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { stallAt: 15_000 } : null);
    for (let kills = 1; kills <= 10; kills++) {
      const { process, done } = child();
      while ((await sizeOf(incomplete())) < 15_000 * kills) await new Promise((resolve) => setTimeout(resolve, 5));
      process.kill("SIGKILL");
      await done;
      await expectTrustworthy(cacheDir, original.files);
    }
    hub.misbehave = () => null;
    expect(await child().done).toEqual({ code: 0, out: hash, err: "" });
    expect(hub.gets(WEIGHTS).map(({ from }) => from)).toEqual(Array.from({ length: 11 }, (_, kill) => 15_000 * kill));
  });

  test("200 kill points lose nothing", async () => {
    const { disk: counted, count } = dying(Number.POSITIVE_INFINITY, "before");
    await expectFiles(await open(setting({ fs: counted })), original.files);
    let points = 0;
    for (const moment of ["before", "amid", "after"] as const) {
      for (let at = 1; at <= count(); at++) {
        points++;
        cacheDir = join(folder.path, `kill-${moment}-${at}`);
        const { disk: fs } = dying(at, moment);
        // The last operations tidy up; what dies there has its model.
        await open(setting({ fs })).then(
          (files) => files.close?.(),
          (error) => expect(String(error), `${moment} ${at}`).toContain("killed"),
        );
        await expectTrustworthy(cacheDir, original.files);
        const kept = await sizeOf(incomplete());
        const whole = await sizeOf(incomplete().replace(".incomplete", ""));
        hub.reset();
        await expectFiles(await open(setting()), original.files);
        // What is on disk is not fetched again.
        expect(
          hub.gets(WEIGHTS).map(({ from }) => from),
          `${moment} ${at}`,
        ).toEqual(whole > 0 || kept === original.files[WEIGHTS]!.length ? [] : [kept]);
        expect((await everything(join(cacheDir, REPOSITORY))).filter((path) => path.endsWith(".incomplete"))).toEqual(
          [],
        );
        await rm(cacheDir, { recursive: true });
      }
    }
    expect(points).toBeGreaterThanOrEqual(200);
  }, 240_000);

  test("locks of the dead are taken over, those of the living are waited for", async () => {
    const path = join(cacheDir, "x.doge");
    await mkdir(cacheDir, { recursive: true });
    const lock = (owner: object) => writeFile(path, JSON.stringify(owner));
    const gone = spawn(process.execPath, ["-e", ""]);
    await new Promise((resolve) => gone.on("close", resolve));
    for (const owner of [
      { pid: gone.pid, host: hostname(), nonce: "a" },
      { pid: process.pid, host: hostname(), nonce: "a namesake's" },
    ]) {
      await lock(owner);
      await (await takeLock(disk, path)).release();
    }
    for (const owner of [
      { pid: process.ppid, host: hostname(), nonce: "a" },
      { pid: 1, host: "another machine", nonce: "a" },
    ]) {
      await lock(owner);
      const patience = new AbortController();
      const error = await fault(
        takeLock(
          trying(3, () => patience.abort()),
          path,
          patience.signal,
        ),
      );
      expect(error.code).toBe("aborted");
      const longAgo = new Date(Date.now() - 120_000);
      await utimes(path, longAgo, longAgo);
      await (await takeLock(disk, path)).release();
    }
    const first = await takeLock(disk, path);
    let second: unknown = null;
    const tried = Promise.withResolvers<void>();
    const waiting = takeLock(trying(3, tried.resolve), path).then((taken) => {
      second = taken;
      return taken;
    });
    await tried.promise;
    expect([second, await first.held()]).toEqual([null, true]);
    await first.release();
    await (await waiting).release();
    expect(await readdir(cacheDir)).toEqual([]);
  });
});

/** A disk that says when it is asked to open a file for the `count`-th time. */
function trying(count: number, then: () => void): Disk {
  let times = 0;
  const open: Disk["open"] = (...args) => {
    if (++times === count) then();
    return disk.open(...args);
  };
  return { ...disk, open };
}

/** A disk that dies at its `at`-th operation: before it, after it, or (for writes) with half of it done. Nothing works afterwards. */
function dying(at: number, moment: "before" | "amid" | "after"): { disk: Disk; count(): number } {
  let operations = 0;
  const killed = () => new Error("killed");
  const step = async <T>(work: () => Promise<T>, half: () => Promise<unknown>): Promise<T> => {
    operations++;
    if (operations > at) throw killed();
    if (operations < at) return work();
    if (moment === "amid") await half();
    if (moment === "after") await work();
    throw killed();
  };
  const nothing = async () => undefined;
  type Handle = Awaited<ReturnType<Disk["open"]>>;
  const wrapHandle = (handle: Handle) => {
    const write = handle.write as (
      bytes: Uint8Array,
      from: number,
      length: number,
    ) => Promise<{ bytesWritten: number }>;
    const { truncate, sync } = handle;
    return Object.assign(handle, {
      write: (bytes: Uint8Array, from: number, length: number) =>
        step(
          () => write.call(handle, bytes, from, length),
          () => write.call(handle, bytes, from, length >> 1),
        ),
      truncate: (length: number) => step(() => truncate.call(handle, length), nothing),
      sync: () => step(() => sync.call(handle), nothing),
    });
  };
  const wrapped = Object.fromEntries(
    Object.entries(disk).map(([name, work]) => [
      name,
      async (...args: unknown[]) => {
        let handle: Handle | undefined;
        const run = async () => {
          const result = await (work as (...all: unknown[]) => Promise<unknown>)(...args);
          if (name === "open") handle = result as Handle;
          return result;
        };
        try {
          const result = await step(run, nothing);
          return handle === undefined ? result : wrapHandle(handle);
        } catch (error) {
          await handle?.close(); // as the system does behind a process that was killed
          throw error;
        }
      },
    ]),
  );
  return { disk: wrapped as unknown as Disk, count: () => operations };
}

describe("D9 hostile names", () => {
  test("a repository that lists one is refused before anything is fetched", async () => {
    const names = [
      "../../evil.json",
      "a/../../b",
      "/etc/passwd",
      "C:\\x",
      "c:x",
      "a\\b",
      "nul\0.json",
      "con",
      "sub/AUX.json",
      "lpt1.txt",
      "a//b",
      "./x",
      "a\nb",
      "x".repeat(5000),
      `${"y".repeat(256)}.json`,
      "Config.json",
      "MODEL.safetensors",
    ];
    for (const name of names) {
      hub.reset();
      hub.repositories[NAME] = { ...original, alsoListed: [name] };
      const error = await fault(open(setting()));
      expect(error.code, name).toBe("unsafe-path");
      expect(hub.log.map(({ file }) => file)).toEqual(["api"]);
      expect(error.message.length).toBeLessThan(400);
    }
    expect(await everything(cacheDir)).toEqual([]);
    // Odd but honest.
    hub.repositories[NAME] = {
      ...original,
      alsoListed: ["runs/Jan 01 10:00:00/événement.json", "readme.md", "icon.png", "~x"],
    };
    await expectFiles(await open(setting()), original.files);
  });

  test("an index that names shards elsewhere is refused", async () => {
    const { [WEIGHTS]: _, ...rest } = original.files;
    for (const shard of ["../x.safetensors", "/x.safetensors", "http://x/y.safetensors", "a\\b.safetensors"]) {
      const index = json({ weight_map: { a: shard } });
      hub.repositories[NAME] = { commit: COMMIT, files: { ...rest, "model.safetensors.index.json": index } };
      expect((await fault(open({ ...setting(), cacheDir: `${cacheDir}-${shard.length}` }))).code).toBe("unsafe-path");
    }
  });

  test("names of models and revisions are checked before a server is asked", async () => {
    for (const name of [
      "../x",
      "a/b/c",
      "a/..",
      "a/b?c",
      "-a/b",
      "a--b/c",
      "a/b.git",
      "owner/",
      `a/${"b".repeat(100)}`,
    ]) {
      expect((await fault(open(setting({ name })))).code, name).toBe("invalid-argument");
    }
    for (const revision of ["", "../main", "a/../b", "/main", "a//b", "a b", "x".repeat(300)]) {
      expect((await fault(open(setting({ revision })))).code, revision).toBe("invalid-argument");
    }
    expect(hub.log).toEqual([]);
  });
});

describe("D10 offline", () => {
  test("with the whole model: works, and no network is touched", async () => {
    await open(setting());
    hub.reset();
    await expectFiles(await open(setting({ offline: true })), original.files);
    await expectFiles(await open(setting({ offline: true, revision: COMMIT })), original.files);
    expect(hub.log).toEqual([]);
  });

  test("with a part of it: lists what is missing; with nothing: says so", async () => {
    hub.misbehave = ({ file }) => (file === WEIGHTS ? { status: 403 } : null);
    await fault(open(setting()));
    hub.reset();
    const part = await fault(open(setting({ offline: true })));
    expect(part.code).toBe("offline-missing");
    expect(part.message).toContain(WEIGHTS);
    const nothing = await fault(open(setting({ offline: true, name: "no/such" })));
    expect(nothing.code).toBe("offline-missing");
    expect(nothing.message).toContain("no/such");
    expect((await fault(open(setting({ offline: true, revision: "v2" })))).message).toContain("v2");
    expect(hub.log).toEqual([]);
  });

  test("with shards missing: lists them", async () => {
    const { [WEIGHTS]: _, ...rest } = original.files;
    const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] as const;
    const index = json({ weight_map: { a: shards[0], b: shards[1] } });
    const files = {
      ...rest,
      "model.safetensors.index.json": index,
      [shards[0]]: weights(99),
      [shards[1]]: weights(98),
    };
    hub.repositories[NAME] = { commit: COMMIT, files };
    await open(setting());
    await rm(join(snapshot(), shards[1]));
    const error = await fault(open(setting({ offline: true })));
    expect(error.message).toContain(shards[1]);
    expect(error.message).not.toContain(shards[0]);
  });

  test("a hub that cannot be reached does not matter to those who have the model; they are told", async () => {
    const other = await new TestHub({ [NAME]: original }).start();
    await open({ ...setting(), endpoint: other.url });
    const gone = other.url;
    await other.stop();
    const files = await open({ ...setting(), endpoint: gone });
    expect(files.notices!.join()).toContain("The cached Small/Doge-test is used");
    await expectFiles(files, original.files);
    expect((await fault(open({ ...setting(), cacheDir: `${cacheDir}-b`, endpoint: gone }))).code).toBe(
      "hub-unreachable",
    );
  });

  test("the old commit serves until the new one is whole", async () => {
    await open(setting());
    const next = COMMIT.replace("0", "a");
    hub.repositories[NAME] = { commit: next, files: { ...original.files, [WEIGHTS]: weights(100_000, 4) } };
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { status: 403 } : null);
    await fault(open(setting()));
    await expectFiles(await open(setting({ offline: true })), original.files);
    hub.misbehave = () => null;
    await open(setting());
    const files = await open(setting({ offline: true }));
    expect(sha256(await bytesOf(files, WEIGHTS))).toBe(sha256(hub.repositories[NAME]!.files[WEIGHTS]!));
    await files.close?.();
    await expectFiles(await open(setting({ offline: true, revision: COMMIT })), original.files);
  });
});

describe("F13 links in the cache", () => {
  test("those inside the cache are followed, those out of it are refused", async () => {
    await open(setting());
    expect(await readlink(join(snapshot(), WEIGHTS))).toBe(join("..", "..", "blobs", hash));
    // A store shared by several models, as Python's library may lay it out.
    const blob = join(cacheDir, REPOSITORY, "blobs", hash);
    await mkdir(join(cacheDir, "blobs"));
    await writeFile(join(cacheDir, "blobs", "shared"), await readFile(blob));
    await rm(blob);
    await symlink(join("..", "..", "blobs", "shared"), blob);
    await expectFiles(await open(setting({ offline: true })), original.files);

    const secret = join(folder.path, `secret-${n}`);
    await writeFile(secret, "{}");
    await rm(join(snapshot(), "tokenizer.json"));
    await symlink(secret, join(snapshot(), "tokenizer.json"));
    const files = await open(setting({ offline: true }));
    for (const work of [() => files.size("tokenizer.json"), () => files.read("tokenizer.json", 0, 2)]) {
      const error = await fault(work());
      expect(error.code).toBe("unsafe-path");
      expect(error.message).toContain("tokenizer.json");
    }
    await files.close?.();
  });

  test("a snapshot opens as a folder, too", async () => {
    await open(setting());
    await expectFiles(folderFiles(snapshot()), original.files);
  });
});

describe("what is in the cache", () => {
  test("is listed with its sizes and revisions, and removed", async () => {
    expect(await cachedModels(cacheDir)).toEqual([]);
    await open(setting());
    await writeFile(join(cacheDir, REPOSITORY, "blobs", "rest.incomplete"), "12345");
    await mkdir(join(cacheDir, "datasets--a--b"));
    const bytes = Object.entries(original.files).reduce(
      (sum, [file, { length }]) => sum + (file === "README.md" ? 0 : length),
      5,
    );
    expect(await cachedModels(cacheDir)).toEqual([
      {
        name: NAME,
        folder: join(cacheDir, REPOSITORY),
        bytes,
        incomplete: 5,
        revisions: [{ name: "main", commit: COMMIT }],
      },
    ]);
    expect(await removeCached(NAME, cacheDir)).toBe(bytes);
    expect(await cachedModels(cacheDir)).toEqual([]);
    expect((await fault(removeCached(NAME, cacheDir))).code).toBe("hub-not-found");
    expect((await fault(removeCached("../x", cacheDir))).code).toBe("invalid-argument");
    expect(await readdir(cacheDir)).toContain("datasets--a--b");
  });

  test("lies where Python's library has it, by the same environment", async () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: "/a", HF_HOME: "/b" })).toBe("/a");
    expect(hubCacheFolder({ HF_HOME: "/b" })).toBe(join("/b", "hub"));
    expect(hubCacheFolder({ XDG_CACHE_HOME: "/c" })).toBe(join("/c", "huggingface", "hub"));
    expect(hubCacheFolder({ HF_HUB_CACHE: "" })).toMatch(/\.cache.huggingface.hub$/);
    expect(hubCacheFolder({ HF_HUB_CACHE: "~/x" })).not.toContain("~");
    const home = join(folder.path, "home");
    await mkdir(home, { recursive: true });
    expect((await completed({}, { HF_HOME: home })).token).toBeUndefined();
    await writeFile(join(home, "token"), "from-file\n");
    expect(await completed({}, { HF_HOME: home })).toMatchObject({
      token: "from-file",
      endpoint: "https://huggingface.co",
      offline: false,
      cacheDir: join(home, "hub"),
    });
    const environment = { HF_HOME: home, HF_TOKEN: "from-env", HF_ENDPOINT: "https://mirror", HF_HUB_OFFLINE: "YES" };
    expect(await completed({}, environment)).toMatchObject({
      token: "from-env",
      endpoint: "https://mirror",
      offline: true,
    });
    expect(await completed({ token: "", endpoint: "https://other", offline: false }, environment)).toMatchObject({
      token: "",
      endpoint: "https://other",
      offline: false,
    });
  });
});

test("errors of the cache are DogeErrors with a way out", async () => {
  await writeFile(cacheDir, "a file where the cache should be");
  const error = await open(setting()).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(DogeError);
  expect((error as DogeError).message).toContain("HF_HOME");
});
