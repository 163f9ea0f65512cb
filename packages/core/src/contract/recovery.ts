// A backend that outlives its device: when the device is lost, another is opened, the weights are loaded again, and sequences are
// evaluated anew from their ids, which are all that a sequence is. The call that met the loss then runs once more; draws keep no
// state, so it gives what it would have given. Where it knows successors it outlives itself too: one of them takes over, once, in the
// same way. Backends hold none of this: they say "device-lost" and are done.
import type { Backend, Capabilities, LoadOptions, Model, Provider } from "../backend.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { DogeError, type ErrorCode, isDogeError } from "../errors.ts";
import { sentenceOf } from "../sentence.ts";
import { checked } from "./checked.ts";
import { noted, RecoveringModel, type Survivor } from "./recovering-model.ts";

/** More losses than this within the span, and the fault is not one that passes. */
const MOST_LOSSES = 2;
const SPAN_MS = 5 * 60_000;

export interface RecoveryOptions {
  /** Told of every loss that is being survived: why, in the words of the error. */
  readonly onLoss?: ((error: unknown) => void) | undefined;
  /** Milliseconds; default performance.now. */
  readonly now?: (() => number) | undefined;
}

/** What was survived: the device was lost and `to` is `from`, opened again; or the backend `to` took over. */
export interface Fallback {
  readonly kind: "reopened" | "replaced";
  readonly from: string;
  readonly to: string;
  readonly error: unknown;
  /** The same as a whole sentence. */
  readonly message: string;
}

/** A backend that may take over. */
export interface Successor {
  readonly provider: Provider;
  /** Too slow to be of use where only memory was short. */
  readonly spare: boolean;
}

interface Survival {
  readonly provider: Provider;
  readonly successors: readonly Successor[];
  readonly now?: (() => number) | undefined;
  readonly onLoss?: ((error: unknown) => void) | undefined;
  readonly onFallback?: ((fallback: Fallback) => void) | undefined;
}

/** A provider whose backends survive the loss of their device, at most twice in five minutes; then "device-lost" comes through.
 *  A device that somebody destroyed on purpose (an error with the cause reason "destroyed") is not brought back. Its models do not
 *  train: what a trainer changed cannot be loaded again. */
export function recovering(provider: Provider, options: RecoveryOptions = {}): Provider {
  return {
    name: provider.name,
    probe: () => provider.probe(),
    open: async (signal) =>
      checked(new RecoveringBackend(await provider.open(signal), { ...options, provider, successors: [] })),
  };
}

/** `backend`, which `provider` opened, surviving as recovering() does; and where that is not enough, or it fails in another way, the
 *  first of the successors that opens takes over. That happens once: what fails after it rejects with "device-lost". */
export function outliving(
  backend: Backend,
  provider: Provider,
  successors: readonly Successor[],
  options: Pick<Survival, "onFallback" | "now"> = {},
): Backend {
  return checked(new RecoveringBackend(backend, { ...options, provider, successors }));
}

/** Whether an error, or one of its causes, says that the device was destroyed on purpose. */
function wasDestroyed(error: unknown): boolean {
  for (let at = error; typeof at === "object" && at !== null; at = (at as { cause?: unknown }).cause) {
    if ((at as { reason?: unknown }).reason === "destroyed") return true;
  }
  return false;
}

/** What a backend that loads a model may say without being at fault, when another may still be able to. */
const refusals: readonly ErrorCode[] = ["out-of-memory", "unsupported", "unsupported-layout", "known-answer"];

class RecoveringBackend implements Backend, Survivor {
  /** Grows with every device: a model of an earlier one is loaded again before it is used. */
  generation = 0;
  can: Capabilities;
  readonly #survival: Survival;
  readonly #losses: number[] = [];
  readonly #closed = new WeakSet<Backend>();
  #provider: Provider;
  #inner: Backend;
  #loaded = false;
  #replacing: Promise<void> | undefined;
  /** What there is to say when nothing more is to be survived. */
  #dead: unknown;
  /** Those that have not been tried. */
  #successors: readonly Successor[];
  /** What was said of the one that failed before the present one took over. */
  #replaced: string | undefined;

  constructor(inner: Backend, survival: Survival) {
    this.#inner = inner;
    this.#survival = survival;
    this.#provider = survival.provider;
    this.#successors = survival.successors;
    this.can = { ...inner.can, trains: false };
  }

  get name(): string {
    return this.#inner.name;
  }
  get inner(): Backend {
    return this.#inner;
  }

  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    // What reading throws is the fault of no backend.
    const reading = noted(checkpoint);
    const model = await this.surviving(
      () => this.#inner.load(reading.checkpoint, options),
      (error) => !reading.faults.has(error) && (this.isFault(error) || this.#isRefusal(error)),
    );
    this.#loaded = true;
    return new RecoveringModel(this, model, checkpoint, options);
  }

