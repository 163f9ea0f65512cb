// Loading: the model that answers, the one that is on its way, and the backends that there are.
import { EngineError, isStopped } from "../engine/client.ts";
import type { LoadProgress, LoadRequest } from "../engine/protocol.ts";
import type { Board, Loading } from "./board.ts";
import { explain } from "./problems.ts";

const NO_TEMPLATE = "What it was trained on are texts, not conversations.";

export class Models {
  readonly #board: Board;
  #loadAbort: AbortController | undefined;

  constructor(board: Board) {
    this.#board = board;
    const { engine } = board.around;
    engine.onNotice = (text) => board.tell({ tone: "warning", title: "A notice of the engine", text, ways: [] });
    engine.onMove = (model) => board.state.set({ model });
    engine.onDeath = () => board.state.set({ model: null });
  }

  async probe(): Promise<void> {
    this.#board.state.set({ backends: await this.#board.around.engine.probe().catch(() => []) });
  }

  /** Load a model; the one before answers until it is there. @returns whether it is */
  async load(request: LoadRequest): Promise<boolean> {
    this.#loadAbort?.abort();
    const abort = new AbortController();
    this.#loadAbort = abort;
    const name = request.source.kind === "demo" ? "Demo model" : request.source.name;
    const begun: Loading = { request, name, progress: null };
    this.#board.state.set({ loading: begun, request, announcement: `Loading ${name}.` });
    const mine = () => this.#loadAbort === abort;
    let latest: LoadProgress | null = null;
    const show = () => {
      if (mine() && this.#board.state.get().loading !== null)
        this.#board.state.set({ loading: { ...begun, progress: latest } });
      latest = null;
    };
    try {
      const model = await this.#board.around.engine.load(request, {
        signal: abort.signal,
        onProgress: (progress) => {
          if (latest === null) this.#board.around.nextFrame(show);
          latest = progress;
        },
      });
      if (!mine()) return false;
      this.#board.state.set({ model, loading: null, announcement: `${model.name} is ready, on ${model.device}.` });
      for (const text of model.warnings)
        this.#board.tell({ tone: "warning", title: `About ${model.name}`, text, ways: [] });
      // Before anything is said in vain.
      if (!model.chats)
        this.#board.tell(explain(new EngineError({ code: "template-missing", message: NO_TEMPLATE }), "answering"));
      return true;
    } catch (error) {
      if (!mine()) return false;
      this.#board.state.set({ loading: null });
      if (isStopped(error)) this.#board.announce("Loading was cancelled. What was downloaded in whole pieces is kept.");
      else this.#board.tell(explain(error, "loading the model"));
      return false;
    }
  }

  cancelLoading(): void {
    this.#loadAbort?.abort();
  }

  /** The last model asked for, once more; `change`: otherwise. */
  async loadAgain(change: Partial<LoadRequest> = {}): Promise<boolean> {
    const { request } = this.#board.state.get();
    return request === null ? false : this.load({ ...request, ...change });
  }
}
