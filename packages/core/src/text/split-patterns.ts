// The regular expressions that cut text into words before merging. A tokenizer.json is a file from somewhere else and
// some patterns take exponential time, so only patterns known by heart are run, each in a form written for JavaScript.
import { letters as L, numbers as N, spaces as S } from "../unicode.ts";

/** GPT-2's pattern, also built into the ByteLevel pre-tokenizer (`use_regex`). */
export const gpt2Pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Llama-3's pattern, which the Doge tokenizers kept. */
export const llama3Pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** A pattern known by heart. */
export interface SplitPattern {
  readonly name: "llama3" | "gpt2";
  /** Global; matches every character of any well-formed text. */
  readonly expression: RegExp;
}

// `(?i:)` folds as Unicode does, so 's also takes U+017F (long s); no other letter of the contractions has such a
// relative. Inline flags themselves are too young for some engines.
const sources: ReadonlyMap<string, { readonly name: SplitPattern["name"]; readonly source: () => string }> = new Map([
  [
    gpt2Pattern,
    {
      name: "gpt2",
      source: () => `'s|'t|'re|'ve|'m|'ll|'d| ?[${L}]+| ?[${N}]+| ?[^${S}${L}${N}]+|[${S}]+(?![^${S}])|[${S}]+`,
    },
  ],
  [
    llama3Pattern,
    {
      name: "llama3",
      source: () =>
        `'(?:[sS\\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\\r\\n${L}${N}]?[${L}]+|[${N}]{1,3}` +
        `| ?[^${S}${L}${N}]+[\\r\\n]*|[${S}]*[\\r\\n]+|[${S}]+(?![^${S}])|[${S}]+`,
    },
  ],
]);

const compiled = new Map<string, SplitPattern>();

/** The known pattern, or null. */
export function splitPattern(pattern: string): SplitPattern | null {
  const known = sources.get(pattern);
  if (known === undefined) return null;
  let found = compiled.get(pattern);
  if (found === undefined) {
    compiled.set(pattern, (found = { name: known.name, expression: new RegExp(known.source(), "gu") }));
  }
  return found;
}
