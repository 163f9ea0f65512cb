// What a generation gives its caller: pieces to read as they come, and a result at the end, in any order or only one of them.
import type { Tokens } from "../backend.ts";
import { nextTask } from "../task.ts";

export interface Piece {
  /** Empty when there is no tokenizer, or while characters or stop strings are undecided. */
  readonly text: string;
  readonly ids: Tokens;
}
/** "eos": a stop id came; "stop": a stop string; "length": maxNewTokens or the context is reached; "abort": the signal fired, or
 *  the reader left; "exhausted": no id was allowed to follow. */
export type StopReason = "eos" | "stop" | "length" | "abort" | "exhausted";

export interface Timings {
  /** Opening and loading the model, where that was measured. */
  readonly loadMs?: number;
  /** Tokens that were evaluated before the first new one; those of a reused prefix are not among them. */
  readonly prefillTokens: number;
  /** Until the first new token was there. */
  readonly prefillMs: number;
  /** New tokens without the first, which the prefill yields. */
  readonly decodeTokens: number;
  readonly decodeMs: number;
}
export interface TokenLogprob {
  readonly id: number;
  /** ln p before penalty, temperature and filters. */
  readonly logprob: number;
  /** The most likely ids at its place, with ln p, most likely first. */
  readonly top: readonly (readonly [number, number])[];
}
export interface GenerationResult {
  /** null when the model has no tokenizer. With echo the prompt comes first, here and in ids and logprobs. */
  readonly text: string | null;
  /** Those given out, the stop id that ended it included. */
  readonly ids: Tokens;
  readonly promptIds: Tokens;
  readonly stopReason: StopReason;
  /** The seed the draws were made with: the same one gives the same text again. */
  readonly seed: number;
  /** "host": the logits came back at every token, for options that the device's draw does not have. */
  readonly drawnOn: "device" | "host";
  readonly timings: Timings;
  /** Tokens of the input that were left out because it was too long, where that was asked for. */
  readonly truncated?: number;
  readonly logprobs?: readonly TokenLogprob[];
}

/** Runs as it is read. Leaving the loop early ends it, unless the result was asked for: then it runs to its end. */
export class Generation implements AsyncIterable<Piece> {
  readonly #run: AsyncGenerator<Piece, void, undefined>;
  /** Complete once the run has ended. */
  readonly #filled: () => GenerationResult;
  readonly #pieces: Piece[] = [];
  #ended: { readonly error: unknown } | undefined;
  #advancing: Promise<void> | undefined;
  #result: Promise<GenerationResult> | undefined;
  #running: Promise<void> | undefined;

  constructor(run: AsyncGenerator<Piece, void, undefined>, filled: () => GenerationResult) {
    this.#run = run;
    this.#filled = filled;
  }

  /** Reading again, or late, begins with the first piece. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, undefined> {
    let next = 0;
    try {
      for (;;) {
        if (next < this.#pieces.length) yield this.#pieces[next++]!;
        else if (this.#ended !== undefined) {
          if (this.#ended.error !== undefined) throw this.#ended.error;
          return;
        } else await this.#advance();
      }
    } finally {
      if (this.#ended === undefined && this.#result === undefined) {
        await this.#run.return();
        this.#ended ??= { error: undefined };
      }
    }
  }

  /** The whole, once it is there. Rejects with what the generation failed of. */
  result(): Promise<GenerationResult> {
    this.#result ??= this.#finish();
    return this.#result;
  }

  /** Go on without the reader, who finds the pieces later: somebody waits for the end. One who reads still comes first, and
   *  leaving still ends it. */
  runOn(): void {
    this.#running ??= this.#runOn();
  }

  async #runOn(): Promise<void> {
    while (this.#ended === undefined) {
      await this.#advance();
      await nextTask();
    }
  }

  async #finish(): Promise<GenerationResult> {
    while (this.#ended === undefined) await this.#advance();
    if (this.#ended.error !== undefined) throw this.#ended.error;
    return this.#filled();
  }

  /** One more piece, or the end; asked for by several at once, it comes once. */
  #advance(): Promise<void> {
    this.#advancing ??= this.#step().finally(() => {
      this.#advancing = undefined;
    });
    return this.#advancing;
  }

  async #step(): Promise<void> {
    try {
      const { done, value } = await this.#run.next();
      if (done) this.#ended = { error: undefined };
      else this.#pieces.push(value);
    } catch (error) {
      this.#ended = { error };
    }
  }
}
