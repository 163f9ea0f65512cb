// Ids of a generation's chunks to the text that may be shown of them: whole characters, and nothing of a stop string.
import type { Tokens } from "../backend.ts";
import type { StopStrings } from "../text/stop.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Piece } from "./generation.ts";

interface PieceTextParts {
  readonly tokenizer: Tokenizer | null;
  readonly skipSpecialTokens: boolean;
  readonly stopStrings: StopStrings;
  readonly promptIds: Tokens;
  /** `stop`: ids that end the text by themselves. */
  readonly sampling: { readonly stop: readonly number[] };
}

export class PieceText {
  readonly #stream;
  readonly #size: number;
  readonly #stops: StopStrings;
  /** What special tokens that are not shown read: a stop string may be such a token. */
  readonly #hidden = new Map<number, string>();

  constructor({ tokenizer, skipSpecialTokens, stopStrings, promptIds, sampling }: PieceTextParts) {
    this.#stream = tokenizer?.stream({ skipSpecial: skipSpecialTokens });
    this.#size = tokenizer?.size ?? 0;
    this.#stops = stopStrings;
    if (tokenizer === null || stopStrings.none) return;
    // Four bytes make a character, and a token has at least one.
    const tail = promptIds.slice(-4 * (stopStrings.reach + 1)).filter((id) => id < tokenizer.size);
    stopStrings.begin(tokenizer.decode([...tail], { skipSpecial: false }));
    if (!skipSpecialTokens) return;
    for (const [content, id] of tokenizer.special) {
      if (!sampling.stop.includes(id) && tokenizer.decode([id]) === "") this.#hidden.set(id, content);
    }
  }

  get stopped(): boolean {
    return this.#stops.met;
  }

  /** The prompt: no stop string ends in it. */
  prompt(ids: Tokens): string {
    return this.#decode(ids);
  }

  /** The chunk up to the id that completes a stop string, if one does. */
  push(ids: Tokens): Piece {
    if (this.#stops.none) return { text: this.#decode(ids), ids };
    let text = "";
    for (let index = 0; index < ids.length; index++) {
      const hidden = this.#hidden.get(ids[index]!);
      text += this.#stops.push(hidden ?? this.#decode(ids.subarray(index, index + 1)), hidden !== undefined);
      if (this.#stops.met) return { text, ids: ids.slice(0, index + 1) };
    }
    return { text, ids };
  }

  /** What was held back: an unfinished character, the beginning of a stop string. */
  end(): string {
    if (this.#stops.met) return "";
    const rest = this.#stops.push(this.#stream?.end() ?? "");
    return rest + this.#stops.end();
  }

  /** A model's vocabulary may be padded beyond the tokenizer's: such ids have no text. */
  #decode(ids: Tokens): string {
    return this.#stream?.push(ids.filter((id) => id < this.#size)) ?? "";
  }
}
