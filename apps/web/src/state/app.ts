// What the page does: loads models, asks and answers, keeps conversations. Views show its state and call its methods; it touches no document.
import type { EngineClient } from "../engine/client.ts";
import { isStopped } from "../engine/client.ts";
import type { BackendReport, LoadProgress, LoadRequest, Look, ModelFacts } from "../engine/protocol.ts";
import type { ConversationStore } from "../storage/database.ts";
import {
  beforeLastAnswer,
  type Conversation,
  edited,
  emptyConversation,
  messagesOf,
  type Turn,
  withTurns,
} from "./conversation.ts";
import { explain, type Notice, type NoticeText } from "./problems.ts";
import { answerOptions, type Parameters, type Settings } from "./settings.ts";
import { Store } from "./store.ts";

/** An answer that is being written. */
interface Answering {
  readonly text: string;
  readonly tokens: number;
  /** Tokens per second since the first one; null until there are some. */
  readonly speed: number | null;
}

interface Loading {
  readonly request: LoadRequest;
  readonly name: string;
  readonly progress: LoadProgress | null;
}

export interface State {
  readonly backends: readonly BackendReport[] | null;
  readonly model: ModelFacts | null;
  readonly loading: Loading | null;
  /** The last model asked for, whether it came or not. */
  readonly request: LoadRequest | null;
  /** Newest first; without those in which nothing was said. */
  readonly conversations: readonly Conversation[];
  readonly current: Conversation;
  readonly answering: Answering | null;
  readonly notices: readonly Notice[];
  /** For screen readers: what has just happened. */
  readonly announcement: string;
  readonly settings: Settings;
}

/** What the controller has of its surroundings. */
export interface Surroundings {
  readonly engine: Pick<EngineClient, "probe" | "load" | "ask" | "look" | "onNotice" | "onMove" | "onDeath">;
  readonly store: ConversationStore;
  readonly settings: Settings;
  readonly saveSettings: (settings: Settings) => void;
  /** Call back when the page is next drawn, or soon where it is not. */
  readonly nextFrame: (work: () => void) => void;
  readonly now: () => number;
}

export class App {
  readonly state: Store<State>;
  readonly #around: Surroundings;
  #loadAbort: AbortController | undefined;
  #askAbort: AbortController | undefined;
  #notices = 0;

  constructor(around: Surroundings) {
    this.#around = around;
    const { settings, engine, store } = around;
    const current = emptyConversation(around.now(), settings.system);
    this.state = new Store<State>({
      backends: null,
      model: null,
      loading: null,
      request: null,
      conversations: [],
      current,
      answering: null,
      notices: [],
      announcement: "",
      settings,
    });
    engine.onNotice = (text) => this.tell({ tone: "warning", title: "A notice of the engine", text, ways: [] });
    engine.onMove = (model) => this.state.set({ model });
    engine.onDeath = () => this.state.set({ model: null });
    if (store.fault !== null)
      this.tell({ tone: "warning", title: "Conversations are not kept", text: store.fault, ways: [] });
  }

  // Models.

  async probe(): Promise<void> {
    this.state.set({ backends: await this.#around.engine.probe().catch(() => []) });
  }

  /** Load a model; the one before stays until it is there. @returns whether it is */
  async load(request: LoadRequest): Promise<boolean> {
    this.#loadAbort?.abort();
    this.stop();
    const abort = new AbortController();
    this.#loadAbort = abort;
    const name = request.source.kind === "demo" ? "the demo model" : request.source.name;
    const begun: Loading = { request, name, progress: null };
    this.state.set({ loading: begun, request, announcement: `Loading ${name}.` });
    const mine = () => this.#loadAbort === abort;
    let latest: LoadProgress | null = null;
    const show = () => {
      if (mine() && this.state.get().loading !== null) this.state.set({ loading: { ...begun, progress: latest } });
      latest = null;
    };
    try {
      const model = await this.#around.engine.load(request, {
        signal: abort.signal,
        onProgress: (progress) => {
          if (latest === null) this.#around.nextFrame(show);
          latest = progress;
        },
      });
      if (!mine()) return false;
      this.state.set({ model, loading: null, announcement: `${model.name} is ready, on ${model.device}.` });
      for (const text of model.warnings) this.tell({ tone: "warning", title: `About ${model.name}`, text, ways: [] });
      return true;
    } catch (error) {
      if (!mine()) return false;
      this.state.set({ loading: null });
      if (isStopped(error)) this.#announce("Loading was cancelled. What was downloaded is kept.");
      else this.tell(explain(error, "loading the model"));
      return false;
    }
  }