  /** `work`, and again on what takes the place of a device or a backend that fails meanwhile. Errors: those of `work`; "device-lost"
   *  when it is not to be survived. */
  async surviving<T>(work: () => Promise<T>, survivable = (error: unknown) => this.isFault(error)): Promise<T> {
    let met = false;
    for (;;) {
      await this.#replacing?.catch(() => {}); // told to those who met the fault
      if (this.#dead !== undefined) throw this.#dead;
      const { generation } = this;
      try {
        return await work();
      } catch (error) {
        const isGone = (): boolean => this.generation !== generation || this.#replacing !== undefined;
        // Another model of this backend met the fault before, or meets it now: what this one ran on may have been closed under it.
        if (isGone() && (survivable(error) || isDogeError(error, "closed") || isDogeError(error, "superseded")))
          continue;
        if (!survivable(error)) throw error;
        this.#replacing = this.#replace(error, met).finally(() => {
          this.#replacing = undefined;
        });
        met = true;
        await this.#replacing;
      }
    }
  }

  /** The device is lost; or, where there are successors, anything that no call should end with, a wrong result among it. */
  isFault(error: unknown): boolean {
    if (isDogeError(error, "device-lost")) return true;
    return this.#survival.successors.length > 0 && (!isDogeError(error) || error.code === "known-answer");
  }

  /** It cannot have this model, and another may; the models that it has already stay where they are. */
  #isRefusal(error: unknown): boolean {
    if (this.#loaded || this.#replaced !== undefined || this.#next(error).length === 0) return false;
    return isDogeError(error) && refusals.includes(error.code);
  }

  #next(error: unknown): readonly Successor[] {
    return isDogeError(error, "out-of-memory") ? this.#successors.filter(({ spare }) => !spare) : this.#successors;
  }

  async #replace(error: unknown, again: boolean): Promise<void> {
    try {
      if (wasDestroyed(error)) throw error;
      if (isDogeError(error, "device-lost") && !again && (await this.#reopen(error))) return;
      await this.#handOver(error);
    } catch (last) {
      if (isDogeError(last, "device-lost")) this.#dead = last;
      throw last;
    }
  }

  /** The same backend on another device, if that is to be had and not too many were lost. */
  async #reopen(error: unknown): Promise<boolean> {
    const now = (this.#survival.now ?? (() => performance.now()))();
    while (this.#losses.length > 0 && now - this.#losses[0]! >= SPAN_MS) this.#losses.shift();
    if (this.#losses.length >= MOST_LOSSES) return false;
    this.#losses.push(now);
    this.#survival.onLoss?.(error);
    await this.#close(this.#inner);
    const opened = await this.#provider.open().catch(() => undefined);
    if (opened === undefined) return false; // no other device: what happened is that this one was lost
    this.#become(opened, error, "reopened");
    return true;
  }

  /** Another backend takes over: while nothing is loaded, as many as there are; later once. */
  async #handOver(error: unknown): Promise<void> {
    const said = `The backend ${this.#inner.name} failed: ${sentenceOf(error)}`;
    if (this.#replaced !== undefined) {
      throw new DogeError("device-lost", `${this.#replaced} ${said} Load the model again.`, { cause: error });
    }
    for (const successor of this.#next(error)) {
      this.#successors = this.#successors.slice(this.#successors.indexOf(successor) + 1);
      const opened = await successor.provider.open().catch(() => undefined);
      if (opened === undefined) continue;
      void this.#close(this.#inner);
      this.#provider = successor.provider;
      this.#become(opened, error, "replaced");
      if (this.#loaded) this.#replaced = said;
      return;
    }
    if (isDogeError(error)) throw error;
    throw new DogeError("device-lost", `${said} No other backend opens: load the model again.`, { cause: error });
  }

  #become(opened: Backend, error: unknown, kind: Fallback["kind"]): void {
    const from = this.#inner.name;
    const to = opened.name;
    this.#inner = opened;
    this.can = { ...opened.can, trains: false };
    this.generation++;
    const what = kind === "reopened" ? "was opened again" : `${to} (${opened.can.device}) takes over`;
    const kept = this.#loaded ? "; what was said so far is kept" : "";
    const message = `The backend ${from} failed, and ${kind === "reopened" ? "it " : ""}${what}${kept}. The fault: ${sentenceOf(error)}`;
    this.#survival.onFallback?.({ kind, from, to, error, message });
  }

  close(): Promise<void> {
    return this.#closed.has(this.#inner) ? Promise.resolve() : this.#inner.close();
  }

  /** One that failed need not even close well. */
  async #close(backend: Backend): Promise<void> {
    if (this.#closed.has(backend)) return;
    this.#closed.add(backend);
    await backend.close().catch(() => {});
  }
}
