import { mkdir, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { DogeError } from "../../src/index.ts";
import { cachedModels, completed, hubCacheFolder, removeCached } from "../../src/node/hub.ts";
import { folder as folderFiles } from "../../src/node/index.ts";
import { COMMIT, json, NAME, sha256, TestHub, weights } from "./server.ts";
import { bytesOf, everything, expectFiles, fault, hubForTests, open, WEIGHTS } from "./support.ts";

const { hub, original, place, kept, setting } = hubForTests();
const hash = sha256(original.files[WEIGHTS]!);
const snapshot = () => kept("snapshots", COMMIT);

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
    expect(await everything(place.cacheDir)).toEqual([]);
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
      expect((await fault(open({ ...setting(), cacheDir: `${place.cacheDir}-${shard.length}` }))).code).toBe(
        "unsafe-path",
      );
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
    expect((await fault(open({ ...setting(), cacheDir: `${place.cacheDir}-b`, endpoint: gone }))).code).toBe(
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
    const blob = kept("blobs", hash);
    await mkdir(join(place.cacheDir, "blobs"));
    await writeFile(join(place.cacheDir, "blobs", "shared"), await readFile(blob));
    await rm(blob);
    await symlink(join("..", "..", "blobs", "shared"), blob);
    await expectFiles(await open(setting({ offline: true })), original.files);

    const secret = join(place.folder, "secret");
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
    expect(await cachedModels(place.cacheDir)).toEqual([]);
    await open(setting());
    await writeFile(kept("blobs", "rest.incomplete"), "12345");
    await mkdir(join(place.cacheDir, "datasets--a--b"));
    const bytes = Object.entries(original.files).reduce(
      (sum, [file, { length }]) => sum + (file === "README.md" ? 0 : length),
      5,
    );
    expect(await cachedModels(place.cacheDir)).toEqual([
      {
        name: NAME,
        folder: kept(),
        bytes,
        incomplete: 5,
        revisions: [{ name: "main", commit: COMMIT }],
      },
    ]);
    expect(await removeCached(NAME, place.cacheDir)).toBe(bytes);
    expect(await cachedModels(place.cacheDir)).toEqual([]);
    expect((await fault(removeCached(NAME, place.cacheDir))).code).toBe("hub-not-found");
    expect((await fault(removeCached("../x", place.cacheDir))).code).toBe("invalid-argument");
    expect(await readdir(place.cacheDir)).toContain("datasets--a--b");
  });

  test("lies where Python's library has it, by the same environment", async () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: "/a", HF_HOME: "/b" })).toBe("/a");
    expect(hubCacheFolder({ HF_HOME: "/b" })).toBe(join("/b", "hub"));
    expect(hubCacheFolder({ XDG_CACHE_HOME: "/c" })).toBe(join("/c", "huggingface", "hub"));
    expect(hubCacheFolder({ HF_HUB_CACHE: "" })).toMatch(/\.cache.huggingface.hub$/);
    expect(hubCacheFolder({ HF_HUB_CACHE: "~/x" })).not.toContain("~");
    const home = join(place.folder, "home");
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
  await writeFile(place.cacheDir, "a file where the cache should be");
  const error = await open(setting()).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(DogeError);
  expect((error as DogeError).message).toContain("HF_HOME");
});
