// What choosing a backend takes from Node: DOGE_BACKEND, the machine's name, and a file of rates in the user's cache folder.
import { randomUUID } from "node:crypto";
import { cpus, homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import type { ChoosingPlatform } from "../choosing/platform.ts";
import type { RateStore } from "../choosing/rates.ts";
import { type Disk, disk } from "./disk.ts";

const format = "doge-rates";
/** Older ones are of other versions, devices or models. */
const mostKept = 200;

/** The file of rates: in XDG_CACHE_HOME or what stands in its place on this system. */
export function ratesFile(environment: NodeJS.ProcessEnv = process.env, platform: string = process.platform): string {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = environment;
  const usual = {
    darwin: join(homedir(), "Library", "Caches"),
    win32: LOCALAPPDATA || join(homedir(), "AppData", "Local"),
  };
  // A relative one means nothing: https://specifications.freedesktop.org/basedir-spec/latest/
  const named = XDG_CACHE_HOME !== undefined && isAbsolute(XDG_CACHE_HOME) ? XDG_CACHE_HOME : undefined;
  const folder = named ?? usual[platform as keyof typeof usual] ?? join(homedir(), ".cache");
  return join(folder, "doge", "rates.json");
}

/** Rates in a JSON file, the newest last. A file that is none of ours counts as empty and is replaced, whole or not at all. */
export function fileRates(path: string, fs: Disk = disk): RateStore {
  const read = async (): Promise<Record<string, string>> => {
    try {
      const found = JSON.parse(await fs.readFile(path, "utf8")) as { format?: unknown; rates?: unknown } | null;
      const entries =
        found?.format === format && typeof found.rates === "object" ? Object.entries(found.rates ?? {}) : [];
      return Object.fromEntries(entries.filter(([, value]) => typeof value === "string"));
    } catch {
      return {};
    }
  };
  return {
    get: async (key) => {
      const rates = await read();
      return Object.hasOwn(rates, key) ? rates[key] : undefined;
    },
    async set(key, value) {
      const { [key]: _, ...others } = await read();
      const rates = Object.fromEntries([...Object.entries(others), [key, value]].slice(-mostKept));
      const fresh = `${path}.${randomUUID()}`;
      await fs.mkdir(dirname(path), { recursive: true });
      const handle = await fs.open(fresh, "wx");
      try {
        await handle.writeFile(`${JSON.stringify({ format, rates }, null, 1)}\n`);
        await handle.close();
        await fs.rename(fresh, path);
      } catch (error) {
        await handle.close().catch(() => {});
        await fs.rm(fresh, { force: true }).catch(() => {});
        throw error;
      }
    },
  };
}

export function choosingPlatform(): ChoosingPlatform {
  const [first, ...others] = cpus();
  return {
    rates: fileRates(ratesFile()),
    machine: `${process.platform} ${process.arch}, ${first?.model ?? "unknown"} x${1 + others.length}, V8 ${process.versions.v8}`,
    wanted: process.env.DOGE_BACKEND || undefined,
  };
}
