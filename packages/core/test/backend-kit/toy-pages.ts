// A device for keys that does with pages what kernels do, in the plainest way: a slot holds a position, an id and who evicted it.
import type { PageShape, PageStore, Task } from "../../src/backend-kit/index.ts";

interface Slot {
  readonly position: number;
  readonly id: number;
  evictedBy: number | null;
}

/** What the mask gives a key: few values, so that ties are ordinary. */
const biasOf = (id: number): number => id % 5;

export class ToyPages implements PageStore {
  readonly shape: PageShape;
  /** Whether sequences share a page: such a page must not be written. */
  isShared: (page: number) => boolean = () => false;
  readonly #slots = new Map<number, (Slot | null)[]>();
  /** Pages cleared, copied and truncated so far. */
  readonly done = { cleared: 0, copied: 0, truncated: 0 };

  constructor(shape: PageShape) {
    this.shape = shape;
  }

  clear(page: number): void {
    this.done.cleared++;
    this.#slots.set(page, new Array(this.shape.slots).fill(null));
  }

  copy(from: number, to: number): void {
    this.done.copied++;
    this.#slots.set(
      to,
      this.#slots.get(from)!.map((slot) => slot && { ...slot }),
    );
  }

  truncate(pages: readonly number[], slots: number, length: number): void {
    this.done.truncated += pages.length;
    for (let index = 0; index < Math.min(slots, pages.length * this.shape.slots); index++) {
      const slot = this.#at(pages, index);
      if (slot === null) continue;
      if (slot.position >= length) this.#put(pages, index, null);
      else if (slot.evictedBy !== null && slot.evictedBy >= length) slot.evictedBy = null;
    }
  }

  /** Keep the keys of what is pending in a task. */
  keep({ sequence: { cache, timeline } }: Task, upTo = timeline.length): void {
    for (let position = timeline.evaluated; position < upTo; position++) {
      this.#keep(cache.pages, cache.reach, position, timeline.ids[position]!);
    }
  }

  /** Positions and ids of the keys that the next token would see of these pages, by position. */
  seen(pages: readonly number[], length: number): [number, number][] {
    const seen: [number, number][] = [];
    for (let index = 0; index < pages.length * this.shape.slots; index++) {
      const slot = this.#at(pages, index);
      if (slot !== null && slot.position < length && slot.evictedBy === null) seen.push([slot.position, slot.id]);
    }
    return seen.sort(([one], [other]) => one - other);
  }

  #keep(pages: readonly number[], reach: number, position: number, id: number): void {
    const { window, journal } = this.shape;
    if (window === null) {
      this.#put(pages, position, { position, id, evictedBy: null });
      return;
    }
    const used = Math.min(window + journal, Math.max(reach, position + 1));
    let at = position < window + journal && this.#at(pages, position) === null ? position : -1;
    for (let index = 0; at < 0 && index < used; index++) {
      const slot = this.#at(pages, index);
      if (slot === null || (slot.evictedBy !== null && slot.evictedBy + journal <= position)) at = index;
    }
    this.#put(pages, at, { position, id, evictedBy: null });
    const kept = Array.from({ length: used }, (_, index) => this.#at(pages, index)).filter((slot) => slot !== null);
    const seen = kept.filter((slot) => slot.evictedBy === null);
    if (seen.length > window) leastOf(seen).evictedBy = position;
  }

  #at(pages: readonly number[], index: number): Slot | null {
    return this.#slots.get(pages[Math.floor(index / this.shape.slots)]!)![index % this.shape.slots]!;
  }

  #put(pages: readonly number[], index: number, slot: Slot | null): void {
    const page = pages[Math.floor(index / this.shape.slots)]!;
    if (this.isShared(page)) throw new Error(`Page ${page} is written while it is shared.`);
    this.#slots.get(page)![index % this.shape.slots] = slot;
  }
}

/** Least in (bias, position) order. */
const leastOf = (slots: readonly Slot[]): Slot =>
  slots.reduce((least, slot) => {
    const difference = biasOf(slot.id) - biasOf(least.id);
    return difference < 0 || (difference === 0 && slot.position < least.position) ? slot : least;
  });

/** The definition: of the ids, the `window` greatest in (bias, position) order, by position. */
export function keptOf(ids: readonly number[], window: number | null): [number, number][] {
  const all = ids.map((id, position): [number, number] => [position, id]);
  if (window === null) return all;
  return all
    .sort(([one, a], [other, b]) => biasOf(b) - biasOf(a) || other - one)
    .slice(0, window)
    .sort(([one], [other]) => one - other);
}
