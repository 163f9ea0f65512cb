// A hub for pages: the test hub of core behind the headers that let pages of another origin ask it, as real hubs send them.

import { readdir, readFile } from "node:fs/promises";
import { request as ask, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { demoModel } from "@doge-lm/demo-model";
import { COMMIT, TestHub } from "../../../../packages/core/test/hub/server.ts";

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers": "*",
  "access-control-allow-methods": "GET, HEAD",
  "access-control-expose-headers": "*",
};

export interface PageHub {
  readonly hub: TestHub;
  readonly url: string;
  stop(): Promise<void>;
}

/** The demo model's files by name, with some of them replaced. */
export async function demoFiles(replaced: Record<string, Uint8Array> = {}): Promise<Record<string, Uint8Array>> {
  const folder = fileURLToPath(demoModel);
  const files: Record<string, Uint8Array> = {};
  for (const name of await readdir(folder)) {
    if (/^(config|generation_config|tokenizer|tokenizer_config)\.json$|\.safetensors$/.test(name))
      files[name] = await readFile(`${folder}${name}`);
  }
  return { ...files, ...replaced };
}

/** Serves the demo model as "Small/Doge-demo". */
export async function startPageHub(): Promise<PageHub> {
  const hub = await new TestHub({ "Small/Doge-demo": { commit: COMMIT, files: await demoFiles() } }).start();
  const server = createServer((request, response) => {
    if (request.method === "OPTIONS") {
      response.writeHead(204, CORS).end();
      return;
    }
    const { host: _, ...headers } = request.headers;
    const inner = ask(`${hub.url}${request.url}`, { method: request.method ?? "GET", headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, { ...answer.headers, ...CORS });
      // What has come goes on its way, also when no more does.
      answer.on("data", (part: Buffer) => response.write(part));
      answer.on("end", () => response.end());
      // What a page has not read when its connection breaks is lost to it: it has the time to, also on a busy machine.
      answer.on("error", () => setTimeout(() => response.socket?.end(), 1000));
    });
    inner.on("error", () => response.destroy());
    inner.end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    hub,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
      await hub.stop();
    },
  };
}
