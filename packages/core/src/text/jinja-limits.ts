// What one run of a chat template may cost. A template is a program from somewhere else, and the engine that runs it has no
// limits of its own.
//
// There is no worker to be killed from outside: the interpreter is ours to stop, in the thread it runs in, because
//   - it calls itself for every node of the program, so each step passes by here and is counted;
//   - a value that a step makes costs steps by its size, and no value grows beyond the limits;
//   - what could grow or take long within a single step (join, replace, sort, printing nested lists) is measured before.
// Steps are worth about the same time each, half a microsecond at most, so the worst template ends after about a quarter of a
// second, in a browser's main thread too. No clock is read: on a slow or busy machine an honest template is as welcome as on
// any other, and a bad one ends at the same step.
import { DogeError } from "../errors.ts";

/** Characters that a template, a string in it or a list in it printed may have: a prompt of that size is beyond every context. */
const MAX_TEXT = 2 * 1024 * 1024;
/** Characters of a template itself: reading it takes time as well. The Doge template has 2,500. */
const MAX_TEMPLATE = 48 * 1024;
/** The engine's search for {% generation %} tags takes the square of it. */
const MAX_SPACES = 256;
/** Steps in all; a conversation of fifty turns takes eight thousand. */
const MAX_STEPS = 500_000;
/** Levels of nodes within nodes, those of called macros included. Far below what the stack holds. */
const MAX_DEPTH = 400;
const MAX_ITEMS = 100_000;
/** Characters of a text, and items of a list, whose making takes as long as a step. */
const CHARACTERS_PER_STEP = 64;
const ITEMS_PER_STEP = 16;
/** Using a value that is there already, by a search for instance, is so much faster than making it. */
const USE = 16;

/** A value of the engine. */
export type Value = { readonly type: string; readonly value: unknown; __bool__(): { value: boolean } };

/** Refuse templates whose mere reading takes long. Errors: "template-limit". */
export function checkTemplate(template: string): void {
  if (template.length > MAX_TEMPLATE) {
    throw limit(`has ${template.length} characters; at most ${MAX_TEMPLATE} are read`);
  }
  if (new RegExp(`\\s{${MAX_SPACES + 1}}`).test(template)) {
    throw limit(`has more than ${MAX_SPACES} white space characters in a row`);
  }
}

/** The budget of one run. All methods throw "template-limit" when it is used up. */
export class TemplateBudget {
  #steps = 0;
  #depth = 0;
  /** Long values that have been paid for. */
  readonly #made = new WeakSet<Value>();

  /** Steps taken so far. */
  get steps(): number {
    return this.#steps;
  }

  /** `count` steps are about to be taken. */
  spend(count: number): void {
    this.#steps += count;
    if (this.#steps > MAX_STEPS) throw limit(`takes more than ${MAX_STEPS} steps`);
  }

  /** Into a node; `leave` goes out of it. */
  enter(): void {
    if (++this.#depth > MAX_DEPTH) throw limit(`is nested, or calls itself, more than ${MAX_DEPTH} levels deep`);
    // A variable is looked for through all the scopes above.
    this.spend(1 + (this.#depth >> 4));
  }

  leave(): void {
    this.#depth--;
  }

  /** A value came out of a step, which may have made it; whatever is done with it next may go through all of it. */
  charge(result: Value): void {
    const { value } = result;
    const text = typeof value === "string";
    if (!text && !Array.isArray(value)) return;
    if (text) checkLength(value.length);
    else if (value.length > MAX_ITEMS) {
      throw limit(`makes a list of ${value.length} items; at most ${MAX_ITEMS} are allowed`);
    }
    const cost = Math.floor(value.length / (text ? CHARACTERS_PER_STEP : ITEMS_PER_STEP));
    if (cost === 0) return;
    const made = !this.#made.has(result);
    if (made) this.#made.add(result);
    this.spend(made ? cost : Math.floor(cost / USE));
  }

  /** Characters of `value` printed, about: a list may hold another one many times, and that one too. Throws above MAX_TEXT.
   *  `perItem` and `perLevel` are printed besides, for each item and for each level above it. */
  weigh(value: Value, perItem = 1, perLevel = 0): number {
    let total = 0;
    let items = 0;
    const walk = (value: Value, depth: number): void => {
      items++;
      total += perItem + depth * perLevel + (typeof value.value === "string" ? value.value.length : 0);
      checkLength(total);
      if (depth > MAX_DEPTH) throw limit(`prints data of more than ${MAX_DEPTH} levels`);
      if (Array.isArray(value.value)) for (const item of value.value) walk(item, depth + 1);
      else if (value.value instanceof Map) {
        for (const [key, item] of value.value) {
          total += String(key).length;
          walk(item, depth + 1);
        }
      }
    };
    walk(value, 0);
    this.spend(items >> 3);
    return total;
  }
}

/** Refuse a text of so many characters, before it is made. */
export function checkLength(length: number): void {
  if (length > MAX_TEXT) throw limit(`makes a text of more than ${MAX_TEXT} characters`);
}

/** How often `part` stands in `text`; an empty one stands around every character. */
export function occurrences(text: string, part: string): number {
  if (part === "") return text.length + 1;
  let count = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) count++;
  return count;
}

export const limit = (what: string): DogeError =>
  new DogeError(
    "template-limit",
    `The chat template ${what}, so it was stopped: chat templates of models need far less.`,
  );
