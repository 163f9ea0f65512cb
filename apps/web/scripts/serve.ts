// A small server for the built site, for a person's own machine and for tests.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize, sep } from "node:path";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

export interface Site {
  readonly address: string;
  /** What was asked for, in order. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

export interface SiteOptions {
  readonly port?: number;
  /** Send the headers that let threads share memory; default: as most static hosts, no. */
  readonly isolated?: boolean;
}

/** Serve `folder` on this machine alone. */
export async function serveSite(folder: string, { port = 0, isolated = false }: SiteOptions = {}): Promise<Site> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    requests.push(pathname);
    const path = normalize(
      join(folder, decodeURIComponent(pathname.endsWith("/") ? `${pathname}index.html` : pathname)),
    );
    if (!path.startsWith(folder + sep)) {
      response.writeHead(404).end();
      return;
    }
    stat(path)
      .then((found) => {
        if (!found.isFile()) throw new Error("no file");
        response.writeHead(200, {
          "content-type": TYPES[extname(path)] ?? "application/octet-stream",
          "content-length": found.size,
          // Names of assets change with their content.
          "cache-control": pathname.includes("/assets/") ? "public, max-age=31536000, immutable" : "no-cache",
          ...(isolated
            ? { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" }
            : {}),
        });
        createReadStream(path).pipe(response);
      })
      .catch(() => response.writeHead(404, { "content-type": "text/plain" }).end("There is no such file."));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    requests,
    close: async () => {
      server.closeAllConnections();
      if (server.listening) await new Promise((done) => server.close(done));
    },
  };
}
