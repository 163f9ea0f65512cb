// Keeps untrusted text from taking part in control strings while a chat template is rendered.
//
// A control string in the rendered text counts only when the template printed it. So no character of an untrusted
// string that could begin or end one may reach the output as itself: each becomes one private-use character that stands
// nowhere in the inputs (it cannot be forged, being chosen after them), and goes back to itself once the text has been
// cut at the control strings. One character stays one character and none is white space, so trim, length, slices, case
// and JSON come out as with the original.
import { DogeError } from "../errors.ts";

const FIRST_PRIVATE = 0xe000;
const PRIVATE_COUNT = 0x1900; // U+E000 .. U+F8FF
const MAX_DEPTH = 64;

export interface Shield {
  /** A copy of JSON-like data with every string shielded, keys too; entries that are undefined are left out. */
  protect(value: unknown): unknown;
  /** The original text of a piece of the rendered one. */
  restore(text: string): string;
}

/** A shield for `inputs` (all untrusted data) in `template` against `controls`; without controls it only keeps spaces right. */
export function shield(inputs: unknown, template: string, controls: readonly string[]): Shield {
  const free = unusedPrivate(inputs, template);
  const standIns = new Map<string, string>();
  const originals = new Map<string, string>();
  const standIn = (character: string): string => {
    let other = standIns.get(character);
    if (other === undefined) {
      standIns.set(character, (other = free()));
      originals.set(other, character);
    }
    return other;
  };

  const edges = new Set<string>();
  for (const control of controls) {
    edges.add(String.fromCodePoint(control.codePointAt(0)!));
    edges.add([...control].at(-1)!);
  }
  // The template engine trims as JavaScript does, which takes U+FEFF for a space; Python, which templates are written
  // for, does not.
  edges.add("\ufeff");
  const edge = new RegExp(`[${[...edges].map((c) => `\\u{${c.codePointAt(0)!.toString(16)}}`).join("")}]`, "gu");
  const longest = controls.reduce((most, control) => Math.max(most, control.length), 0);

  const key = (text: string): string => text.toWellFormed().replace(edge, standIn);
  const string = (text: string, name: string): string => {
    const shielded = key(text);
    // The middle of a control string, should the template print the two ends around it. Not for `type`, whose few
    // words ("text", "function") templates compare.
    const core = text.trim();
    if (name === "type" || core === "" || core.length > longest) return shielded;
    if (shielded !== text.toWellFormed() || !controls.some((control) => control.includes(core))) return shielded;
    const first = String.fromCodePoint(core.codePointAt(0)!);
    return shielded.replace(first, standIn(first));
  };
  const protect = (value: unknown, name: string): unknown => {
    if (typeof value === "string") return string(value, name);
    if (Array.isArray(value)) return value.map((item) => protect(item, name));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, item]) => item !== undefined)
        .map(([entry, item]) => [key(entry), protect(item, entry)]),
    );
  };

  return {
    protect: (value) => protect(value, ""),
    restore(text) {
      if (originals.size === 0) return text;
      // A template may print JSON in ASCII: the stand-in is then written as an escape.
      const escapes = [...originals.keys()].map((other) => other.charCodeAt(0).toString(16)).join("|");
      const written = new RegExp(`[${[...originals.keys()].join("")}]|\\\\u(?:${escapes})`, "g");
      return text.replace(written, (found) => {
        if (found.length === 1) return originals.get(found)!;
        const original = originals.get(String.fromCharCode(Number.parseInt(found.slice(2), 16)))!;
        return original >= "\x7f" ? `\\u${original.charCodeAt(0).toString(16).padStart(4, "0")}` : original;
      });
    },
  };
}

/** Hands out private-use characters that occur in no input, neither as themselves nor as a JSON escape. */
function unusedPrivate(inputs: unknown, template: string): () => string {
  const used = new Set<number>();
  const note = (text: string): void => {
    for (const [found] of text.matchAll(/[\ue000-\uf8ff]|\\u[ef][0-9a-f]{3}/gi)) {
      used.add(found.length === 1 ? found.charCodeAt(0) : Number.parseInt(found.slice(2), 16));
    }
  };
  const walk = (value: unknown, above: readonly object[]): void => {
    if (typeof value === "string") note(value);
    else if (typeof value === "object" && value !== null) {
      if (above.length >= MAX_DEPTH || above.includes(value)) {
        throw new DogeError(
          "invalid-messages",
          `Messages or variables contain themselves or are nested more than ${MAX_DEPTH} deep.`,
        );
      }
      const path = [...above, value];
      for (const [entry, item] of Object.entries(value)) {
        note(entry);
        walk(item, path);
      }
    } else if (typeof value === "function" || typeof value === "symbol" || typeof value === "bigint") {
      throw new DogeError(
        "invalid-messages",
        `A ${typeof value} in messages or variables: they hold JSON-like data alone.`,
      );
    }
  };
  note(template);
  walk(inputs, []);
  let next = 0;
  return () => {
    while (used.has(FIRST_PRIVATE + next)) next++;
    if (next >= PRIVATE_COUNT) {
      throw new DogeError(
        "invalid-messages",
        "The messages use all private-use characters, so none is left to protect them.",
      );
    }
    return String.fromCharCode(FIRST_PRIVATE + next++);
  };
}
