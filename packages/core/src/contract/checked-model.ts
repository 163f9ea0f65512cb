// A model behind checked(): every argument looked at, every call in its turn, every sequence alive. The model inside sees
// well-formed calls only, one at a time.
import type { Details, DType, Floats, Model, Routing, Row, SampleRow, Sequence, Tensor } from "../backend.ts";
import type { Config } from "../config.ts";
import { aborted, DogeError, isDogeError } from "../errors.ts";
import { show } from "../show.ts";
import { checkRows, copyDrawing, copyTokens } from "./checked-rows.ts";
import { Queue } from "./queue.ts";

/** What the models of one backend share: whether the device is gone. */
export interface Device {
  readonly name: string;
  /** The error that said so. */
  lost: unknown;
  readonly models: Set<CheckedModel>;
}

export function closedError(what: string): DogeError {
  return new DogeError("closed", `${what} was closed: nothing can be asked of it any more.`);
}
export function lostError(device: Device): DogeError {
  return new DogeError(
    "device-lost",
    `The device of the backend ${device.name} was lost: close the backend and open another.`,
    { cause: device.lost },
  );
}
/** Notes "device-lost", once and for all models, and hands the error on. */
export function noteLoss(device: Device, error: unknown): unknown {
  if (isDogeError(error, "device-lost") && device.lost === undefined) {
    device.lost = error;
    for (const model of device.models) model.queue.rejectAll(() => lostError(device));
  }
  return error;
}

class CheckedSequence implements Sequence {
  readonly model: CheckedModel;
  /** The sequence inside, once its turn has come. */
  raw: Sequence | undefined;
  /** What a fork or a rewind of the model inside threw: it never should, and no call can be right after it. */
  fault: unknown;
  #length: number;
  closed = false;

  constructor(model: CheckedModel, length: number) {
    this.model = model;
    this.#length = length;
  }

  get length(): number {
    return this.#length;
  }

  /** The length as of now becomes the one that shows. */
  refresh(): void {
    if (this.raw !== undefined) this.#length = this.raw.length;
  }

  fork(): Sequence {
    this.#assertUsable();
    const child = new CheckedSequence(this.model, this.#length);
    this.model.instant(
      child,
      () => {
        if (this.fault !== undefined) throw this.fault;
        child.raw = this.raw!.fork();
        child.refresh();
      },
      this,
    );
    return child;
  }

  rewind(length: number): void {
    this.#assertUsable();
    if (!Number.isInteger(length) || length < 0) {
      throw new DogeError(
        "invalid-argument",
        `rewind to ${show(length)}; it must be a whole number of tokens, 0 or more.`,
      );
    }
    this.model.instant(this, () => {
      this.raw?.rewind(length);
      this.refresh();
    });
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    if (!this.model.closed) this.model.closing(() => this.raw?.close());
  }

  #assertUsable(): void {
    if (this.closed) throw closedError("This sequence");
    this.model.assertUsable();
  }
}

/** A call's rows: as the model inside gets them, and the sequences they are for. */
interface Prepared<R extends Row> {
  readonly sequences: readonly CheckedSequence[];
  readonly rows: readonly Omit<R, "sequence">[];
  /** What is wrong with it, told in its turn. */
  readonly fault: unknown;
}

export class CheckedModel implements Model {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly details?: Details;
  readonly trainer?: NonNullable<Model["trainer"]>;
  readonly queue = new Queue();
  readonly #raw: Model;
  readonly #device: Device;
  #room: number;
  #closed = false;

  constructor(raw: Model, device: Device) {
    this.#raw = raw;
    this.#device = device;
    this.config = raw.config;
    this.dtype = raw.dtype;
    this.routing = raw.routing;
    this.context = raw.context;
    if (raw.details !== undefined) this.details = Object.freeze({ ...raw.details });
    this.#room = raw.room;
    if (raw.trainer !== undefined) {
      this.trainer = async (options, state) => {
        this.assertUsable();
        const trainer = await this.turn([], undefined, () => raw.trainer!(options, state));
        return {
          accumulate: (examples, signal) => this.turn([], signal, () => trainer.accumulate(examples, signal)),
          update: (rate) => this.turn([], undefined, () => trainer.update(rate)),
          save: () => this.turn([], undefined, () => trainer.save()),
          close: () => this.closing(() => trainer.close()),
        };
      };
    }
    device.models.add(this);
  }

  get room(): number {
    return this.#room;
  }

  get closed(): boolean {
    return this.#closed;
  }

  assertUsable(): void {
    if (this.#closed) throw closedError("This model");
    if (this.#device.lost !== undefined) throw lostError(this.#device);
  }

  sequence(): Sequence {
    this.assertUsable();
    const sequence = new CheckedSequence(this, 0);
    this.instant(sequence, () => {
      sequence.raw = this.#raw.sequence();
    });
    return sequence;
  }

  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    const prepared = this.#prepare<Row>(rows, () => ({}));
    return this.#call(prepared, signal, (ready) => this.#raw.forward(ready, signal));
  }

  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    const prepared = this.#prepare<Row>(rows, () => ({}));
    return this.#call(prepared, signal, (ready) => this.#raw.score(ready, signal));
  }

