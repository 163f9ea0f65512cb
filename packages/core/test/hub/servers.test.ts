import { describe, expect, test } from "vitest";
import { COMMIT, NAME, TestHub } from "./server.ts";
import { everything, expectFiles, expectTrustworthy, fault, hubForTests, open, WEIGHTS } from "./support.ts";

const { hub, original, place, setting } = hubForTests();

describe("D4 pages in a file's place", () => {
  const page = { status: 200, headers: { "content-type": "text/html" }, body: "<!doctype html><title>Log in</title>" };
  test("a login page with status 200 is refused and not kept, wherever it comes", async () => {
    for (const [file, method] of [
      ["api", "GET"],
      ["config.json", "HEAD"],
      ["config.json", "GET"],
      [WEIGHTS, "GET"],
    ]) {
      hub.reset();
      hub.misbehave = (seen) => (seen.file === file && seen.method === method ? page : null);
      const cache = `${place.cacheDir}-${file}-${method}`;
      const error = await fault(open({ ...setting(), cacheDir: cache }));
      expect(error.code).toBe("hub-response");
      expect(error.message).toContain("web page");
      await expectTrustworthy(cache, original.files);
    }
  });

  test("a page that says it is JSON, an empty body, and doubly packed bytes are refused and not kept", async () => {
    const bodies = [page.body, "", new Uint8Array([0x1f, 0x8b, 8, 0, 1, 2, 3])];
    for (const [index, body] of bodies.entries()) {
      const replace = typeof body === "string" ? new TextEncoder().encode(body) : body;
      hub.reset();
      hub.misbehave = ({ file }) => (file === "tokenizer.json" ? { replace } : null);
      const cache = `${place.cacheDir}-${index}`;
      const error = await fault(open({ ...setting(), cacheDir: cache }));
      expect(error.code).toBe("integrity");
      expect(error.message).toContain("tokenizer.json");
      expect((await everything(cache)).filter((path) => path.endsWith("tokenizer.json"))).toEqual([]);
      await expectTrustworthy(cache, original.files);
    }
  });

  test("a listing that is no hub's is refused", async () => {
    const bodies = [
      "",
      "[]",
      "{}",
      "not json",
      '{"sha":"../../x","siblings":[]}',
      `{"sha":"${COMMIT}","siblings":[{}]}`,
    ];
    for (const body of bodies) {
      hub.misbehave = ({ file }) => (file === "api" ? { status: 200, body } : null);
      expect((await fault(open(setting()))).code, body).toBe("hub-response");
    }
    const other = COMMIT.replace("0", "f");
    hub.misbehave = ({ file }) => (file === "api" ? { status: 200, body: `{"sha":"${COMMIT}","siblings":[]}` } : null);
    expect((await fault(open(setting({ revision: other })))).code).toBe("integrity");
    hub.misbehave = ({ file }) => (file === WEIGHTS ? { headers: { "x-repo-commit": other } } : null);
    expect((await fault(open(setting()))).code).toBe("integrity");
  });
});

describe("D5 servers that refuse, fail and fall silent", () => {
  test("401, 403 and 404 say what to do, at once", async () => {
    for (const [status, code, word] of [
      [401, "hub-unauthorized", "HF_TOKEN"],
      [403, "hub-unauthorized", "accept"],
      [404, "hub-not-found", "revision"],
      [418, "hub-response", "418"],
    ] as const) {
      hub.reset();
      hub.misbehave = () => ({ status, headers: { "x-error-message": "because" } });
      const error = await fault(open(setting()));
      expect(error.code).toBe(code);
      expect(error.message).toContain(word);
      expect(error.message).toContain("because");
      expect(hub.log.length).toBe(1);
    }
    hub.reset();
    const absent = await fault(open(setting({ name: "no/such" })));
    expect(absent.code).toBe("hub-not-found");
    expect(absent.message).toContain("no/such");
    expect((await fault(open(setting({ revision: "v9" })))).code).toBe("hub-not-found");
  });

  test("429 waits as long as it is asked to, and no longer than a minute", async () => {
    const pauses: number[] = [];
    hub.misbehave = ({ file }, count) =>
      file === "api" && count < 3 ? { status: 429, headers: { "retry-after": "7" } } : null;
    await expectFiles(await open(setting(), pauses), original.files);
    expect(pauses).toEqual([7000, 7000]);

    pauses.length = 0;
    hub.reset();
    hub.misbehave = () => ({ status: 429, headers: { "retry-after": "3600" } });
    const error = await fault(open({ ...setting(), cacheDir: `${place.cacheDir}-b` }, pauses));
    expect([error.code, pauses]).toEqual(["hub-busy", []]);
    expect(error.message).toContain("3600 seconds");

    hub.reset();
    const now = Date.parse("2026-01-01T00:00:00Z");
    const headers = { "retry-after": new Date(now + 9000).toUTCString() };
    hub.misbehave = ({ file }, count) => (file === WEIGHTS && count === 1 ? { status: 503, headers } : null);
    await open({ ...setting({ transport: { now: () => now } }), cacheDir: `${place.cacheDir}-c` }, pauses);
    expect(pauses).toEqual([9000, 9000]);
  });

  test("5xx is tried five times with growing pauses and jitter, then typed", async () => {
    const pauses: number[] = [];
    hub.misbehave = () => ({ status: 502 });
    expect((await fault(open(setting({ transport: { random: () => 0 } }), pauses))).code).toBe("hub-unreachable");
    expect(pauses).toEqual([150, 300, 600, 1200]);
    expect(hub.log.length).toBe(5);
  });

  test("silence ends a connection, and the transfer goes on where it was", async () => {
    hub.misbehave = ({ method, file }, count) =>
      method === "GET" && file === WEIGHTS && count === 1 ? { stallAt: 10_000 } : null;
    await expectFiles(await open(setting({ transport: { stallMs: 200 } })), original.files);
    expect(hub.gets(WEIGHTS).map(({ from }) => from)).toEqual([0, 10_000]);
    hub.reset();
    hub.misbehave = ({ method, file }) => (method === "GET" && file === WEIGHTS ? { stallAt: 0 } : null);
    const error = await fault(open({ ...setting({ transport: { stallMs: 50 } }), cacheDir: `${place.cacheDir}-b` }));
    expect(error.code).toBe("hub-unreachable");
    expect(error.message).toContain("nothing came for 0.05 seconds");
  });

  test("names that cannot be looked up, closed ports and bad certificates are typed; certificates are not tried again", async () => {
    const failing = (code: string) => {
      let calls = 0;
      const fetch = async (): Promise<Response> => {
        calls++;
        throw Object.assign(new TypeError("fetch failed"), {
          cause: Object.assign(new Error(`it said ${code}`), { code }),
        });
      };
      return { fetch, calls: () => calls };
    };
    for (const [code, calls, word] of [
      ["ENOTFOUND", 5, "looked up"],
      ["ECONNREFUSED", 5, "ECONNREFUSED"],
      ["DEPTH_ZERO_SELF_SIGNED_CERT", 1, "certificate"],
      ["CERT_HAS_EXPIRED", 1, "certificate"],
    ] as const) {
      const transport = failing(code);
      const error = await fault(open(setting({ transport })));
      expect([error.code, transport.calls()]).toEqual(["hub-unreachable", calls]);
      expect(error.message).toContain(word);
    }
  });

  test("a server without HEAD is asked with GET", async () => {
    for (const status of [405, 501, 403, 404, 400]) {
      hub.reset();
      hub.misbehave = ({ method }) => (method === "HEAD" ? { status } : null);
      await expectFiles(await open({ ...setting(), cacheDir: `${place.cacheDir}-${status}` }), original.files);
    }
  });
});

