// Stop strings: text that ends a generation and is not part of it, also where it lies across tokens.
import { DogeError } from "../errors.ts";

/** More than these are a mistake: each is looked for after every token. */
const mostStops = 16;
const longestStop = 1024;

/** Passes text on as far as it cannot be the beginning of a stop string; holds the rest back until it is decided. */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = "";
  /** A letter for each of `#held`: "v" where it is shown, "h" where it is only looked at. */
  #marks = "";
  /** How much of `#held` is of the prompt: a stop string may begin there, and must end behind it. */
  #before = 0;
  /** A stop string was met: nothing more comes. */
  met = false;

  /** Errors: "invalid-argument" for more than 16, an empty or a very long one. */
  constructor(stops: readonly string[] | string = []) {
    this.#stops = typeof stops === "string" ? [stops] : stops;
    if (!Array.isArray(this.#stops))
      throw invalid(`stop is ${String(stops)}; it must be a string or a list of strings.`);
    if (this.#stops.length > mostStops) {
      throw invalid(`stop has ${this.#stops.length} strings; at most ${mostStops} are looked for.`);
    }
    for (const stop of this.#stops) {
      if (typeof stop === "string" && stop.length > 0 && stop.length <= longestStop) continue;
      const shown = typeof stop === "string" ? `a string of ${stop.length} characters` : String(stop);
      throw invalid(`stop has ${shown}; each must be a string of 1 to ${longestStop} characters.`);
    }
  }

  get none(): boolean {
    return this.#stops.length === 0;
  }

  /** Characters of a prompt's end that may matter. */
  get reach(): number {
    return Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
  }

  /** What the text goes on from: as in transformers, a stop string may begin in the prompt. Of that, nothing is shown here. */
  begin(prompt: string): void {
    this.#held = prompt.slice(prompt.length - this.#undecided(prompt));
    this.#marks = "h".repeat(this.#held.length);
    this.#before = this.#held.length;
  }

  /** More text came; what may be shown of all there is. Hidden text is looked at, and not shown: that of special tokens, which
   *  transformers' stop strings see too. */
  push(text: string, hidden = false): string {
    if (this.met) return "";
    const all = this.#held + text;
    const marks = this.#marks + (hidden ? "h" : "v").repeat(text.length);
    const at = this.#stops
      .map((stop) => all.indexOf(stop, this.#before - stop.length + 1))
      .filter((index) => index >= 0);
    this.met = at.length > 0;
    const end = this.met ? Math.min(...at) : all.length - this.#undecided(all);
    this.#before = Math.max(0, this.#before - end);
    this.#held = this.met ? "" : all.slice(end);
    this.#marks = this.met ? "" : marks.slice(end);
    return shownOf(all.slice(0, end), marks);
  }

  /** No more text comes: what was held back was no stop string. */
  end(): string {
    const rest = shownOf(this.#held, this.#marks);
    this.#held = "";
    this.#marks = "";
    return rest;
  }

  /** How much of the end of `text` may be the beginning of a stop string. */
  #undecided(text: string): number {
    return Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
  }
}

const shownOf = (text: string, marks: string): string =>
  marks.includes("h")
    ? Array.from({ length: text.length }, (_, at) => (marks[at] === "v" ? text[at] : "")).join("")
    : text;

/** Length of the longest end of `text` that `stop` begins with. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}

const invalid = (message: string): DogeError => new DogeError("invalid-argument", message);
