// Where rates are kept: the file of Node, the database of a browser, and what they make of damage.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { databaseRates } from "../../src/browser/choosing.ts";
import { choose } from "../../src/index.ts";
import { choosingPlatform, fileRates, ratesFile } from "../../src/node/choosing.ts";
import { disk } from "../../src/node/disk.ts";
import { config } from "../running/mock.ts";
import { Clock, fake } from "./fakes.ts";

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

  test("written by several processes at once is whole at every moment, and holds what one of them wrote", async () => {
    const path = join(folder, "shared", "rates.json");
    await fileRates(path).set("first", "0");
    const writer = (name: string) => `
      const { fileRates } = await import(${JSON.stringify(new URL("../../src/node/choosing.ts", import.meta.url).href)});
      const store = fileRates(${JSON.stringify(path)});
      for (let count = 1; count <= 60; count++) await store.set(${JSON.stringify(name)}, String(count));`;
    const flags = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e"];
    const writers = ["a", "b", "c"].map((name) => {
      const child = spawn(process.execPath, [...flags, writer(name)], { stdio: ["ignore", "ignore", "pipe"] });
      let said = "";
      child.stderr.on("data", (data) => {
        said += data;
      });
      return once(child, "close").then(([code]) => `${code}${said}`);
    });
    let running = true;
    const all = Promise.all(writers).finally(() => {
      running = false;
    });
    while (running) {
      expect(JSON.parse(readFileSync(path, "utf8")).format).toBe("doge-rates");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(await all).toEqual(["0", "0", "0"]);
    const { rates } = JSON.parse(readFileSync(path, "utf8")) as { rates: Record<string, string> };
    // Of two that write at once the later one wins: what the other had is measured again.
    expect(Object.values(rates)).toContain("60");
    for (const [key, value] of Object.entries(rates)) expect(`${key} ${value}`).toMatch(/^(first 0|[abc] \d+)$/);
    expect(readdirSync(join(folder, "shared"))).toEqual(["rates.json"]);
  }, 60_000);

  test.each(["is read-only", "is a file", "cannot be read", "is a folder where the file should be"])(
    "in a home that %s is no reason to fail: rates are measured, and nothing is left behind",
    async (kind) => {
      const home = join(folder, kind.replaceAll(" ", "-"));
      const path = join(home, "doge", "rates.json");
      const refused = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }));
      const readOnly = { ...disk, mkdir: refused("EROFS"), open: refused("EROFS"), rename: refused("EROFS") };
      if (kind === "is a file") writeFileSync(home, "");
      if (kind === "is a folder where the file should be") mkdirSync(path, { recursive: true });
      const fs =
        kind === "is read-only"
          ? readOnly
          : kind === "cannot be read"
            ? { ...disk, readFile: refused("EACCES") }
            : disk;
      const clock = new Clock();
      const settings = { config: { ...config, layers: 6 }, wanted: "auto", budget: 60_000, now: clock.now };
      for (let time = 0; time < 2; time++) {
        const list = [fake("slow", { clock, layerMs: 9 }), fake("quick", { clock })];
        const choice = await choose(list, { ...settings, rates: fileRates(path, fs) });
        expect(choice.tried.map(({ rate }) => rate?.kept)).toEqual([false, false]);
        await choice.observe(500);
        await choice.backend.close();
      }
      if (kind.startsWith("is a folder")) expect(readdirSync(join(home, "doge"))).toEqual(["rates.json"]);
    },
  );

  test("lies in the cache folder of the system", () => {
    expect(ratesFile({ XDG_CACHE_HOME: "cache" }, "linux")).toBe(ratesFile({}, "linux"));
    expect(ratesFile({ XDG_CACHE_HOME: "" }, "linux")).toBe(ratesFile({}, "linux"));
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
