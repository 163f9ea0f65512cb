// The conversations of this browser, in IndexedDB; in memory, with a reason, where it has none (some private windows).
import type { Conversation } from "../state/conversation.ts";

/** What another tab has done. */
export type Elsewhere = { readonly kept: Conversation } | { readonly removed: string };

export interface ConversationStore {
  /** Why nothing is kept beyond this page, where that is so. */
  readonly fault: string | null;
  /** All, the one changed last first. */
  list(): Promise<Conversation[]>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
  /** Told of what other tabs keep and remove. */
  onElsewhere: (change: Elsewhere) => void;
}

/** Not the one of core, which keeps in "doge" what it has measured. */
const DATABASE = "doge-playground";
const TABLE = "conversations";

const asked = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("The browser's database failed."));
  });

function openDatabase(factory: IDBFactory): Promise<IDBDatabase> {
  const request = factory.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore(TABLE, { keyPath: "id" });
  };
  return asked(request);
}

export async function openConversations(factory: IDBFactory | undefined): Promise<ConversationStore> {
  if (factory === undefined)
    return memoryStore("This browser has no database: conversations last until the page is closed.");
  let database: IDBDatabase;
  try {
    database = await openDatabase(factory);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return memoryStore(`The browser's database does not open (${why}): conversations last until the page is closed.`);
  }
  // A newer version of the page may want to change it.
  database.onversionchange = () => database.close();
  const transaction = async (
    mode: IDBTransactionMode,
    work: (table: IDBObjectStore) => IDBRequest,
  ): Promise<unknown> => {
    const opened = database.transaction(TABLE, mode);
    const done = new Promise<void>((resolve, reject) => {
      opened.oncomplete = () => resolve();
      opened.onabort = () => reject(opened.error ?? new Error("The browser's database gave up."));
    });
    const request = work(opened.objectStore(TABLE));
    await done;
    return request.result;
  };
  const channel = new BroadcastChannel(DATABASE);
  const tell = (change: Elsewhere) => channel.postMessage(change);
  const store: ConversationStore = {
    fault: null,
    list: async () => newestFirst((await transaction("readonly", (table) => table.getAll())) as Conversation[]),
    put: async (conversation) => {
      await transaction("readwrite", (table) => table.put(conversation));
      tell({ kept: conversation });
    },
    remove: async (id) => {
      await transaction("readwrite", (table) => table.delete(id));
      tell({ removed: id });
    },
    onElsewhere: () => {},
  };
  channel.onmessage = ({ data }: MessageEvent<Elsewhere>) => store.onElsewhere(data);
  return store;
}

export function memoryStore(fault: string | null = null): ConversationStore {
  const kept = new Map<string, Conversation>();
  return {
    fault,
    list: async () => newestFirst([...kept.values()]),
    put: async (conversation) => void kept.set(conversation.id, structuredClone(conversation)),
    remove: async (id) => void kept.delete(id),
    onElsewhere: () => {},
  };
}

export const newestFirst = (all: Conversation[]): Conversation[] => all.sort((a, b) => b.updated - a.updated);
