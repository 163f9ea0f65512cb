// The demo model's files from the site: all asked for at once, counted together, and refused with a reason.
import { afterEach, expect, test, vi } from "vitest";
import { demoFiles, SiteUnreachable } from "../src/engine/demo.ts";
import type { LoadProgress } from "../src/engine/protocol.ts";

afterEach(() => vi.unstubAllGlobals());

const { signal } = new AbortController();

/** A site that answers so. @returns what it was asked for, in order */
function site(answer: (address: string) => Response | Promise<Response>): string[] {
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (address: string) => {
    asked.push(address);
    return answer(address);
  });
  return asked;
}

test("the demo model's files are counted together, without those whose size is not told", async () => {
  let waiting = 0;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const asked = site(async (address) => {
    if (++waiting === 5) resolve();
    await all; // none is answered before all are asked for
    const packed = address.includes("tokenizer.json");
    return new Response(new Uint8Array(100), {
      headers: packed ? { "content-encoding": "gzip", "content-length": "7" } : { "content-length": "100" },
    });
  });
  const seen: LoadProgress[] = [];
  const files = await demoFiles(signal, (progress) => seen.push(progress));
  expect(asked.length).toBe(5);
  expect(Object.values(files).map(({ size }) => size)).toEqual([100, 100, 100, 100, 100]);
  expect(seen.map(({ total }) => total)).toEqual([400, 400, 400, 400, 400]);
  expect(seen.map(({ loaded }) => loaded)).toEqual([100, 200, 200, 300, 400]);
});

test("a site without the demo model is told of, with the reason", async () => {
  site(() => new Response("", { status: 404 }));
  await expect(demoFiles(signal, () => {})).rejects.toThrow(/^The demo model's config\.json .*\(status 404\)/);
  site(() => Promise.reject(new TypeError("Failed to fetch")));
  await expect(demoFiles(signal, () => {})).rejects.toBeInstanceOf(SiteUnreachable);
});
