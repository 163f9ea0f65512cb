// The cache of a sequence: per layer and key/value head the keys that the dynamic mask keeps, and a short journal of those
// it evicted, so that the last tokens can be taken back.
//
// A key's bias never changes, so the greatest W of a growing text are found one key at a time and a dropped key never
// returns: W entries are the whole past, exactly (docs/model.md, "Bounded state").
import type { Config } from "@doge-lm/core";

/** Evicted keys stay readable for this many more tokens: a rewind of that depth is a filter, not a replay. */
export const JOURNAL = 64;

/** `evictedBy` of a key that is kept: a position no token reaches. */
const NOBODY = 0x7fff_ffff;

/** The keys of one key/value head of one layer, in the order of their positions. */
export class KeptKeys {
  readonly headDim: number;
  /** Biases of one key: 1, or under the legacy layout one for each query head that reads it. */
  readonly biasWidth: number;
  /** Keys kept, or null where none is ever dropped. */
  readonly window: number | null;
  /** Slots in use: kept keys, and evicted ones that the journal still holds. */
  slots = 0;
  keys: Float32Array; //       (capacity, headDim), rotated
  values: Float32Array; //     (capacity, headDim)
  biases: Float32Array; //     (capacity, biasWidth)
  #positions: Int32Array; //   (capacity)
  #evictedBy: Int32Array; //   (capacity), the position whose token evicted this key
  #capacity: number;
  #kept = 0;
  /** The latest position that evicted a key which the journal no longer holds. */
  #forgotten = -1;

  constructor(headDim: number, biasWidth: number, window: number | null, capacity = 32) {
    this.headDim = headDim;
    this.biasWidth = biasWidth;
    this.window = window;
    this.#capacity = capacity;
    this.keys = new Float32Array(capacity * headDim);
    this.values = new Float32Array(capacity * headDim);
    this.biases = new Float32Array(capacity * biasWidth);
    this.#positions = new Int32Array(capacity);
    this.#evictedBy = new Int32Array(capacity);
  }

  isKept(slot: number): boolean {
    return this.#evictedBy[slot] === NOBODY;
  }

  /** Positions of the kept keys, ascending. */
  keptPositions(): number[] {
    const kept: number[] = [];
    for (let slot = 0; slot < this.slots; slot++) if (this.isKept(slot)) kept.push(this.#positions[slot]!);
    return kept;
  }

  /** Add the key of the next position. Beyond the window the least in (bias, position) order goes, which may be this one. */
  insert(position: number, key: Float32Array, value: Float32Array, bias: Float32Array): void {
    if (this.#kept === this.window) {
      const least = this.#least();
      // On a tie the newcomer is the more recent and stays. One left out needs no journal: a rewind that undoes its leaving
      // out forgets its token too.
      if (bias[0]! < this.biases[least]!) return;
      this.#evictedBy[least] = position;
      this.#kept--;
    }
    if (this.slots === this.#capacity) this.#makeRoom(position);
    const slot = this.slots++;
    this.keys.set(key, slot * this.headDim);
    this.values.set(value, slot * this.headDim);
    this.biases.set(bias, slot * this.biasWidth);
    this.#positions[slot] = position;
    this.#evictedBy[slot] = NOBODY;
    this.#kept++;
  }

  /** The kept slot least in (bias, position) order: slots stand by position, so the first of the smallest biases. */
  #least(): number {
    let least = -1;
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.isKept(slot) && (least < 0 || this.biases[slot]! < this.biases[least]!)) least = slot;
    }
    return least;
  }

  /** Whether the state after the first `length` tokens can still be restored: nothing they had kept is forgotten. */
  reaches(length: number): boolean {
    return length > this.#forgotten;
  }

  /** Restore the state after the first `length` tokens, which this reaches. */
  truncate(length: number): void {
    this.#filter((slot) => this.#positions[slot]! < length);
    this.#kept = 0;
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.#evictedBy[slot]! >= length) this.#evictedBy[slot] = NOBODY;
      if (this.isKept(slot)) this.#kept++;
    }
  }

  copy(): KeptKeys {
    const copy = new KeptKeys(this.headDim, this.biasWidth, this.window, this.#capacity);
    copy.keys.set(this.keys);
    copy.values.set(this.values);
    copy.biases.set(this.biases);
    copy.#positions.set(this.#positions);
    copy.#evictedBy.set(this.#evictedBy);
    copy.slots = this.slots;
    copy.#kept = this.#kept;
    copy.#forgotten = this.#forgotten;
    return copy;
  }

  /** Drop what has left the journal; grow when that frees too little to be worth doing again soon. */
  #makeRoom(position: number): void {
    this.#filter((slot) => {
      const by = this.#evictedBy[slot]!;
      if (by > position - JOURNAL) return true;
      this.#forgotten = Math.max(this.#forgotten, by);
      return false;
    });
    if (this.slots <= 0.75 * this.#capacity) return;
    this.#capacity *= 2;
    this.keys = grown(this.keys, this.#capacity * this.headDim);
    this.values = grown(this.values, this.#capacity * this.headDim);
    this.biases = grown(this.biases, this.#capacity * this.biasWidth);
    const positions = new Int32Array(this.#capacity);
    positions.set(this.#positions);
    this.#positions = positions;
    const evictedBy = new Int32Array(this.#capacity);
    evictedBy.set(this.#evictedBy);
    this.#evictedBy = evictedBy;
  }

  /** Close up the slots that pass, in order. */
  #filter(passes: (slot: number) => boolean): void {
    let to = 0;
    for (let slot = 0; slot < this.slots; slot++) {
      if (!passes(slot)) continue;
      if (to < slot) {
        this.keys.copyWithin(to * this.headDim, slot * this.headDim, (slot + 1) * this.headDim);
        this.values.copyWithin(to * this.headDim, slot * this.headDim, (slot + 1) * this.headDim);
        this.biases.copyWithin(to * this.biasWidth, slot * this.biasWidth, (slot + 1) * this.biasWidth);
        this.#positions[to] = this.#positions[slot]!;
        this.#evictedBy[to] = this.#evictedBy[slot]!;
      }
      to++;
    }
    this.slots = to;
  }
}

function grown(array: Float32Array, length: number): Float32Array {
  const larger = new Float32Array(length);
  larger.set(array);
  return larger;
}

/** The cache of all layers. */
export class State {
  /** (layers, kvHeads) */
  readonly layers: readonly (readonly KeptKeys[])[];

  constructor(layers: readonly (readonly KeptKeys[])[]) {
    this.layers = layers;
  }

  static empty(config: Config): State {
    const kept = () => new KeptKeys(config.headDim, config.biasHeads / config.kvHeads, config.window);
    return new State(Array.from({ length: config.layers }, () => Array.from({ length: config.kvHeads }, kept)));
  }

  /** Restore the state after the first `length` tokens; false, changing nothing, when the window has evicted too long ago. */
  truncate(length: number): boolean {
    const all = this.layers.flat();
    if (!all.every((kept) => kept.reaches(length))) return false;
    for (const kept of all) kept.truncate(length);
    return true;
  }

  copy(): State {
    return new State(this.layers.map((heads) => heads.map((kept) => kept.copy())));
  }
}
