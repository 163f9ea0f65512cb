// What one run of a chat template may cost. A template is a program from somewhere else, and the engine that runs it has no
// limits of its own.
//
// There is no worker to be killed from outside: the interpreter is ours to stop, in the thread it runs in, because
//   - it calls itself for every node of the program, so each step passes by here and is counted;
//   - each step costs by the size of its value, and no value grows beyond the limits, so one step takes milliseconds at most;
//   - what could grow or take long within a single step (join, replace, sort, printing nested lists) is measured before.
// So the worst template ends after about MAX_MILLISECONDS, in a browser's main thread too.
import { DogeError } from "./errors.ts";

/** Characters that a template, a string in it or a list in it printed may have: a prompt of that size is beyond every context. */
const MAX_TEXT = 2 * 1024 * 1024;
/** Characters of a template itself: reading it takes time as well. The Doge template has 2,500. */
const MAX_TEMPLATE = 48 * 1024;
/** The engine's search for {% generation %} tags takes the square of it. */
const MAX_SPACES = 256;
/** Steps in all; a conversation of fifty turns takes some thousands. */
const MAX_STEPS = 500_000;
/** Levels of nodes within nodes, those of called macros included. Far below what the stack holds. */
const MAX_DEPTH = 400;
const MAX_ITEMS = 100_000;
const MAX_MILLISECONDS = 250;
/** Below so many steps the clock does not count: what is slow then is the machine, not the template. */
const ALWAYS_ALLOWED = 8192;
const STEPS_PER_LOOK = 1024;

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
  readonly #start = performance.now();
  #steps = 0;
  #looked = 0;
  #depth = 0;

  /** `count` steps are about to be taken. */
  spend(count: number): void {
    this.#steps += count;
    if (this.#steps > MAX_STEPS) throw limit(`takes more than ${MAX_STEPS} steps`);
    if (this.#steps - this.#looked < STEPS_PER_LOOK) return;
    this.#looked = this.#steps;
    if (this.#steps > ALWAYS_ALLOWED && performance.now() - this.#start > MAX_MILLISECONDS) {
      throw limit(`takes longer than ${MAX_MILLISECONDS} ms`);
    }
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

  /** A value came out of a step: whatever is done with it next may go through all of it. */
  charge({ value }: Value): void {
    if (typeof value === "string") {
      checkLength(value.length);
      this.spend(value.length >> 10);
    } else if (Array.isArray(value)) {
      if (value.length > MAX_ITEMS)
        throw limit(`makes a list of ${value.length} items; at most ${MAX_ITEMS} are allowed`);
      this.spend(value.length >> 8);
    }
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
