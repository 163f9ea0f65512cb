// Where rates are kept: the file of Node, the database of a browser, and what they make of damage.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { databaseRates } from "../../src/browser/choosing.ts";
import { choosingPlatform, fileRates, ratesFile } from "../../src/node/choosing.ts";
import { disk } from "../../src/node/disk.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "doge-rates-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the file", () => {
  test("keeps values by key, whole, in a folder that it makes", async () => {
    const path = join(folder, "deep", "er", "rates.json");
    const store = fileRates(path);
    expect(await store.get("a")).toBeUndefined();
    await store.set("a", "1");
    await store.set("__proto__", "2");
    await store.set("a", "3");
    expect([await store.get("a"), await fileRates(path).get("__proto__"), await store.get("toString")]).toEqual([
      "3",
      "2",
      undefined,
    ]);
    expect(readdirSync(join(folder, "deep", "er"))).toEqual(["rates.json"]);
  });

  test.each([
    ["nothing", ""],
    ["half of itself", '{"format":"doge-rates","rates":{"a":'],
    ["another's JSON", '{"rates":{"a":"1"}}'],
    ["a list", "[1]"],
    ["null", "null"],
    ["odd rates", '{"format":"doge-rates","rates":{"a":1,"b":null}}'],
    ["no rates", '{"format":"doge-rates","rates":null}'],
    ["bytes", "\u0000\uffff"],
  ])("with %s in it counts as empty and is replaced", async (_, text) => {
    const path = join(folder, "damaged.json");
    writeFileSync(path, text);
    const store = fileRates(path);
    expect(await store.get("a")).toBeUndefined();
    await store.set("b", "2");
    expect([await store.get("a"), await store.get("b")]).toEqual([undefined, "2"]);
  });

  test("forgets the oldest beyond 200", async () => {
    const store = fileRates(join(folder, "many.json"));
    for (let index = 0; index < 205; index++) await store.set(`key ${index}`, "1");
    expect([await store.get("key 4"), await store.get("key 5"), await store.get("key 204")]).toEqual([
      undefined,
      "1",
      "1",
    ]);
  });

  test("that cannot be written stays as it was, and leaves nothing beside it", async () => {
    const path = join(folder, "full", "rates.json");
    await fileRates(path).set("a", "1");
    const before = readFileSync(path, "utf8");
    for (const fault of ["open", "rename"] as const) {
      const full = {
        ...disk,
        [fault]: () => Promise.reject(Object.assign(new Error("disk full"), { code: "ENOSPC" })),
      };
      await expect(fileRates(path, full).set("b", "2")).rejects.toThrow("disk full");
    }
    expect(readFileSync(path, "utf8")).toBe(before);
    expect(readdirSync(join(folder, "full"))).toEqual(["rates.json"]);
  });

  test("lies in the cache folder of the system", () => {
    expect(ratesFile({ XDG_CACHE_HOME: "/tmp/cache" }, "linux")).toBe(join("/tmp/cache", "doge", "rates.json"));
    expect(ratesFile({}, "darwin")).toContain(join("Library", "Caches", "doge"));
    expect(ratesFile({ LOCALAPPDATA: "/local" }, "win32")).toBe(join("/local", "doge", "rates.json"));
    expect(choosingPlatform().machine).toContain(process.versions.v8);
  });
});

test("without IndexedDB, or with one that refuses, a browser's store rejects, which counts as nothing kept", async () => {
  await expect(databaseRates(undefined).get("a")).rejects.toThrow("There is no IndexedDB");
  const refusing = {
    open: () => {
      const request = { error: new Error("private mode"), onerror: () => {} };
      queueMicrotask(() => request.onerror());
      return request;
    },
  } as unknown as IDBFactory;
  await expect(databaseRates(refusing).set("a", "1")).rejects.toThrow("private mode");
});
