// Asking: what is said, the answer as it is written, another one, and what lies inside it.
import { isStopped } from "../engine/client.ts";
import type { AnswerFacts, Look } from "../engine/protocol.ts";
import type { Board, State } from "./board.ts";
import { type Conversation, messagesOf, type Turn } from "./conversation.ts";
import type { Conversations } from "./conversations.ts";
import { explain } from "./problems.ts";
import { answerOptions } from "./settings.ts";
import { inSight, pathTo, withTurn } from "./versions.ts";

/** What is to be answered: a turn of the conversation, which may have come with it. */
interface Question {
  readonly asked: Conversation;
  readonly turn: Turn;
}

export class Answers {
  readonly #board: Board;
  readonly #conversations: Conversations;
  #askAbort: AbortController | undefined;
  /** The right to answer is being asked for. */
  #beginning = false;

  constructor(board: Board, conversations: Conversations) {
    this.#board = board;
    this.#conversations = conversations;
  }

  /** @returns false when it was not taken: it is still to be said */
  async send(text: string): Promise<boolean> {
    if (text.trim() === "") return false;
    return this.#begin((current) => this.#say(current, inSight(current).at(-1)?.id ?? null, text));
  }

  stop(): void {
    this.#askAbort?.abort();
  }

  /** Another answer to what was said last; the one before stays as a version. */
  async retry(): Promise<void> {
    const { current, settings } = this.#board.state.get();
    const seen = inSight(current);
    const turn = seen.findLast(({ role }) => role === "user");
    if (turn === undefined) return;
    const before = seen[seen.indexOf(turn) + 1];
    if (!(await this.#begin((asked) => ({ asked, turn })))) return;
    const after = inSight(this.#board.state.get().current).at(-1);
    const same = after?.parent === turn.id && after.id !== before?.id && after.content === before?.content;
    if (settings.parameters.temperature === 0 && same)
      this.#board.tell({
        tone: "fact",
        title: "The same answer again",
        text: "At temperature 0 the most likely token is always taken. A higher temperature, under Parameters, gives other answers.",
        ways: [],
        passing: true,
      });
  }

  /** Say a turn differently: the conversation goes on from there, and stays as it was beside it. As it was before: another answer to it.
   *  @returns false when it was not taken: it is still to be said */
  async edit(turn: Turn, text: string): Promise<boolean> {
    if (text.trim() === "") return false;
    return this.#begin((asked) =>
      text.trim() === turn.content ? { asked, turn } : this.#say(asked, turn.parent, text),
    );
  }

  #say(current: Conversation, parent: string | null, text: string): Question {
    const said = this.#board.around.now();
    const turn: Turn = { id: crypto.randomUUID(), parent, said, role: "user", content: text.trim() };
    return { asked: withTurn(current, turn), turn };
  }

  /** Answer in the conversation in sight, unless something stands in the way. @returns whether nothing did */
  async #begin(ask: (current: Conversation) => Question): Promise<boolean> {
    const { model, answering, current } = this.#board.state.get();
    if (answering !== null || this.#beginning) return false;
    if (model === null) {
      this.#board.tell({
        tone: "error",
        title: "No model is loaded",
        text: "What you wrote is kept. Choose a model, then send it again.",
        ways: ["choose-model", "demo-model"],
      });
      return false;
    }
    this.#beginning = true;
    const giveBack = await this.#board.around.turns.take(current.id);
    this.#beginning = false;
    if (giveBack === null) {
      this.#board.tell({
        tone: "fact",
        title: "Another tab is answering here",
        text: "Ask again when that answer has come. What you wrote is kept.",
        ways: [],
        passing: true,
      });
      return false;
    }
    try {
      const now = this.#board.state.get().current;
      // Another conversation may have come into sight meanwhile.
      if (now.id !== current.id) return false;
      await this.#answer(ask(now), model.context);
      return true;
    } finally {
      giveBack();
    }
  }

  async #answer({ asked, turn: question }: Question, context: number): Promise<void> {
    const { settings } = this.#board.state.get();
    const abort = new AbortController();
    this.#askAbort = abort;
    const id = crypto.randomUUID();
    let text = "";
    let tokens = 0;
    let firstAt = 0;
    let drawn = true;
    const mine = () => this.#askAbort === abort;
    const now = (speed: number | null) => ({ id, to: question.id, text, tokens, speed });
    const show = () => {
      drawn = true;
      if (!mine()) return;
      const seconds = (this.#board.around.now() - firstAt) / 1000;
      this.#board.state.set({ answering: now(tokens > 4 && seconds > 0.2 ? tokens / seconds : null) });
    };
    this.#board.pass();
    this.#board.state.set({ current: asked, answering: now(null), announcement: "Answering." });
    // Also where nothing new was said: other tabs learn that an answer is on its way.
    void this.#conversations.keep(asked);
    let facts: AnswerFacts | undefined;
    let failure: unknown;
    try {
      const messages = messagesOf(asked.system, pathTo(asked.turns, question.id));
      facts = await this.#board.around.engine.ask(messages, answerOptions(settings.parameters), {
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
    const { current, conversations } = this.#board.state.get();
    // As it is by now: it may have been renamed meanwhile, or be gone.
    const latest = current.id === asked.id ? current : conversations.find(({ id }) => id === asked.id);
    const ended: Partial<State> = mine() ? { answering: null } : {};
    if (mine()) this.#askAbort = undefined;
    let kept: Promise<void> | undefined;
    if (latest !== undefined && !nothing) {
      const said = this.#board.around.now();
      const answered = withTurn(latest, { id, parent: question.id, said, role: "assistant", content: text, facts });
      // Both at once: the page is never drawn without the one or with both.
      this.#board.state.set(current.id === asked.id ? { ...ended, current: answered } : ended);
      kept = this.#conversations.keep(answered);
    } else this.#board.state.set(ended);
    if (failure !== undefined && !stopped) this.#board.tell(explain(failure, "answering"));
    else if (stopped || facts?.stopReason === "abort") this.#board.announce("Stopped.");
    else this.#board.announce(`Doge answered: ${text}`);
    if (facts !== undefined && facts.truncated > 0)
      this.#board.tell({
        tone: "fact",
        title: "The beginning is out of sight",
        text: `The conversation is longer than the model's ${context} tokens: the model no longer sees how it began.`,
        ways: [],
        passing: true,
      });
    // Only then may another tab go on.
    await kept;
  }

  /** The inside of an answer. Errors: EngineError. */
  look(facts: AnswerFacts, signal: AbortSignal): Promise<Look> {
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
    const { id, to, text } = answering;
    const said = this.#board.around.now();
    const unfinished: Turn = { id, parent: to, said, role: "assistant", content: text };
    await this.#board.around.store.put(withTurn(current, unfinished)).catch(() => {});
  }
}
