// How many tokens the sequences of a model hold together, pasts that forks share counted once.
//
// The sequences are the leaves of a tree of stretches: each stretch is a run of tokens that all below it have in common, and
// ends where the farthest of them leaves it.

/** The sum over all sequences of a model. */
export class Tally {
  used = 0;
}

class Stretch {
  before: Stretch | null;
  from: number;
  to: number;
  readonly after = new Set<Stretch>();

  constructor(before: Stretch | null, from: number) {
    this.before = before;
    this.from = from;
    this.to = from;
    before?.after.add(this);
  }
}

/** One sequence's part: a leaf. */
export class Share {
  readonly #tally: Tally;
  #leaf: Stretch;

  constructor(tally: Tally, leaf = new Stretch(null, 0)) {
    this.#tally = tally;
    this.#leaf = leaf;
  }

  /** The sequence now has `length` tokens. */
  set(length: number): void {
    if (length >= this.#leaf.from) {
      this.#tally.used += length - this.#leaf.to;
      this.#leaf.to = length;
      return;
    }
    const old = this.#leaf;
    let before = old.before;
    while (before !== null && before.from >= length) before = before.before;
    this.#leaf = new Stretch(before, length);
    this.#drop(old);
  }

  fork(): Share {
    if (this.#leaf.to > this.#leaf.from) this.#leaf = new Stretch(this.#leaf, this.#leaf.to);
    return new Share(this.#tally, new Stretch(this.#leaf.before, this.#leaf.from));
  }

  close(): void {
    this.#drop(this.#leaf);
    this.#leaf = new Stretch(null, 0);
  }

  /** Take a stretch out of the tree, and what only it has kept there. */
  #drop(stretch: Stretch): void {
    const { before } = stretch;
    this.#tally.used -= stretch.to - stretch.from;
    if (before === null) return;
    before.after.delete(stretch);
    if (before.after.size === 0) {
      this.#drop(before);
      return;
    }
    const end = Math.max(...Array.from(before.after, ({ from }) => from));
    this.#tally.used -= before.to - end;
    before.to = end;
    if (before.after.size === 1) this.#merge(before);
  }

  /** A stretch with one other behind it is one stretch with it: chains stay short however often a sequence is forked. */
  #merge(stretch: Stretch): void {
    const [only] = stretch.after;
    only!.from = stretch.from;
    only!.before = stretch.before;
    stretch.before?.after.delete(stretch);
    stretch.before?.after.add(only!);
  }
}
