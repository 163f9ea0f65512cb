// Streams the tensors of a checkpoint to a device: one piece of one tensor is held at a time, other work runs in between, and an
// abort is noticed even when nothing ever waits for a file.
import type { Floats } from "../backend.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { floats } from "../loading/weights.ts";
import { trace, tracing } from "../trace.ts";
import { Breath } from "./breath.ts";

export class TensorReader {
  readonly #checkpoint: Checkpoint;
  readonly #scope: string;
  readonly #signal: AbortSignal | undefined;
  readonly #breath: Breath;

  /** `scope`: the backend's name, for errors and the trace. */
  constructor(checkpoint: Checkpoint, scope: string, signal: AbortSignal | undefined) {
    this.#checkpoint = checkpoint;
    this.#scope = scope;
    this.#signal = signal;
    this.#breath = new Breath(signal, scope);
  }

  /** A tensor in core's pieces; `offset` in numbers. Errors: "invalid-weights", "aborted", those of the files. */
  async *pieces(name: string): AsyncGenerator<{ offset: number; data: Floats }> {
    for await (const piece of floats(this.#checkpoint, name, this.#signal)) {
      yield piece;
      if (tracing()) trace({ scope: this.#scope, kind: "upload", name, bytes: piece.data.byteLength });
      await this.#breath.take();
    }
  }

  /** The same in whole rows of `columns` numbers; `row` is the first of `data` (rows, columns). */
  async *rows(name: string, columns: number): AsyncGenerator<{ row: number; data: Floats }> {
    // Pieces are cut anywhere, so the rest of one waits for the next.
    let rest: Floats = new Float32Array(0);
    let row = 0;
    for await (const { data } of this.pieces(name)) {
      let all = data;
      if (rest.length > 0) {
        all = new Float32Array(rest.length + data.length);
        all.set(rest);
        all.set(data, rest.length);
      }
      const whole = Math.floor(all.length / columns);
      if (whole > 0) yield { row, data: all.subarray(0, whole * columns) };
      row += whole;
      rest = all.slice(whole * columns);
    }
  }
}
