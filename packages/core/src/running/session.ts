// A conversation: its messages, and an answer to each. The whole of it is handed over at every turn; what need not be evaluated
// again is the Doge's to find.

import type { Config } from "../config.ts";
import { DogeError } from "../errors.ts";
import { show } from "../show.ts";
import type { Message } from "../text/chat.ts";
import { Generation, type GenerationResult, type Piece } from "./generation.ts";
import { checkOptionNames, type GenerateOptions } from "./options.ts";

/** Who answers: a Doge. */
export interface Answerer {
  readonly config: Pick<Config, "vocabSize">;
  /** An answer to the whole conversation; `onDrop` is told at once how many messages behind the system message are left out. */
  generateFor(
    owner: object,
    input: readonly Message[],
    options: GenerateOptions,
    onDrop: (messages: number) => void,
  ): Generation;
  /** The conversation is over. */
  forget(owner: object): Promise<void>;
}

export interface SessionOptions extends GenerateOptions {
  /** The content of a system message at the beginning. */
  readonly system?: string | undefined;
}

/** Plain JSON. */
export interface SavedSession {
  readonly format: "doge-session";
  readonly version: 1;
  readonly messages: readonly Message[];
  /** Ids of the last prompt and its answer. */
  readonly ids: readonly number[];
}

export class Session {
  readonly #doge: Answerer;
  readonly #options: GenerateOptions;
  #messages: readonly Message[];
  #ids: readonly number[] = [];
  /** An answer is being written. */
  #writing = false;

  constructor(doge: Answerer, { system, ...options }: SessionOptions = {}) {
    checkOptionNames(options);
    this.#doge = doge;
    this.#options = options;
    this.#messages = system === undefined ? [] : [{ role: "system", content: system }];
  }

  static restore(doge: Answerer, saved: SavedSession, options: GenerateOptions): Session {
    const refuse = (what: string): never => {
      throw new DogeError("invalid-argument", `This is no saved session: ${what}.`);
    };
    if (typeof saved !== "object" || saved === null) refuse(`it is ${show(saved)}`);
    if (saved.format !== "doge-session" || saved.version !== 1) {
      refuse(`its format is ${show(saved.format)}, version ${show(saved.version)}; known is "doge-session", version 1`);
    }
    if (!Array.isArray(saved.messages)) refuse(`messages is ${show(saved.messages)}`);
    saved.messages.forEach((message: unknown, index) => {
      const { role, content = null } = (message ?? {}) as Partial<Message>; // as JSON, it may have lost an undefined one
      if (typeof role !== "string" || !(typeof content === "string" || content === null)) {
        refuse(`message ${index} has no role and content`);
      }
    });
    const { vocabSize } = doge.config;
    if (!Array.isArray(saved.ids) || !saved.ids.every((id) => Number.isInteger(id) && id >= 0 && id < vocabSize)) {
      refuse(`ids is not a list of ids below ${vocabSize}`);
    }
    const session = new Session(doge, options);
    session.#messages = structuredClone(saved.messages);
    session.#ids = [...saved.ids];
    return session;
  }

  /** All so far, the answers included; without what an overflow of "slide" has forgotten. */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Say something; what comes back is the answer. The turn stays once it has ended, also when it was aborted with a part of an
   *  answer; without one, or when it fails, it is as if it had not been. Errors as those of Doge.generate, and
   *  "invalid-argument" while the answer before is still being written. */
  send(message: string | Message, options: GenerateOptions = {}): Generation {
    if (this.#writing) throw busy();
    const said: Message = typeof message === "string" ? { role: "user", content: message } : message;
    const messages = [...this.#messages, said];
    const all = { ...this.#options, ...options };
    if (all.echo) {
      throw new DogeError(
        "invalid-argument",
        "echo is for generate: in a conversation the prompt is no part of answers.",
      );
    }
    let past = messages;
    const inner = this.#doge.generateFor(this, messages, all, (dropped) => {
      if (all.overflow !== "slide") return;
      const first = messages[0]!.role === "system" ? 1 : 0;
      past = messages.toSpliced(first, dropped);
    });
    const filled: { result: GenerationResult | undefined } = { result: undefined };
    const keep = async (): Promise<void> => {
      const result = await inner.result();
      filled.result = result;
      if (result.stopReason === "abort" && result.ids.length === 0) return;
      this.#messages = [...past, { role: "assistant", content: result.text ?? "" }];
      this.#ids = [...result.promptIds, ...result.ids];
    };
    const begin = () => {
      if (this.#writing) throw busy();
      this.#writing = true;
    };
    const end = () => {
      this.#writing = false;
    };
    async function* run(): AsyncGenerator<Piece, void, undefined> {
      begin();
      try {
        yield* inner;
      } finally {
        // Left early, it has an ending too; a failure has been told by the pieces.
        await keep().catch(() => {});
        end();
      }
    }
    return new Generation(run(), () => filled.result!);
  }

  /** Take back the last `turns` things said, with their answers; all when there are fewer. A system message stays. */
  rewind(turns: number): void {
    if (this.#writing) throw busy();
    if (!Number.isInteger(turns) || turns < 0) {
      throw new DogeError("invalid-argument", `turns is ${show(turns)}; it must be a whole number, 0 or more.`);
    }
    let left = turns;
    let end = this.#messages.length;
    while (left > 0 && end > 0) {
      end--;
      if (this.#messages[end]!.role === "user") left--;
    }
    if (left > 0) end = this.#messages[0]?.role === "system" ? 1 : 0;
    this.#messages = this.#messages.slice(0, Math.max(end, this.#messages[0]?.role === "system" ? 1 : 0));
    if (turns > 0) this.#ids = [];
  }

  /** A second conversation with the same past. */
  clone(): Session {
    return Session.restore(this.#doge, this.save(), this.#options);
  }

  save(): SavedSession {
    return { format: "doge-session", version: 1, messages: structuredClone(this.#messages), ids: [...this.#ids] };
  }

  /** Give back what the model holds of this conversation. It can go on all the same. */
  close(): Promise<void> {
    return this.#doge.forget(this);
  }
}

const busy = (): DogeError =>
  new DogeError(
    "invalid-argument",
    "The answer before is still being written: read it to its end, leave its loop or abort it first.",
  );
