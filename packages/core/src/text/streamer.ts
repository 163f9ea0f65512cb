// Text for a terminal as it comes, in whole words: what transformers' TextStreamer prints, for a generation's pieces.
import type { Tokenizer } from "./tokenizer.ts";

/** What generate()'s option `streamer` takes: it is given the prompt's ids, then those of each piece, and told the end. */
export interface Streamer {
  put(ids: ArrayLike<number>): void;
  end(): void;
}

export interface StreamerOptions {
  /** Do not print the prompt, which is the first thing put in. Default false. */
  readonly skipPrompt?: boolean | undefined;
  /** Leave special tokens out. Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
}

/** Characters that stand for words of their own: CJK ideographs with their extensions and compatibility forms. */
const ideograph =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{2f800}-\u{2fa1f}]$/u;

/** Receives the prompt's ids, then each piece's; passes on everything up to a line's end, an ideograph or the last space, and
 *  the rest when it is ended. */
export class TextStreamer implements Streamer {
  readonly #tokenizer: Tokenizer;
  readonly #print: (text: string, end: boolean) => void;
  readonly #skipSpecial: boolean;
  readonly #skipPrompt: boolean;
  #skipNext: boolean;
  #stream;
  #waiting = "";
  /** The last four ids. */
  #last: number[] = [];

  constructor(tokenizer: Tokenizer, print: (text: string, end: boolean) => void, options: StreamerOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#print = print;
    this.#skipSpecial = options.skipSpecialTokens ?? true;
    this.#skipPrompt = options.skipPrompt ?? false;
    this.#skipNext = this.#skipPrompt;
    this.#stream = tokenizer.stream({ skipSpecial: this.#skipSpecial });
  }

  put(ids: ArrayLike<number>): void {
    if (this.#skipNext) {
      this.#skipNext = false;
      return;
    }
    this.#waiting += this.#stream.push(Array.from(ids).filter((id) => id < this.#tokenizer.size));
    const whole = !this.#unfinished(ids) && (this.#waiting.endsWith("\n") || ideograph.test(this.#waiting));
    const end = whole ? this.#waiting.length : this.#waiting.lastIndexOf(" ") + 1;
    if (end === 0) return;
    const text = this.#waiting.slice(0, end);
    this.#waiting = this.#waiting.slice(end);
    this.#print(text, false);
  }

  /** Whether the text so far ends within a character, as one spread over tokens does. */
  #unfinished(ids: ArrayLike<number>): boolean {
    // A character has at most four bytes, and a token at least one.
    this.#last = [...this.#last, ...Array.from(ids)].slice(-4);
    return this.#tokenizer.decode(this.#last.filter((id) => id < this.#tokenizer.size)).endsWith("\ufffd");
  }

  /** Prints what waits, and is ready for the next prompt and its answer. */
  end(): void {
    this.#skipNext = this.#skipPrompt;
    this.#last = [];
    const rest = this.#waiting + this.#stream.end();
    this.#waiting = "";
    this.#stream = this.#tokenizer.stream({ skipSpecial: this.#skipSpecial });
    this.#print(rest, true);
  }
}
