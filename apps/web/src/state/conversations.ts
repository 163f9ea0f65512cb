// The conversations of this browser: which are there, which one is in sight, and that they are kept.
import { type Elsewhere, newestFirst } from "../storage/database.ts";
import type { Board } from "./board.ts";
import { type Conversation, emptyConversation } from "./conversation.ts";

export class Conversations {
  readonly #board: Board;
  /** Told when another conversation comes into sight. */
  readonly #onLeave: () => void;

  constructor(board: Board, onLeave: () => void) {
    this.#board = board;
    this.#onLeave = onLeave;
    const { store } = board.around;
    store.onElsewhere = (change) => this.#follow(change);
    const { fault } = store;
    if (fault !== null) board.tell({ tone: "warning", title: "Conversations are not kept", text: fault, ways: [] });
  }

  async read(): Promise<void> {
    try {
      this.#board.state.set({ conversations: await this.#board.around.store.list() });
    } catch (error) {
      this.#notKept(error);
    }
  }

  fresh(): void {
    this.#onLeave();
    const { settings } = this.#board.state.get();
    this.#board.state.set({
      current: emptyConversation(this.#board.around.now(), settings.system),
      announcement: "A new conversation.",
    });
  }

  open(id: string): void {
    const found = this.#board.state.get().conversations.find((one) => one.id === id);
    if (found === undefined || found.id === this.#board.state.get().current.id) return;
    this.#onLeave();
    this.#board.state.set({ current: found, announcement: `Opened: ${found.title}.` });
  }

  async rename(id: string, title: string): Promise<void> {
    const found = this.#board.state.get().conversations.find((one) => one.id === id);
    if (found === undefined || title.trim() === "") return;
    await this.#change({ ...found, title: title.trim(), named: true });
    this.#board.announce(`Renamed: ${title.trim()}.`);
  }

  async remove(id: string): Promise<void> {
    const { current, conversations } = this.#board.state.get();
    const title = conversations.find((one) => one.id === id)?.title ?? "";
    if (current.id === id) this.fresh();
    this.#board.state.set({
      conversations: conversations.filter((one) => one.id !== id),
      announcement: `Deleted: ${title}.`,
    });
    await this.#board.around.store.remove(id).catch((error) => this.#notKept(error));
  }

  /** A conversation from elsewhere: kept, and shown. */
  async add(conversation: Conversation): Promise<void> {
    this.#onLeave();
    this.#board.state.set({ current: conversation, announcement: `Imported: ${conversation.title}.` });
    await this.keep(conversation);
  }

  async setSystem(system: string): Promise<void> {
    const { current } = this.#board.state.get();
    await this.#change({ ...current, system });
  }

  async #change(conversation: Conversation): Promise<void> {
    if (this.#board.state.get().current.id === conversation.id) this.#board.state.set({ current: conversation });
    if (conversation.turns.length > 0) await this.keep(conversation);
  }

  async keep(conversation: Conversation): Promise<void> {
    const others = this.#board.state.get().conversations.filter(({ id }) => id !== conversation.id);
    this.#board.state.set({ conversations: newestFirst([conversation, ...others]) });
    await this.#board.around.store.put(conversation).catch((error) => this.#notKept(error));
  }

  /** Another tab has kept or removed a conversation: this one shows it so, and does not write over it with what it had. Only an
   *  answer that is being written here goes on where it is. */
  #follow(change: Elsewhere): void {
    const { current, conversations, answering } = this.#board.state.get();
    const { id, kept } =
      "kept" in change ? { id: change.kept.id, kept: [change.kept] } : { id: change.removed, kept: [] };
    const others = conversations.filter((one) => one.id !== id);
    this.#board.state.set({ conversations: newestFirst([...kept, ...others]) });
    if (current.id !== id) return;
    if (kept[0] === undefined) this.fresh();
    else if (answering === null) this.#board.state.set({ current: kept[0] });
  }

  #notKept(error: unknown): void {
    const full = (error as Error | null)?.name === "QuotaExceededError";
    this.#board.tell({
      tone: "error",
      title: "The conversation is not kept",
      text: full
        ? "The browser's storage is full. Delete conversations or downloaded models; until then, what is said lasts until the page is closed."
        : `The browser's database refuses (${error instanceof Error ? error.message : String(error)}). What is said lasts until the page is closed.`,
      ways: full ? ["storage"] : [],
    });
  }
}
