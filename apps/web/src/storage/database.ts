// The conversations of this browser, in IndexedDB; in memory, with a reason, where it has none (some private windows). Turns are kept one by
// one and never written over with an older state: two tabs that write the same conversation lose none of each other's.
import type { Conversation, Turn } from "../state/conversation.ts";
import { type ConversationOfVersion1, upgraded } from "./version-1.ts";

/** What another tab has done. */
export type Elsewhere = { readonly kept: Conversation } | { readonly removed: string };

export interface ConversationStore {
  /** Why nothing is kept beyond this page, where that is so. */
  readonly fault: string | null;
  /** All, the one changed last first. */
  list(): Promise<Conversation[]>;
  /** Keep it with all of its turns; those that are there already stay. */
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
  /** Told of what other tabs keep and remove. */
  onElsewhere: (change: Elsewhere) => void;
}

/** Not the one of core, which keeps in "doge" what it has measured. */
const DATABASE = "doge-playground";
/** 1 kept each conversation as one value. */
const VERSION = 2;
/** Conversations without their turns. */
const HEADS = "conversations";
/** By conversation, then by id. */
const TURNS = "turns";

type Head = Omit<Conversation, "turns">;
type KeptTurn = Turn & { readonly conversation: string };

const asked = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("The browser's database failed."));
  });

const headOf = ({ turns: _, ...head }: Conversation): Head => head;

function openDatabase(factory: IDBFactory): Promise<IDBDatabase> {
  const request = factory.open(DATABASE, VERSION);
  request.onupgradeneeded = ({ oldVersion }) => {
    const { result: database, transaction } = request;
    const turns = database.createObjectStore(TURNS, { keyPath: ["conversation", "id"] });
    if (oldVersion === 0) {
      database.createObjectStore(HEADS, { keyPath: "id" });
      return;
    }
    const heads = transaction!.objectStore(HEADS);
    const all: IDBRequest<ConversationOfVersion1[]> = heads.getAll();
    all.onsuccess = () => {
      for (const old of all.result) {
        const conversation = upgraded(old);
        for (const turn of conversation.turns) turns.put({ ...turn, conversation: conversation.id });
        heads.put(headOf(conversation));
      }
    };
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
  const transaction = async <T>(
    mode: IDBTransactionMode,
    work: (heads: IDBObjectStore, turns: IDBObjectStore) => T,
  ): Promise<T> => {
    const opened = database.transaction([HEADS, TURNS], mode);
    const done = new Promise<void>((resolve, reject) => {
      opened.oncomplete = () => resolve();
      opened.onabort = () => reject(opened.error ?? new Error("The browser's database gave up."));
    });
    const result = work(opened.objectStore(HEADS), opened.objectStore(TURNS));
    await done;
    return result;
  };
  // Earlier versions of the page, in other tabs, would not understand what is said here.
  const channel = new BroadcastChannel(`${DATABASE}-${VERSION}`);
  const tell = (change: Elsewhere) => channel.postMessage(change);
  /** Turns that lie in the database: they do not change. */
  const kept = new WeakSet<Turn>();
  const store: ConversationStore = {
    fault: null,
    list: async () => {
      const [heads, turns] = await transaction("readonly", (heads, turns) => [
        heads.getAll() as IDBRequest<Head[]>,
        turns.getAll() as IDBRequest<KeptTurn[]>,
      ]);
      const byConversation = Map.groupBy(turns!.result as KeptTurn[], ({ conversation }) => conversation);
      return newestFirst(
        (heads!.result as Head[]).flatMap((head) => {
          const own = (byConversation.get(head.id) ?? []).map(({ conversation: _, ...turn }) => turn);
          for (const turn of own) kept.add(turn);
          return own.length === 0 ? [] : [{ ...head, turns: own }];
        }),
      );
    },
    put: async (conversation) => {
      const news = conversation.turns.filter((turn) => !kept.has(turn));
      await transaction("readwrite", (heads, turns) => {
        for (const turn of news) turns.put({ ...turn, conversation: conversation.id });
        heads.put(headOf(conversation));
      });
      for (const turn of news) kept.add(turn);
      tell({ kept: conversation });
    },
    remove: async (id) => {
      await transaction("readwrite", (heads, turns) => {
        heads.delete(id);
        turns.delete(IDBKeyRange.bound([id], [id, []]));
      });
      tell({ removed: id });
    },
    onElsewhere: () => {},
  };
  channel.onmessage = ({ data }: MessageEvent<Elsewhere>) => {
    if ("kept" in data) for (const turn of data.kept.turns) kept.add(turn);
    store.onElsewhere(data);
  };
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
