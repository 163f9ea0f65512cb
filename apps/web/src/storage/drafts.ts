// What was typed and not sent, kept in the browser: one text for each conversation, one for all that have not begun, and one for each
// message that is being edited.

export interface Drafts {
  load(key: string): string;
  /** An empty text is no draft. */
  save(key: string, text: string): void;
}

const PREFIX = "doge-draft-";

export function keptDrafts(storage: () => Pick<Storage, "getItem" | "setItem" | "removeItem">): Drafts {
  // A browser that keeps nothing, or has no room, still knows it until the page is closed.
  const here = new Map<string, string>();
  return {
    load: (key) => {
      const own = here.get(key);
      if (own !== undefined) return own;
      try {
        return storage().getItem(PREFIX + key) ?? "";
      } catch {
        return "";
      }
    },
    save: (key, text) => {
      here.set(key, text);
      try {
        if (text === "") storage().removeItem(PREFIX + key);
        else storage().setItem(PREFIX + key, text);
      } catch {
        // See above.
      }
    },
  };
}
