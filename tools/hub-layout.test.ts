// The cache's layout against a second witness, the hub's own JavaScript library: each reads what the other wrote.
import { mkdtemp, readFile, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { downloadFileToCacheDir, scanCacheDir } from "@huggingface/hub";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { cachedModels, openHub } from "../packages/core/src/node/index.ts";
import { COMMIT, NAME, repository, sha256, TestHub } from "../packages/core/test/hub/server.ts";
import { expectFiles } from "../packages/core/test/hub/support.ts";

const original = repository();
const { "README.md": _, ...needed } = original.files;
const hub = new TestHub({ [NAME]: original });
let root: string;

beforeAll(async () => {
  await hub.start();
  root = await realpath(await mkdtemp(join(tmpdir(), "doge-layout-")));
});
afterAll(async () => {
  await hub.stop();
  await rm(root, { recursive: true, force: true });
});

test("the library finds in our cache what we wrote", async () => {
  const cacheDir = join(root, "ours");
  await (await openHub(NAME, { cacheDir, endpoint: hub.url, token: "" })).close?.();
  const { repos, warnings } = await scanCacheDir(cacheDir);
  expect(warnings).toEqual([]);
  expect(repos.map(({ id }) => id)).toEqual([{ name: NAME, type: "model" }]);
  const [revision] = repos[0]!.revisions;
  expect([revision!.commitOid, revision!.refs]).toEqual([COMMIT, ["main"]]);
  expect(repos[0]!.size).toBe((await cachedModels(cacheDir))[0]!.bytes);
  const noNetwork = async () => Promise.reject(new Error("asked the network"));
  for (const [path, bytes] of Object.entries(needed)) {
    const found = await downloadFileToCacheDir({ repo: NAME, path, revision: COMMIT, cacheDir, fetch: noNetwork });
    expect(sha256(await readFile(found)), path).toBe(sha256(bytes));
    const file = revision!.files.find((entry) => entry.path === found);
    expect(await realpath(found)).toBe(file!.blob.path);
  }
});

test("we load offline what the library wrote, and fetch none of it again", async () => {
  const cacheDir = join(root, "theirs");
  const quiet = vi.spyOn(console, "debug").mockImplementation(() => undefined);
  // The one address it asks besides those that a hub must have.
  const fetchWithPaths: typeof fetch = async (input, init) => {
    const url = String(input instanceof Request ? input.url : input);
    if (!url.includes("/paths-info/")) return fetch(input, init);
    const path = Object.keys(needed).find((name) => String(init?.body).includes(`"${name}"`))!;
    const head = await fetch(`${hub.url}/${NAME}/resolve/${COMMIT}/${path}`, { method: "HEAD" });
    const oid = head.headers.get("etag")!.replaceAll('"', "");
    const size = needed[path]!.length;
    const lfs = path.endsWith(".safetensors") ? { lfs: { oid, size } } : {};
    return Response.json([{ path, type: "file", oid, size, lastCommit: { id: COMMIT }, ...lfs }]);
  };
  for (const path of Object.keys(needed)) {
    await downloadFileToCacheDir({
      repo: NAME,
      path,
      revision: COMMIT,
      cacheDir,
      hubUrl: hub.url,
      fetch: fetchWithPaths,
    });
  }
  quiet.mockRestore();
  await expectFiles(await openHub(NAME, { cacheDir, revision: COMMIT, offline: true }), needed);
  hub.reset();
  await expectFiles(await openHub(NAME, { cacheDir, endpoint: hub.url, token: "" }), needed);
  expect(hub.log.map(({ file }) => file)).toEqual(["api"]);
});