describe("D8 redirects", () => {
  test("the token stays with the endpoint when another host sends the bytes; cuts are resumed there", async () => {
    const bytes = await new TestHub({ [NAME]: original }).start();
    try {
      hub.bytesFrom = bytes.url;
      bytes.misbehave = ({ method }, count) => (method === "GET" && count === 1 ? { cutAt: 5000 } : null);
      await expectFiles(await open(setting({ token: "secret" })), original.files);
      expect(new Set(hub.log.map(({ headers }) => headers.authorization))).toEqual(new Set(["Bearer secret"]));
      expect(bytes.gets(WEIGHTS).map(({ from, headers }) => [from, headers.authorization])).toEqual([
        [0, undefined],
        [5000, undefined],
      ]);
      // A token that was not given is not sent.
      hub.reset();
      await open({ ...setting({ token: "" }), cacheDir: `${place.cacheDir}-b` });
      expect(hub.log.every(({ headers }) => headers.authorization === undefined)).toBe(true);
    } finally {
      await bytes.stop();
    }
  });

  test("a signed address that has run out is asked for anew; one that never works is the storage's fault", async () => {
    const bytes = await new TestHub({ [NAME]: original }).start();
    try {
      hub.bytesFrom = bytes.url;
      bytes.misbehave = (_, count) => (count <= 2 ? { status: 403 } : null);
      await expectFiles(await open(setting({ token: "secret" })), original.files);
      expect(hub.gets(WEIGHTS).length).toBe(3);
      bytes.misbehave = () => ({ status: 403 });
      const cache = `${place.cacheDir}-never`;
      const error = await fault(open({ ...setting(), cacheDir: cache }));
      expect(error.code).toBe("hub-unreachable");
      expect(error.message).toContain(new URL(bytes.url).host);
      expect(error.message).not.toContain("token");
      expect((await everything(cache)).filter((file) => file.endsWith(".incomplete"))).toEqual([]);
    } finally {
      await bytes.stop();
    }
  });

  test("a redirect on the same host is followed with the token", async () => {
    hub.misbehave = ({ url }) =>
      url.startsWith("/Old/") || url.includes("/Old/")
        ? { status: 307, headers: { location: url.replace("Old/name", NAME) } }
        : null;
    await expectFiles(await open(setting({ name: "Old/name", token: "secret" })), original.files);
    expect(hub.log.every(({ headers }) => headers.authorization === "Bearer secret")).toBe(true);
  });

  test("plain http to another machine is refused, as endpoint and as redirect; so are loops and odd addresses", async () => {
    for (const endpoint of ["http://example.com", "ftp://127.0.0.1/", "http://127.0.0.1.example.com"]) {
      expect((await fault(open({ ...setting(), endpoint }))).code).toBe("insecure-url");
    }
    for (const endpoint of ["nothing", "https://user:word@example.com", "https://example.com/?x=1"]) {
      expect((await fault(open({ ...setting(), endpoint }))).code).toBe("invalid-argument");
    }
    for (const [location, code] of [
      ["http://example.com/x", "insecure-url"],
      ["file:///etc/passwd", "insecure-url"],
      ["http://[", "hub-response"],
      ["/again", "hub-response"],
    ] as const) {
      hub.misbehave = () => ({ status: 302, headers: { location } });
      expect((await fault(open(setting()))).code).toBe(code);
    }
    // What is reached over https may not send us to this machine.
    const fetch = async (url: unknown) =>
      new Response(null, { status: 302, headers: { location: String(url).replace(/^https:..[^/]+/, hub.url) } });
    hub.reset();
    const transport = { fetch: fetch as typeof globalThis.fetch };
    expect((await fault(open({ ...setting({ transport }), endpoint: "https://example.com" }))).code).toBe(
      "insecure-url",
    );
    expect(hub.log).toEqual([]);
  });
});