  cancelLoading(): void {
    this.#loadAbort?.abort();
  }

  /** The last model asked for, once more; `change`: otherwise. */
  async loadAgain(change: Partial<LoadRequest> = {}): Promise<boolean> {
    const { request } = this.state.get();
    return request === null ? false : this.load({ ...request, ...change });
  }

  // Answers.

  async send(text: string): Promise<void> {
    const { current, answering } = this.state.get();
    if (answering !== null || text.trim() === "") return;
    await this.#answer([...current.turns, { role: "user", content: text.trim() }]);
  }

  stop(): void {
    this.#askAbort?.abort();
  }

  /** Another answer to what was said last. */
  async retry(): Promise<void> {
    const { current, answering, settings } = this.state.get();
    const turns = beforeLastAnswer(current.turns);
    if (answering !== null || turns === null) return;
    const before = current.turns.at(-1)?.content;
    await this.#answer(turns);
    const after = this.state.get().current.turns.at(-1);
    if (settings.parameters.temperature === 0 && after?.role === "assistant" && after.content === before)
      this.tell({
        tone: "fact",
        title: "The same answer again",
        text: "At temperature 0 the most likely token is always taken. A higher temperature, under Parameters, gives other answers.",
        ways: [],
      });
  }

  /** Say turn `index` differently; what came after it is gone. */
  async edit(index: number, text: string): Promise<void> {
    const { current, answering } = this.state.get();
    if (answering !== null || text.trim() === "") return;
    await this.#answer(edited(current.turns, index, text.trim()));
  }

  async #answer(turns: readonly Turn[]): Promise<void> {
    const { model, settings } = this.state.get();
    if (model === null) {
      this.tell({
        tone: "error",
        title: "No model is loaded",
        text: "What you wrote is kept. Choose a model, then send it again.",
        ways: ["choose-model", "demo-model"],
      });
      return;
    }
    const before = this.state.get().current;
    const asked = withTurns(before, turns, this.#around.now());
    const abort = new AbortController();
    this.#askAbort = abort;
    let text = "";
    let tokens = 0;
    let firstAt = 0;
    let drawn = true;
    const mine = () => this.#askAbort === abort;
    const show = () => {
      drawn = true;
      if (!mine()) return;
      const seconds = (this.#around.now() - firstAt) / 1000;
      this.state.set({ answering: { text, tokens, speed: tokens > 4 && seconds > 0.2 ? tokens / seconds : null } });
    };
    this.state.set({ current: asked, answering: { text, tokens, speed: null }, announcement: "Answering." });
    void this.#keep(asked);
    let facts: Turn["facts"];
    let failure: unknown;
    try {
      const answer = await this.#around.engine.ask(messagesOf(asked), answerOptions(settings.parameters), {
        signal: abort.signal,
        onPiece: (piece, count) => {
          if (tokens === 0) firstAt = this.#around.now();
          text += piece;
          tokens += count;
          // As often as the page is drawn, however fast the tokens come.
          if (drawn) this.#around.nextFrame(show);
          drawn = false;
        },
      });
      facts = { ...answer, model: model.name, backend: model.backend };
    } catch (error) {
      failure = error;
    }
    const stopped = failure !== undefined && isStopped(failure);
    // What was written stays, also of an answer that broke off.
    const given: Turn[] = facts !== undefined || text !== "" ? [{ role: "assistant", content: text, facts }] : [];
    const { current } = this.state.get();
    const answered = withTurns(asked, [...turns, ...given], this.#around.now());
    this.state.set({
      ...(mine() ? { answering: null } : {}),
      ...(current.id === asked.id ? { current: answered } : {}),
    });
    if (mine()) this.#askAbort = undefined;
    void this.#keep(answered);
    if (failure !== undefined && !stopped) this.tell(explain(failure, "answering"));
    else if (stopped || facts?.stopReason === "abort") this.#announce("Stopped.");
    else this.#announce(`Doge answered: ${text}`);
    if (facts !== undefined && facts.truncated > 0)
      this.tell({
        tone: "fact",
        title: "The beginning is out of sight",
        text: `The conversation is longer than the model's ${model.context} tokens: ${facts.truncated} tokens of its beginning were left out of this answer.`,
        ways: [],
      });
  }

