// Row D7 of the fault table: several processes that want one model, and sudden deaths.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type Disk, disk } from "../../src/node/disk.ts";
import { takeLock } from "../../src/node/lock.ts";
import { NAME, sha256 } from "./server.ts";
import { everything, expectFiles, expectTrustworthy, fault, hubForTests, open, WEIGHTS } from "./support.ts";

const { hub, original, place, kept, setting, blob } = hubForTests();
const hash = sha256(original.files[WEIGHTS]!);
const incomplete = () => `${blob()}.incomplete`;
const sizeOf = async (path: string) => (await stat(path).catch(() => null))?.size ?? 0;

/** A process that opens the model; its output when it ends. */
function child(): { process: ChildProcess; done: Promise<{ code: number | null; out: string; err: string }> } {
  const path = fileURLToPath(new URL("child.ts", import.meta.url));
  const started = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", path, NAME], {
    env: { ...process.env, HF_ENDPOINT: hub.url, HF_HUB_CACHE: place.cacheDir, HF_HUB_OFFLINE: "", HF_TOKEN: "" },
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

describe("D7 several at once, and sudden death", () => {
  test("processes and calls that want the same model fetch it once", async () => {
    const children = [child(), child()];
    const here = [open(setting()), open(setting())];
    for (const { done } of children) expect(await done).toEqual({ code: 0, out: hash, err: "" });
    for (const files of here) await expectFiles(await files, original.files);
    const sent = hub.gets(WEIGHTS);
    expect(sent.length).toBe(1);
    expect((await everything(join(place.cacheDir, ".locks"))).length).toBe(0);
  });

  test("ten kills with SIGKILL: each next process goes on where the last one died", async () => {
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { stallAt: 15_000 } : null);
    for (let kills = 1; kills <= 10; kills++) {
      const { process, done } = child();
      while ((await sizeOf(incomplete())) < 15_000 * kills) await new Promise((resolve) => setTimeout(resolve, 5));
      process.kill("SIGKILL");
      await done;
      await expectTrustworthy(place.cacheDir, original.files);
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
        place.cacheDir = join(place.folder, `kill-${moment}-${at}`);
        const { disk: fs } = dying(at, moment);
        // The last operations tidy up; what dies there has its model.
        await open(setting({ fs })).then(
          (files) => files.close?.(),
          (error) => expect(String(error), `${moment} ${at}`).toContain("killed"),
        );
        await expectTrustworthy(place.cacheDir, original.files);
        const began = await sizeOf(incomplete());
        const whole = await sizeOf(incomplete().replace(".incomplete", ""));
        hub.reset();
        await expectFiles(await open(setting()), original.files);
        // What is on disk is not fetched again.
        expect(
          hub.gets(WEIGHTS).map(({ from }) => from),
          `${moment} ${at}`,
        ).toEqual(whole > 0 || began === original.files[WEIGHTS]!.length ? [] : [began]);
        expect((await everything(kept())).filter((path) => path.endsWith(".incomplete"))).toEqual([]);
        await rm(place.cacheDir, { recursive: true });
      }
    }
    expect(points).toBeGreaterThanOrEqual(200);
  }, 240_000);

  test("locks of the dead are taken over, those of the living are waited for", async () => {
    const path = join(place.cacheDir, "x.doge");
    await mkdir(place.cacheDir, { recursive: true });
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
    expect(await readdir(place.cacheDir)).toEqual([]);
  });
});
