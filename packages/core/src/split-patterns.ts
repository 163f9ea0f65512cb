// The regular expressions that cut text into words before merging. A tokenizer.json is a file from somewhere else and
// some patterns take exponential time, so only patterns known by heart are run, each in a form written for JavaScript.
import { letters as L, numbers as N, spaces as S } from "./unicode.ts";

/** GPT-2's pattern, also built into the ByteLevel pre-tokenizer (`use_regex`). */
export const gpt2Pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Llama-3's pattern, which the Doge tokenizers kept. */
const llama3Pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// `(?i:)` folds as Unicode does, so 's also takes U+017F (long s); no other letter of the contractions has such a
// relative. Inline flags themselves are too young for some engines.
const sources: ReadonlyMap<string, () => string> = new Map([
  [gpt2Pattern, () => `'s|'t|'re|'ve|'m|'ll|'d| ?[${L}]+| ?[${N}]+| ?[^${S}${L}${N}]+|[${S}]+(?![^${S}])|[${S}]+`],
  [
    llama3Pattern,
    () =>
      `'(?:[sS\\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\\r\\n${L}${N}]?[${L}]+|[${N}]{1,3}` +
      `| ?[^${S}${L}${N}]+[\\r\\n]*|[${S}]*[\\r\\n]+|[${S}]+(?![^${S}])|[${S}]+`,
  ],
]);

const compiled = new Map<string, RegExp>();

/** The known pattern as a global RegExp that matches every character of any well-formed text, or null. */
export function splitPattern(pattern: string): RegExp | null {
  const source = sources.get(pattern);
  if (source === undefined) return null;
  let expression = compiled.get(pattern);
  if (expression === undefined) compiled.set(pattern, (expression = new RegExp(source(), "gu")));
  return expression;
}
