// What choosing a backend takes from a browser: its name, and rates in IndexedDB, which pages and workers share.
import type { ChoosingPlatform } from "../choosing/platform.ts";
import type { RateStore } from "../choosing/rates.ts";

const table = "rates";

const settled = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Rates in the database "doge". It is opened for each use: there are few, and an open one would stand in the way of its removal. */
export function databaseRates(factory: IDBFactory | undefined = globalThis.indexedDB): RateStore {
  const use = async <T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    if (factory === undefined) throw new Error("There is no IndexedDB.");
    const opening = factory.open("doge", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(table);
    const database = await settled(opening);
    try {
      return await settled(work(database.transaction(table, mode).objectStore(table)));
    } finally {
      database.close();
    }
  };
  return {
    get: async (key) => {
      const value: unknown = await use("readonly", (store) => store.get(key));
      return typeof value === "string" ? value : undefined;
    },
    set: async (key, value) => void (await use("readwrite", (store) => store.put(value, key))),
  };
}

export function choosingPlatform(): ChoosingPlatform {
  const { userAgent = "unknown", hardwareConcurrency = 1 } = (globalThis.navigator ?? {}) as Partial<Navigator>;
  return { rates: databaseRates(), machine: `${userAgent}, x${hardwareConcurrency}`, wanted: undefined };
}
