// Models by name on the command line: every command in a process of its own, against a hub on this machine.
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Progress } from "@doge-lm/core";
import { demoModel } from "@doge-lm/demo-model";
import { load } from "@doge-lm/wasm";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { COMMIT, TestHub } from "../../../packages/core/test/hub/server.ts";

const main = fileURLToPath(new URL("../src/bin.ts", import.meta.url));
const demo = fileURLToPath(demoModel);
const NAME = "SmallDoge/Doge-demo";
const hub = new TestHub({});
let home: string;
let greedy: string;

beforeAll(async () => {
  await hub.start();
  home = await mkdtemp(join(tmpdir(), "doge-cli-hub-"));
  const names = (await readdir(demo)).filter((name) =>
    /^(.*config|tokenizer|special_tokens_map)\.json$|safetensors$/.test(name),
  );
  const files: Record<string, Uint8Array> = {};
  for (const name of names) files[name] = await readFile(join(demo, name));
  hub.repositories[NAME] = { commit: COMMIT, files };
  greedy = await good(["generate", "--prompt", "Once upon a time", "--max-new-tokens", "8", "--greedy"]);
});
afterAll(async () => {
  await hub.stop();
  await rm(home, { recursive: true, force: true });
});
beforeEach(() => hub.reset());

/** The hub lives in this process, so the command must not block it. */
function doge(args: readonly string[], more: Record<string, string> = {}, input = "") {
  const { DOGE_BACKEND: _, HF_HUB_CACHE: __, HF_TOKEN: ___, ...env } = process.env;
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args], {
    env: { ...env, NO_COLOR: "1", HF_HOME: home, ...more },
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.stderr.on("data", (data) => {
    err += data;
  });
  child.stdin.end(input);
  return new Promise<{ status: number | null; out: string; err: string }>((resolve) =>
    child.on("close", (status) => resolve({ status, out, err })),
  );
}

async function good(args: readonly string[], more?: Record<string, string>, input?: string): Promise<string> {
  const { status, out, err } = await doge(args, more, input);
  expect({ status, err }).toEqual({ status: 0, err: "" });
  return out;
}

/** The tensors of a safetensors file, by turns in one of two. */
function split(file: Uint8Array, names: readonly [string, string]) {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const { __metadata__: _, ...header } = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  const map: Record<string, string> = {};
  const shards: Record<string, Uint8Array> = {};
  for (const [which, name] of names.entries()) {
    const own: Record<string, unknown> = {};
    const parts: Uint8Array[] = [];
    let end = 0;
    for (const tensor of Object.keys(header).filter((_, index) => index % 2 === which)) {
      const [from, to] = header[tensor].data_offsets;
      own[tensor] = { ...header[tensor], data_offsets: [end, (end += to - from)] };
      parts.push(file.subarray(8 + length + from, 8 + length + to));
      map[tensor] = name;
    }
    const text = new TextEncoder().encode(JSON.stringify(own));
    const size = new Uint8Array(8);
    new DataView(size.buffer).setBigUint64(0, BigInt(text.length), true);
    shards[name] = Buffer.concat([size, text, ...parts]);
  }
  return { map, shards };
}

const generate = ["generate", "--model", NAME, "--prompt", "Once upon a time", "--max-new-tokens", "8", "--greedy"];