  /** The inside of the answer in turn `index`. Errors: EngineError. */
  look(index: number, signal: AbortSignal): Promise<Look> {
    const facts = this.state.get().current.turns[index]?.facts;
    if (facts === undefined)
      return Promise.reject(new Error("This answer was not given here: there is nothing to look into."));
    return this.#around.engine.look(facts.promptIds, facts.ids, { signal });
  }

  // Conversations.

  async readConversations(): Promise<void> {
    try {
      this.state.set({ conversations: await this.#around.store.list() });
    } catch (error) {
      this.#notKept(error);
    }
  }

  fresh(): void {
    this.#leave();
    const { settings } = this.state.get();
    this.state.set({
      current: emptyConversation(this.#around.now(), settings.system),
      announcement: "A new conversation.",
    });
  }

  open(id: string): void {
    const found = this.state.get().conversations.find((one) => one.id === id);
    if (found === undefined || found.id === this.state.get().current.id) return;
    this.#leave();
    this.state.set({ current: found, announcement: `Opened: ${found.title}.` });
  }

  /** Another conversation comes into sight: an answer that is being written ends, where it was asked for. */
  #leave(): void {
    this.stop();
    this.#askAbort = undefined;
    this.state.set({ answering: null });
  }

  async rename(id: string, title: string): Promise<void> {
    const found = this.state.get().conversations.find((one) => one.id === id);
    if (found === undefined || title.trim() === "") return;
    await this.#change({ ...found, title: title.trim(), named: true });
    this.#announce(`Renamed: ${title.trim()}.`);
  }

  async remove(id: string): Promise<void> {
    const { current, conversations } = this.state.get();
    const title = conversations.find((one) => one.id === id)?.title ?? "";
    if (current.id === id) this.fresh();
    this.state.set({ conversations: conversations.filter((one) => one.id !== id), announcement: `Deleted: ${title}.` });
    await this.#around.store.remove(id).catch((error) => this.#notKept(error));
  }

  /** A conversation from elsewhere: kept, and shown. */
  async add(conversation: Conversation): Promise<void> {
    this.#leave();
    this.state.set({ current: conversation, announcement: `Imported: ${conversation.title}.` });
    await this.#keep(conversation);
  }

  async setSystem(system: string): Promise<void> {
    const { current } = this.state.get();
    await this.#change({ ...current, system });
  }

  /** Keep what there is of an answer that is being written: the page may be going away. */
  async keepUnfinished(): Promise<void> {
    const { current, answering } = this.state.get();
    if (answering === null || answering.text === "") return;
    const turns = [...current.turns, { role: "assistant" as const, content: answering.text }];
    await this.#around.store.put(withTurns(current, turns, this.#around.now())).catch(() => {});
  }

  async #change(conversation: Conversation): Promise<void> {
    if (this.state.get().current.id === conversation.id) this.state.set({ current: conversation });
    if (conversation.turns.length > 0) await this.#keep(conversation);
  }

  async #keep(conversation: Conversation): Promise<void> {
    const others = this.state.get().conversations.filter(({ id }) => id !== conversation.id);
    this.state.set({ conversations: [conversation, ...others].sort((a, b) => b.updated - a.updated) });
    await this.#around.store.put(conversation).catch((error) => this.#notKept(error));
  }

  #notKept(error: unknown): void {
    const full = (error as Error | null)?.name === "QuotaExceededError";
    this.tell({
      tone: "error",
      title: "The conversation is not kept",
      text: full
        ? "The browser's storage is full. Delete conversations or downloaded models; until then, what is said lasts until the page is closed."
        : `The browser's database refuses (${error instanceof Error ? error.message : String(error)}). What is said lasts until the page is closed.`,
      ways: full ? ["storage"] : [],
    });
  }

  // Settings and notices.

  setParameters(change: Partial<Parameters>): void {
    const { settings } = this.state.get();
    this.set({ parameters: { ...settings.parameters, ...change } });
  }

  set(change: Partial<Settings>): void {
    const settings = { ...this.state.get().settings, ...change };
    this.state.set({ settings });
    this.#around.saveSettings(settings);
  }

  tell(notice: NoticeText): void {
    const { notices } = this.state.get();
    if (notices.some(({ title, text }) => title === notice.title && text === notice.text)) return;
    this.state.set({ notices: [...notices, { ...notice, id: ++this.#notices }] });
  }

  dismiss(id: number): void {
    this.state.set({ notices: this.state.get().notices.filter((notice) => notice.id !== id) });
  }

  #announce(announcement: string): void {
    this.state.set({ announcement });
  }
}
