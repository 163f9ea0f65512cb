// A loaded model with its text: what load() gives. It turns text and messages into ids, settles the options, and lets
// generations take place side by side; sessions are conversations on it.
// `await using` in the types of programs whose own library is older.
/// <reference lib="esnext.disposable" preserve="true" />
import type { Backend, DType, Floats, Model, Routing, Tokens } from "../backend.ts";
import { faultsOf, type Tried } from "../choosing/tried.ts";
import type { Config } from "../config.ts";
import type { Fallback } from "../contract/recovery.ts";
import { DogeError } from "../errors.ts";
import type { GenerationDefaults } from "../loading/generation-config.ts";
import { show } from "../show.ts";
import { encodeChat, type Message } from "../text/chat.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { fitting, generateAt } from "./generate.ts";
import type { Generation, GenerationResult } from "./generation.ts";
import { type GenerateOptions, resolveOptions } from "./options.ts";
import { type Fitted, fitIds, fitMessages, overflow } from "./overflow.ts";
import { Places } from "./places.ts";
import { Scheduler } from "./scheduler.ts";
import { type SavedSession, Session, type SessionOptions } from "./session.ts";

/** Text that is completed as it stands, a conversation for the chat template, or ids. */
export type Input = string | readonly Message[] | Tokens | readonly number[];

export interface DogeInfo {
  readonly source: string;
  readonly backend: string;
  readonly device: string;
  readonly dtype: DType;
  /** CPU threads that a call uses. */
  readonly threads: number;
  readonly routing: Routing;
  readonly context: number;
  readonly loadMs: number;
  /** Whole sentences a person should know: of the model's files, of backends that failed, and of what keeps this one from
   *  its best. */
  readonly warnings: readonly string[];
  /** Every backend that was given, with what became of it and why, as things stand now. */
  readonly tried: readonly Tried[];
  /** When a backend failed and was opened again, or another took over: each of these is a warning too. */
  readonly fallbacks: readonly Fallback[];
}

/** What a Doge is made of. */
export interface DogeParts {
  readonly backend: Backend;
  readonly model: Model;
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: string | null;
  readonly defaults: GenerationDefaults;
  /** What of it changes is read anew each time. */
  readonly info: Pick<DogeInfo, "source" | "loadMs" | "warnings" | "tried"> & Partial<Pick<DogeInfo, "fallbacks">>;
  /** Generations that run at once, at most. Default 16. */
  readonly rows?: number | undefined;
  /** Told how fast a text was decoded that had the model alone. */
  readonly observe?: ((tokensPerSecond: number) => Promise<void>) | undefined;
}

/** Tokens after which a speed is one. */
const enough = 32;

export interface Scored {
  /** The ids scored: of the continuation when one is given, else all. */
  readonly ids: Tokens;
  /** ln p of each given all before it; 0 for the first of all. */
  readonly logprobs: Floats;
  readonly sum: number;
  /** e ^ -mean of the ln p of ids with something before them; null when there is none. */
  readonly perplexity: number | null;
}

export class Doge {
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: string | null;
  readonly model: Model;
  readonly #parts: DogeParts;
  readonly #places: Places;
  readonly #scheduler: Scheduler;
  /** Generations that take place, and one more whenever one begins. */
  #active = 0;
  #begun = 0;
  /** What is being kept of speeds. */
  #observing: Promise<void> = Promise.resolve();

  constructor(parts: DogeParts) {
    this.#parts = parts;
    this.model = parts.model;
    this.tokenizer = parts.tokenizer;
    this.chatTemplate = parts.chatTemplate;
    this.#places = new Places(parts.model, parts.rows);
    this.#scheduler = new Scheduler(parts.model);
  }

  get config(): Config {
    return this.model.config;
  }

  info(): DogeInfo {
    const { backend, model, info } = this.#parts;
    const { dtype, routing, context } = model;
    const { device, threads = 1, warnings = [] } = backend.can;
    const own = { backend: backend.name, device, dtype, threads, routing, context };
    const fallbacks = [...(info.fallbacks ?? [])];
    const fallen = fallbacks.map(({ message }) => message);
    const all = [...info.warnings, ...faultsOf(info.tried), ...fallen, ...warnings];
    return { ...info, ...own, fallbacks, warnings: all };
  }

  /** Continue `input`. Nothing runs before it is read or its result is asked for. Generations of one Doge run side by side, as many
   *  as there are rows and room for, and share their calls of the model: each gets what it would get alone. The others wait in the
   *  order they were begun, and one that others wait for runs on when its reader does not come.
   *  Errors (at once) for options and input: "invalid-argument", "invalid-messages", "template-error", "template-missing",
   *  "tokenizer-missing", "invalid-token", "empty-prompt", "context-overflow"; (when read) those of Model.sample. */
  generate(input: Input, options: GenerateOptions = {}): Generation {
    return this.generateFor(this, input, options);
  }

