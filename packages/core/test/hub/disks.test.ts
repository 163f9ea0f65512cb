// Rows D6 and F9 of the fault table: disks that are full or read-only, and files that change under a reader.
import { writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { type Disk, disk } from "../../src/node/disk.ts";
import { weights } from "./server.ts";
import { bytesOf, expectFiles, expectTrustworthy, fault, hubForTests, open, WEIGHTS } from "./support.ts";

const { hub, original, place, setting, blob } = hubForTests();

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
    await expectTrustworthy(place.cacheDir, original.files);
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
      const cache = `${place.cacheDir}-${link === disk.link}`;
      await expectFiles(await open({ ...setting({ fs }), cacheDir: cache }), original.files);
      await expectFiles(await open({ ...setting({ fs, offline: true }), cacheDir: cache }), original.files);
    }
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
