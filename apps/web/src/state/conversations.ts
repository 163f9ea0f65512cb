// The conversations of this browser: which are there, which one is in sight, and that they are kept.
import { type Elsewhere, newestFirst } from "../storage/database.ts";
import type { Board } from "./board.ts";
import { type Conversation, emptyConversation } from "./conversation.ts";
import { merged } from "./versions.ts";

export class Conversations {
  readonly #board: Board;
  /** Told when another conversation comes into sight. */
  readonly #onLeave: () => void;

  constructor(board: Board, onLeave: () => void) {
    this.#board = board;
    this.#onLeave = onLeave;
    const { store, turns } = board.around;
    store.onElsewhere = (change) => this.#follow(change);
    turns.onElsewhere = (elsewhere) => {
      const announcement = elsewhere ? "Another tab is answering in this conversation." : "The other tab has answered.";
      board.state.set({ elsewhere, announcement });
    };
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
    const { settings } = this.#board.state.get();
    this.#show(emptyConversation(this.#board.around.now(), settings.system), "A new conversation.");
  }

  open(id: string): void {
    const found = this.#board.state.get().conversations.find((one) => one.id === id);
    if (found === undefined || found.id === this.#board.state.get().current.id) return;
    this.#show(found, `Opened: ${found.title}.`);
  }

  #show(conversation: Conversation, announcement: string): void {
    this.#onLeave();
    this.#board.around.turns.watch(conversation.id);
    this.#board.state.set({ current: conversation, announcement });
  }

  async rename(id: string, title: string): Promise<void> {
    const found = this.#board.state.get().conversations.find((one) => one.id === id);
    if (found === undefined || title.trim() === "") return;
    await this.#change({ ...found, title: title.trim(), named: true });
    this.#board.announce(`Renamed: ${title.trim()}.`);
  }

  async remove(id: string): Promise<void> {
    const { current, conversations } = this.#board.state.get();
    const found = conversations.find((one) => one.id === id);
    if (current.id === id) this.fresh();
    this.#board.state.set({
      conversations: conversations.filter((one) => one.id !== id),
      announcement: `Deleted: ${found?.title ?? ""}.`,
    });
    const { store, drafts } = this.#board.around;
    for (const key of [id, ...(found?.turns ?? []).map((turn) => turn.id)]) drafts.save(key, "");
    await store.remove(id).catch((error) => this.#notKept(error));
  }

  /** A conversation from elsewhere: kept, and shown. */
  async add(conversation: Conversation): Promise<void> {
    this.#show(conversation, `Imported: ${conversation.title}.`);
    await this.keep(conversation);
  }

  /** Bring another version of a turn into sight, with the newest of what followed it. */
  async see(id: string, announcement: string): Promise<void> {
    const { current } = this.#board.state.get();
    this.#board.announce(announcement);
    await this.#change({ ...current, at: id });
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

  /** Another tab has kept or removed a conversation: this one shows it so, with what it has itself. What comes anew is shown, unless an
   *  answer is being written here. */
  #follow(change: Elsewhere): void {
    const { current, conversations, answering } = this.#board.state.get();
    const id = "kept" in change ? change.kept.id : change.removed;
    const mine = current.id === id ? current : conversations.find((one) => one.id === id);
    const others = conversations.filter((one) => one.id !== id);
    if (!("kept" in change)) {
      this.#board.state.set({ conversations: others });
      if (current.id === id) this.fresh();
      return;
    }
    const one = mine === undefined ? change.kept : merged(mine, change.kept, mine === current && answering !== null);
    this.#board.state.set({ conversations: newestFirst([one, ...others]) });
    if (mine !== current) return;
    this.#board.state.set({ current: one });
    this.#board.around.turns.watch(id);
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