describe("a model by name", () => {
  test("in shards, in subfolders: fetched, cut and resumed, pinned offline, and from the folder they lie in", async () => {
    const { "model.safetensors": whole, ...rest } = hub.repositories[NAME]!.files;
    const { map, shards } = split(whole!, [
      "parts/model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
    ]);
    const index = new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map: map }));
    const name = "SmallDoge/Doge-sharded";
    hub.repositories[name] = { commit: COMMIT, files: { ...rest, "model.safetensors.index.json": index, ...shards } };
    const [first] = Object.keys(shards);
    hub.misbehave = ({ method, file }, n) => (method === "GET" && file === first && n === 1 ? { cutAt: 99_999 } : null);
    const env = { HF_ENDPOINT: hub.url, HF_HOME: join(home, "sharded") }; // the other tests look into theirs
    const folder = (await good(["pull", name], env)).trim();
    expect(hub.gets(first!).map(({ from }) => from)).toEqual([0, 99_999]);
    hub.reset();
    const of = (model: string) => generate.map((word) => (word === NAME ? model : word));
    expect(await good(of(name), { ...env, HF_HUB_OFFLINE: "1" })).toBe(greedy);
    expect(await good(of(folder))).toBe(greedy);
    expect(hub.log).toEqual([]);
  });

  test("load() takes the name, with the options of the hub and progress over all files, then over the weights", async () => {
    const seen: Progress[] = [];
    const cacheDir = join(home, "library");
    const options = { endpoint: hub.url, cacheDir, token: "given", revision: "main" };
    const doge = await load(NAME, { ...options, onProgress: (progress) => seen.push(progress) });
    expect(doge.info().source).toBe(NAME);
    const { text } = await doge.generate("Once upon a time", { maxNewTokens: 8, doSample: false }).result();
    expect(`${text}\n`).toBe(greedy);
    await doge.close();
    const { files } = hub.repositories[NAME]!;
    const total = Object.values(files).reduce((sum, { length }) => sum + length, 0);
    expect(seen.findLast(({ overall }) => overall !== undefined)!.overall).toEqual({ loaded: total, total });
    const size = files["model.safetensors"]!.length;
    expect(seen.at(-1)).toEqual({ file: "model.safetensors", loaded: size, total: size });
    expect(hub.log.every(({ headers }) => headers.authorization === "Bearer given")).toBe(true);
    hub.reset();
    await (await load(NAME, { ...options, offline: true })).close();
    expect(hub.log).toEqual([]);
    const signal = AbortSignal.abort();
    await expect(load(NAME, { ...options, signal })).rejects.toMatchObject({ code: "aborted" });
  });

  test("--endpoint fetches it, the second run needs no network, and a pipe sees no progress", async () => {
    expect(await good([...generate, "--endpoint", hub.url])).toBe(greedy);
    expect(hub.gets("model.safetensors").length).toBe(1);
    hub.reset();
    expect(await good(generate, { HF_HUB_OFFLINE: "1" })).toBe(greedy);
    expect(await good([...generate, "--offline"])).toBe(greedy);
    expect(hub.log).toEqual([]);
    expect(await good([...generate, "--revision", COMMIT], { HF_ENDPOINT: hub.url, HF_TOKEN: "secret" })).toBe(greedy);
    expect(hub.log.map(({ file, headers }) => [file, headers.authorization])).toEqual([["api", "Bearer secret"]]);
    const answer = await good(["chat", "--model", NAME, "--offline", "--once", "What is 2 plus 3?"]);
    expect(answer.trim().length).toBeGreaterThan(0);
  });

  test("pull prints the folder, ls what there is, rm removes it; inspect and tokenize take names", async () => {
    const endpoint = { HF_ENDPOINT: hub.url };
    const folder = (await good(["pull", NAME], endpoint)).trim();
    expect(folder).toBe(join(home, "hub", "models--SmallDoge--Doge-demo", "snapshots", COMMIT));
    const { source: _, ...held } = JSON.parse(await good(["inspect", "--json", "--model", folder]));
    expect(JSON.parse(await good(["inspect", "--json"]))).toMatchObject(held);
    expect(await good(["inspect", "--model", NAME], endpoint)).toContain("parameters");
    expect(await good(["ls"])).toMatch(/^SmallDoge\/Doge-demo +\d+\.\d MB {2}main 0123456\n$/);
    expect(JSON.parse(await good(["ls", "--json"]))).toMatchObject([{ name: NAME, incomplete: 0 }]);
    expect(await good(["rm", NAME])).toMatch(/^Removed SmallDoge\/Doge-demo: \d+\.\d MB\.\n$/);
    expect((await doge(["ls"])).err).toContain("There is no model in");
    hub.reset();
    const ids = JSON.parse(await good(["tokenize", "--model", NAME], endpoint, '["Hi"]')) as number[][];
    expect(ids[0]!.length).toBeGreaterThan(0);
    expect(hub.gets("model.safetensors")).toEqual([]);
  });

  test("faults are one sentence and no stack", async () => {
    hub.misbehave = ({ method, file }) =>
      method === "GET" && file === "model.safetensors"
        ? { replace: new Uint8Array(hub.repositories[NAME]!.files[file]!.length) }
        : null;
    for (const [args, word] of [
      [["--model", "no/such", "--endpoint", hub.url], "no/such"],
      [["--model", "no/such", "--offline"], "offline"],
      [["--model", NAME, "--endpoint", "http://example.com"], "not encrypted"],
      [["--model", "nothing"], "owner/name"],
      [["--model", NAME, "--endpoint", hub.url], "SHA-256"],
    ] as const) {
      const { status, out, err } = await doge(["generate", "--prompt", "x", ...args]);
      expect([status, out]).toEqual([1, ""]);
      expect(err).toMatch(/^doge: .*\n$/);
      expect(err).toContain(word);
    }
    expect((await doge(["rm", NAME])).status).toBe(0);
    expect((await doge(["rm", NAME])).err).toContain("not in the cache");
  });
});
