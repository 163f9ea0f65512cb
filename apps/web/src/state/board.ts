// What the whole page shows, in one place, and how a person is told of something. The parts of the controller write it, views follow it.
import type { EngineClient } from "../engine/client.ts";
import type { BackendReport, LoadProgress, LoadRequest, ModelFacts } from "../engine/protocol.ts";
import type { ConversationStore } from "../storage/database.ts";
import type { Drafts } from "../storage/drafts.ts";
import type { TurnTaking } from "../storage/turn-taking.ts";
import { type Conversation, emptyConversation } from "./conversation.ts";
import type { Notice, NoticeText } from "./problems.ts";
import type { Parameters, Settings } from "./settings.ts";
import { Store } from "./store.ts";

/** An answer that is being written. */
interface Answering {
  /** Of the turn that it will be. */
  readonly id: string;
  /** The turn that it answers. */
  readonly to: string;
  readonly text: string;
  readonly tokens: number;
  /** Tokens per second since the first one; null until there are some. */
  readonly speed: number | null;
}

export interface Loading {
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
  /** Another tab is answering in the conversation in sight. */
  readonly elsewhere: boolean;
  readonly notices: readonly Notice[];
  /** For screen readers: what has just happened. */
  readonly announcement: string;
  readonly settings: Settings;
}

/** What the controller has of its surroundings. */
export interface Surroundings {
  readonly engine: Pick<EngineClient, "start" | "probe" | "load" | "ask" | "look" | "onNotice" | "onMove" | "onDeath">;
  readonly store: ConversationStore;
  readonly turns: TurnTaking;
  readonly drafts: Drafts;
  readonly settings: Settings;
  readonly saveSettings: (settings: Settings) => void;
  /** Call back when the page is next drawn, or soon where it is not. */
  readonly nextFrame: (work: () => void) => void;
  readonly now: () => number;
}

export class Board {
  readonly state: Store<State>;
  readonly around: Surroundings;
  #notices = 0;

  constructor(around: Surroundings) {
    this.around = around;
    const { settings } = around;
    this.state = new Store<State>({
      backends: null,
      model: null,
      loading: null,
      request: null,
      conversations: [],
      current: emptyConversation(around.now(), settings.system),
      answering: null,
      elsewhere: false,
      notices: [],
      announcement: "",
      settings,
    });
  }

  setParameters(change: Partial<Parameters>): void {
    const { settings } = this.state.get();
    this.set({ parameters: { ...settings.parameters, ...change } });
  }

  set(change: Partial<Settings>): void {
    const settings = { ...this.state.get().settings, ...change };
    this.state.set({ settings });
    this.around.saveSettings(settings);
  }

  tell(notice: NoticeText): void {
    const { notices } = this.state.get();
    if (notices.some(({ title, text }) => title === notice.title && text === notice.text)) return;
    this.state.set({ notices: [...notices, { ...notice, id: ++this.#notices }] });
  }

  dismiss(id: number): void {
    this.state.set({ notices: this.state.get().notices.filter((notice) => notice.id !== id) });
  }

  /** What was told of an answer has had its time. */
  pass(): void {
    this.state.set({ notices: this.state.get().notices.filter(({ passing }) => passing !== true) });
  }

  announce(announcement: string): void {
    this.state.set({ announcement });
  }
}
