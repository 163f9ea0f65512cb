// How much work a device is given at once: some milliseconds of it, measured as it goes, so that a long call lets other work
// and an abort through while a short one is not cut.

export class Pace {
  readonly #milliseconds: number;
  #rate: number;

  /** Portions of so many `milliseconds`. `rate`: multiply-adds in one of them, a careful guess until the first measurement. */
  constructor(milliseconds: number, rate: number) {
    this.#milliseconds = milliseconds;
    this.#rate = rate;
  }

  /** Of the next portion, in multiply-adds. */
  get budget(): number {
    return this.#rate * this.#milliseconds;
  }

  /** Work of this cost took so long. */
  measured(cost: number, milliseconds: number): void {
    // Too little to tell from a wait. What costs little and takes long is another kind of work, or another machine.
    if (cost < this.budget / 8 && milliseconds < this.#milliseconds / 8) return;
    const rate = cost / Math.max(0.05, milliseconds);
    // Slower counts at once and faster by half: a portion that is too long is felt, one that is too short costs a pause.
    const next = Math.min(rate, (this.#rate + rate) / 2);
    this.#rate = Math.min(1e10, Math.max(1e4, next));
  }
}
