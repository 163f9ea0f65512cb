// The memory of one call, as the kernels see it: words of one buffer. Addresses are words from its start; 0 is nobody's.
//
//   tokens   4 words each: id, position, address of its row, 0
//   rows     ROW_WORDS each
//   lists    pages of each row; places whose logits are wanted; masks; stops
export const ROW = {
  pages: 0, // address of its page table
  reach: 1, // slots that earlier tokens may stand in
  left: 2, // ids still to draw
  position: 3, // of the id to be drawn: how many stand before it
  token: 4, // address of its token record while it draws
  index: 5, // which of the rows it is
  temperature: 6,
  topK: 7,
  topP: 8,
  minP: 9,
  penalty: 10,
  seed: 11,
  allowed: 12,
  seen: 13,
  stops: 14,
  stopsAt: 15,
} as const;
export const ROW_WORDS = 16;
export const TOKEN_WORDS = 4;

/** Words of a Dispatch (kernels/kernel.ts); one stands every 256 bytes, so that a dynamic offset can choose it. */
const DISPATCH_WORDS = 64;
export interface Dispatch {
  readonly count: number;
  readonly first: number;
  readonly base: number;
  readonly outs: number;
  readonly outsAt: number;
  readonly span: number;
  readonly list: number;
  readonly listed: number;
  readonly step: number;
  readonly rows: number;
  readonly rowsAt: number;
  readonly width: number;
}
const ORDER = [
  "count",
  "first",
  "base",
  "outs",
  "outsAt",
  "span",
  "list",
  "listed",
  "step",
  "rows",
  "rowsAt",
  "width",
] as const satisfies readonly (keyof Dispatch)[];

/** Collects the words of a call, and the dispatches that work on them. */
export class CallMemory {
  #words = new Uint32Array(1024);
  #floats = new Float32Array(this.#words.buffer);
  #used = 1;
  #grids = new Uint32Array(DISPATCH_WORDS * 16);
  #dispatches = 0;

  get words(): Uint32Array<ArrayBuffer> {
    return this.#words.subarray(0, this.#used);
  }

  get grids(): Uint32Array<ArrayBuffer> {
    return this.#grids.subarray(0, this.#dispatches * DISPATCH_WORDS);
  }

  /** The address of `count` words of zeros. */
  take(count: number): number {
    const at = this.#used;
    this.#used += count;
    if (this.#used > this.#words.length) {
      const grown = new Uint32Array(Math.max(this.#used, 2 * this.#words.length));
      grown.set(this.#words);
      this.#words = grown;
      this.#floats = new Float32Array(grown.buffer);
    }
    return at;
  }

  list(values: ArrayLike<number>): number {
    const at = this.take(values.length);
    this.#words.set(values, at);
    return at;
  }

  set(at: number, value: number): void {
    this.#words[at] = value;
  }

  setFloat(at: number, value: number): void {
    this.#floats[at] = value;
  }

  setBit(at: number, id: number): void {
    this.#words[at + (id >> 5)]! |= 1 << (id & 31);
  }

  /** Add a dispatch; its place among them. */
  dispatch(values: Partial<Dispatch>): number {
    const at = this.#dispatches++;
    if (this.#dispatches * DISPATCH_WORDS > this.#grids.length) {
      const grown = new Uint32Array(2 * this.#grids.length);
      grown.set(this.#grids);
      this.#grids = grown;
    }
    ORDER.forEach((name, index) => {
      this.#grids[at * DISPATCH_WORDS + index] = values[name] ?? 0;
    });
    return at;
  }
}
