// Finds special strings in a text: the leftmost, and of those the longest, as the Rust library does.

const patterns = new WeakMap<ReadonlyMap<string, number>, RegExp | null>();

/**
 * Cuts `text` at the strings of `special`. Entries with an even index are text (possibly empty), those with an odd
 * index are special strings.
 */
export function splitSpecial(text: string, special: ReadonlyMap<string, number>): string[] {
  let pattern = patterns.get(special);
  if (pattern === undefined) {
    const longestFirst = [...special.keys()].sort((a, b) => b.length - a.length);
    const source = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|");
    patterns.set(special, (pattern = source === "" ? null : new RegExp(`(${source})`)));
  }
  return pattern === null ? [text] : text.split(pattern);
}
