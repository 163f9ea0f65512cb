// Asking: what is said, the answer as it is written, another one, and what lies inside it.
import { isStopped } from "../engine/client.ts";
import type { Look } from "../engine/protocol.ts";
import type { Board } from "./board.ts";
import { beforeLastAnswer, edited, messagesOf, type Turn, withTurns } from "./conversation.ts";
import type { Conversations } from "./conversations.ts";
import { explain } from "./problems.ts";
import { answerOptions } from "./settings.ts";

export class Answers {
  readonly #board: Board;
  readonly #conversations: Conversations;
  #askAbort: AbortController | undefined;

  constructor(board: Board, conversations: Conversations) {
    this.#board = board;
    this.#conversations = conversations;
  }

  async send(text: string): Promise<void> {
    const { current, answering } = this.#board.state.get();
    if (answering !== null || text.trim() === "") return;
    await this.#answer([...current.turns, { role: "user", content: text.trim() }]);
  }

  stop(): void {
    this.#askAbort?.abort();
  }

  /** Another answer to what was said last. */
  async retry(): Promise<void> {
    const { current, answering, settings } = this.#board.state.get();
    const turns = beforeLastAnswer(current.turns);
    if (answering !== null || turns === null) return;
    const before = current.turns.at(-1);
    await this.#answer(turns, current.turns.slice(turns.length));
    const after = this.#board.state.get().current.turns.at(-1);
    const same = after !== before && after?.role === "assistant" && after.content === before?.content;
    if (settings.parameters.temperature === 0 && same)
      this.#board.tell({
        tone: "fact",
        title: "The same answer again",
        text: "At temperature 0 the most likely token is always taken. A higher temperature, under Parameters, gives other answers.",
        ways: [],
        passing: true,
      });
  }

  /** Say turn `index` differently; what came after it is gone. */
  async edit(index: number, text: string): Promise<void> {
    const { current, answering } = this.#board.state.get();
    if (answering !== null || text.trim() === "") return;
    await this.#answer(edited(current.turns, index, text.trim()));
  }

  /** `otherwise`: the turns behind these when no answer comes at all. */
  async #answer(turns: readonly Turn[], otherwise: readonly Turn[] = []): Promise<void> {
    const { model, settings } = this.#board.state.get();
    if (model === null) {
      this.#board.tell({
        tone: "error",
        title: "No model is loaded",
        text: "What you wrote is kept. Choose a model, then send it again.",
        ways: ["choose-model", "demo-model"],
      });
      return;
    }
    const before = this.#board.state.get().current;
    const asked = withTurns(before, turns, this.#board.around.now());
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
      const seconds = (this.#board.around.now() - firstAt) / 1000;
      this.#board.state.set({
        answering: { text, tokens, speed: tokens > 4 && seconds > 0.2 ? tokens / seconds : null },
      });
    };
    this.#board.pass();
    this.#board.state.set({ current: asked, answering: { text, tokens, speed: null }, announcement: "Answering." });
    void this.#conversations.keep(asked);
    let facts: Turn["facts"];
    let failure: unknown;
    try {
      facts = await this.#board.around.engine.ask(messagesOf(asked), answerOptions(settings.parameters), {
        signal: abort.signal,
        onPiece: (piece, count) => {
          if (tokens === 0) firstAt = this.#board.around.now();
          text += piece;
          tokens += count;
          // As often as the page is drawn, however fast the tokens come.
          if (drawn) this.#board.around.nextFrame(show);
          drawn = false;
        },
      });
    } catch (error) {
      failure = error;
    }
    const stopped = failure !== undefined && isStopped(failure);
    // What was written stays, also of an answer that broke off.
    const nothing = text === "" && (facts === undefined || (facts.stopReason === "abort" && facts.ids.length === 0));
    const given = nothing ? otherwise : [{ role: "assistant", content: text, facts } as const];
    const { current, conversations } = this.#board.state.get();
    // As it is by now: it may have been renamed meanwhile, or be gone.
    const latest = current.id === asked.id ? current : conversations.find(({ id }) => id === asked.id);
    if (latest !== undefined) {
      const answered = withTurns(latest, [...turns, ...given], this.#board.around.now());
      if (current.id === asked.id) this.#board.state.set({ current: answered });
      void this.#conversations.keep(answered);
    }
    if (mine()) {
      this.#askAbort = undefined;
      this.#board.state.set({ answering: null });
    }
    if (failure !== undefined && !stopped) this.#board.tell(explain(failure, "answering"));
    else if (stopped || facts?.stopReason === "abort") this.#board.announce("Stopped.");
    else this.#board.announce(`Doge answered: ${text}`);
    if (facts !== undefined && facts.truncated > 0)
      this.#board.tell({
        tone: "fact",
        title: "The beginning is out of sight",
        text: `The conversation is longer than the model's ${model.context} tokens: the model no longer sees how it began.`,
        ways: [],
        passing: true,
      });
  }

  /** The inside of the answer in turn `index`. Errors: EngineError. */
  look(index: number, signal: AbortSignal): Promise<Look> {
    const facts = this.#board.state.get().current.turns[index]?.facts;
    if (facts === undefined)
      return Promise.reject(new Error("This answer was not given here: there is nothing to look into."));
    return this.#board.around.engine.look(facts.promptIds, facts.ids, { signal });
  }

  /** Another conversation comes into sight: an answer that is being written ends, where it was asked for. */
  leave(): void {
    this.stop();
    this.#askAbort = undefined;
    this.#board.pass();
    this.#board.state.set({ answering: null });
  }

  /** Keep what there is of an answer that is being written: the page may be going away. */
  async keepUnfinished(): Promise<void> {
    const { current, answering } = this.#board.state.get();
    if (answering === null || answering.text === "") return;
    const turns = [...current.turns, { role: "assistant" as const, content: answering.text }];
    await this.#board.around.store.put(withTurns(current, turns, this.#board.around.now())).catch(() => {});
  }
}