  sample(rows: readonly SampleRow[], signal?: AbortSignal): ReturnType<Model["sample"]> {
    const prepared = this.#prepare(rows, (row, index) => copyDrawing(row, index, this.config.vocabSize));
    return this.#call(prepared, signal, (ready) => {
      // `count` ends quietly at the context (S5): what is asked of the model inside is what can be drawn.
      const fitting = ready.map((row) => {
        const left = this.context - row.sequence.length - row.tokens.length;
        return { ...row, count: Math.min(row.count, left) };
      });
      return this.#raw.sample(fitting, signal);
    });
  }

  inspect(
    rows: readonly Row[],
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, Tensor>[]> {
    const prepared = this.#prepare<Row>(rows, () => ({}));
    const copy: unknown = Array.isArray(names) ? [...names] : names;
    return this.#call(prepared, signal, (ready) => {
      if (!Array.isArray(copy) || !copy.every((name) => typeof name === "string")) {
        throw new DogeError("invalid-argument", `names is ${show(copy)}; it must be a list of tensor names.`);
      }
      return this.#raw.inspect(ready, copy, signal);
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.closing(() => {
      this.#device.models.delete(this);
      this.#raw.close();
    });
  }

  /** Put `work` in its turn, and keep what shows of lengths and room as of the calls resolved. */
  turn<T>(
    sequences: readonly CheckedSequence[],
    signal: AbortSignal | undefined,
    work: () => T | Promise<T>,
  ): Promise<T> {
    // Closed things are told of in the turn too, so that calls behind this one cannot overtake it.
    const closed = this.#closed ? closedError("This model") : undefined;
    const shut = sequences.findIndex((sequence) => sequence.closed);
    const deaf = signal !== undefined && typeof signal?.addEventListener !== "function";
    return this.queue.call(sequences, deaf ? undefined : signal, async () => {
      if (this.#device.lost !== undefined) throw lostError(this.#device);
      if (closed !== undefined) throw closed;
      if (deaf) throw new DogeError("invalid-argument", `signal is ${show(signal)}; it must be an AbortSignal.`);
      if (shut >= 0) throw closedError(`The sequence of row ${shut}`);
      const broken = sequences.find((sequence) => sequence.fault !== undefined);
      if (broken !== undefined) throw broken.fault;
      if (signal?.aborted) throw aborted(signal);
      try {
        return await work();
      } catch (error) {
        throw noteLoss(this.#device, error);
      } finally {
        for (const sequence of sequences) sequence.refresh();
        this.#room = this.#raw.room;
      }
    });
  }

  /** Make, fork (of `parent`) or rewind `sequence` in its turn; nothing on a lost device, where only closes still work. */
  instant(sequence: CheckedSequence, run: () => void, parent?: CheckedSequence): void {
    const guarded = () => {
      if (this.#device.lost !== undefined) return;
      try {
        run();
        this.#room = this.#raw.room;
      } catch (error) {
        sequence.fault = noteLoss(this.#device, error);
      }
    };
    this.queue.instant(guarded, parent && [parent, sequence]);
  }

  /** A close in its turn. It is not there to fail: if it does, that is told as an unhandled rejection. */
  closing(run: () => void): void {
    this.queue.instant(() => {
      try {
        run();
        if (this.#device.lost === undefined) this.#room = this.#raw.room;
      } catch (error) {
        if (this.#device.lost === undefined) void Promise.reject(error);
      }
    });
  }

  #call<R extends Row, T>(
    { sequences, rows, fault }: Prepared<R>,
    signal: AbortSignal | undefined,
    work: (rows: readonly R[]) => Promise<T[]>,
  ): Promise<T[]> {
    return this.turn(sequences, signal, () => {
      if (fault !== undefined) throw fault;
      if (rows.length === 0) return [];
      const ready = rows.map((row, index) => ({ ...row, sequence: sequences[index]!.raw! }) as R);
      ready.forEach(({ sequence, tokens }, index) => {
        if (sequence.length === 0 && tokens.length === 0) {
          throw new DogeError(
            "empty-prompt",
            `row ${index}: neither the sequence nor the row has a token to go on from.`,
          );
        }
        const length = sequence.length + tokens.length;
        if (length > this.context) {
          throw new DogeError(
            "context-overflow",
            `row ${index}: ${sequence.length} tokens and ${tokens.length} more are ${length}; the context holds ${this.context}.`,
          );
        }
      });
      return work(ready);
    });
  }

  /** Check and copy now, while the caller waits; what is wrong is told in the turn of the call. */
  #prepare<R extends Row>(
    value: readonly R[],
    rest: (row: R, index: number) => Omit<R, "sequence" | "tokens">,
  ): Prepared<R> {
    const sequences: CheckedSequence[] = [];
    try {
      checkRows(value);
      for (const [index, row] of value.entries()) {
        const sequence: unknown = row.sequence;
        if (!(sequence instanceof CheckedSequence) || sequence.model !== this) {
          throw new DogeError("invalid-argument", `row ${index}: its sequence is not one of this model's.`);
        }
        const earlier = sequences.indexOf(sequence);
        if (earlier >= 0) {
          throw new DogeError("invalid-argument", `rows ${earlier} and ${index} are of the same sequence; fork it.`);
        }
        sequences.push(sequence);
      }
      const rows = value.map((row, index) => {
        const tokens = copyTokens(row.tokens, `row ${index}`, this.config.vocabSize);
        return { ...rest(row, index), tokens } as unknown as Omit<R, "sequence">;
      });
      return { sequences, rows, fault: undefined };
    } catch (fault) {
      return { sequences, rows: [], fault };
    }
  }
}
