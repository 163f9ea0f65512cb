// Which ids would make n ids in a row come a second time: an index of a growing text's n-grams.

export class Ngrams {
  readonly #size: number;
  /** The first n - 1 ids of an n-gram to those that have followed them. */
  readonly #followers = new Map<string, Set<number>>();
  /** The last n - 1 ids. */
  readonly #last: number[] = [];

  /** `size` is 1 or more; 1 bans every id that has come. */
  constructor(size: number) {
    this.#size = size;
  }

  push(id: number): void {
    if (this.#last.length === this.#size - 1) {
      const key = this.#last.join(" ");
      const followers = this.#followers.get(key);
      if (followers === undefined) this.#followers.set(key, new Set([id]));
      else followers.add(id);
    }
    this.#last.push(id);
    if (this.#last.length > this.#size - 1) this.#last.shift();
  }

  /** Ids that would complete an n-gram again. */
  banned(): Iterable<number> {
    return this.#followers.get(this.#last.join(" ")) ?? [];
  }
}
