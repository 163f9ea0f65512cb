// What was typed and not sent, kept in the browser: one text for each conversation, one for all that have not begun, and one for each
// message that is being edited.

export interface Drafts {
  load(key: string): string;
  /** An empty text is no draft. */
  save(key: string, text: string): void;
}

const PREFIX = "doge-draft-";

type Place = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/** `places`: the tab's own storage ahead of that of all tabs, which outlives it. */
export function keptDrafts(places: readonly (() => Place)[]): Drafts {
  // A browser that keeps nothing, or has no room, still knows it until the page is closed.
  const here = new Map<string, string>();
  const each = (work: (place: Place) => void) => {
    for (const place of places) {
      try {
        work(place());
      } catch {
        // See above.
      }
    }
  };
  const drafts: Drafts = {
    load: (key) => {
      let text = here.get(key) ?? null;
      each((place) => {
        text ??= place.getItem(PREFIX + key);
      });
      return text ?? "";
    },
    save: (key, text) => {
      const before = drafts.load(key);
      here.set(key, text);
      each((place) => {
        if (text !== "") place.setItem(PREFIX + key, text);
        // What another tab has written meanwhile is none of this one's.
        else if (place.getItem(PREFIX + key) === before) place.removeItem(PREFIX + key);
      });
    },
  };
  return drafts;
}