  /** As generate(), for a conversation of its own: its past is kept beside those of others. `onDrop` is told at once how many of
   *  the messages behind the system message are left out. */
  generateFor(owner: object, input: Input, options: GenerateOptions, onDrop?: (messages: number) => void): Generation {
    const { sampling, processing, stopStrings, maxNewTokens } = resolveOptions(
      options,
      this.#parts.defaults,
      this.config,
    );
    const { ids, truncated, dropped = 0 } = this.#fit(input, options, maxNewTokens);
    if (dropped > 0) onDrop?.(dropped);
    const count = maxNewTokens(ids.length);
    const loop = {
      ...sampling,
      ...processing,
      maxNewTokens: count,
      stopStrings: this.tokenizer === null ? options.stop : stopStrings, // the file's need a tokenizer
      logprobs: options.logprobs,
      echo: options.echo,
      tokenizer: this.tokenizer,
      skipSpecialTokens: options.skipSpecialTokens,
      signal: options.signal,
      streamer: options.streamer,
    };
    let begun: number | undefined; // this one's number, when it began alone
    const onEnd = (result: GenerationResult) => {
      this.#active--;
      if (begun === this.#begun) this.#observe(result);
    };
    const more = { loadMs: this.#parts.info.loadMs, onEnd, ...(truncated > 0 ? { truncated } : {}) };
    const enter = async (runOn: () => void) => {
      const place = await this.#places.enter(owner, ids, count, options.signal, runOn);
      this.#begun++;
      if (this.#active++ === 0) begun = this.#begun;
      return place;
    };
    return generateAt(this.#scheduler, ids, loop, enter, more);
  }

  /** Tell how fast a text was decoded, if that was long enough to know. */
  #observe({ timings: { decodeTokens, decodeMs }, drawnOn }: GenerationResult): void {
    const { observe } = this.#parts;
    if (observe === undefined || drawnOn !== "device" || decodeTokens < enough || !(decodeMs > 0)) return;
    this.#observing = this.#observing.then(() => observe((1000 * decodeTokens) / decodeMs)).catch(() => {});
  }

  /** ln p of `input`, or of `continuation` behind it. Many at once share their calls of the model. Errors as those of generate(). */
  async score(input: Input, continuation?: string | Tokens | readonly number[], signal?: AbortSignal): Promise<Scored> {
    const before = this.encode(input);
    const behind =
      continuation === undefined
        ? new Int32Array(0)
        : typeof continuation === "string"
          ? this.#text().encode(continuation, { addSpecial: false })
          : this.#checkIds(continuation);
    const ids = Int32Array.from([...before, ...behind]);
    if (ids.length > this.model.context) throw overflow(ids.length, this.model.context);
    const place = await this.#places.scratch(ids.length, signal);
    try {
      const all = await fitting(place, () => this.#scheduler.score({ sequence: place.sequence, tokens: ids }, signal));
      const from = continuation === undefined ? 0 : before.length;
      const logprobs = all.slice(from);
      const sum = logprobs.reduce((a, b) => a + b, 0);
      const count = Math.min(logprobs.length, ids.length - 1);
      return { ids: ids.slice(from), logprobs, sum, perplexity: count > 0 ? Math.exp(-sum / count) : null };
    } finally {
      place.leave();
    }
  }

  /** The ids that stand for `input`. Errors as those of generate(). */
  encode(input: Input, options: GenerateOptions = {}): Tokens {
    if (typeof input === "string") {
      return this.#text().encode(input, { parseSpecial: options.allowSpecialTokens ?? true });
    }
    if (!Array.isArray(input) && !(input instanceof Int32Array)) {
      throw new DogeError("invalid-argument", `The input is ${show(input)}; it must be text, messages or ids.`);
    }
    if (input.length === 0) throw new DogeError("empty-prompt", "The input is an empty list: give messages or ids.");
    if (typeof input[0] === "number") return this.#checkIds(input as Tokens);
    return encodeChat(this.#text(), this.chatTemplate, input as readonly Message[], {
      addGenerationPrompt: options.addGenerationPrompt,
      variables: options.templateVariables,
      allowSpecialTokens: options.allowSpecialTokens,
    });
  }

  /** A new conversation; its options hold for every turn. */
  session(options: SessionOptions = {}): Session {
    return new Session(this, options);
  }

  /** A conversation that was saved. Errors: "invalid-argument" for what is none. */
  restore(saved: SavedSession, options: GenerateOptions = {}): Session {
    return Session.restore(this, saved, options);
  }

  /** Called by a session that is over. */
  forget(owner: object): Promise<void> {
    return this.#places.forget(owner);
  }

  /** What was asked for before finishes its chunk; everything later rejects with "closed". */
  async close(): Promise<void> {
    this.#scheduler.flush();
    await this.#parts.backend.close();
    await this.#observing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #text(): Tokenizer {
    if (this.tokenizer !== null) return this.tokenizer;
    throw new DogeError("tokenizer-missing", "The model has no tokenizer.json: give ids instead of text.");
  }

  #checkIds(ids: ArrayLike<number>): Tokens {
    const { vocabSize } = this.config;
    for (let index = 0; index < ids.length; index++) {
      const id = ids[index]!;
      if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
      throw new DogeError("invalid-token", `Token ${index}: id ${show(id)} is outside the vocabulary of ${vocabSize}.`);
    }
    return Int32Array.from(ids);
  }

  /** The ids of `input`, shortened where that is asked for and needed. */
  #fit(input: Input, options: GenerateOptions, newTokens: (length: number) => number): Fitted & { dropped?: number } {
    const limits = { overflow: options.overflow, context: this.model.context, newTokens };
    const encode = (part: Input): Tokens => this.encode(part, options);
    return isMessages(input) ? fitMessages(input, encode, limits) : fitIds(encode(input), this.config.bosId, limits);
  }
}

const isMessages = (input: Input): input is readonly Message[] =>
  Array.isArray(input) && input.length > 0 && typeof input[0] !== "number";
