// The order of things on one model (contract S1): calls, forks, rewinds and closes wait here and take effect one at a time, in
// the order made; what a rejected call leaves behind it is superseded.
import { aborted, DogeError } from "../errors.ts";
import { nextTask } from "../task.ts";

/** Stands for a sequence: only its identity counts here. */
export type Subject = object;

interface Instant {
  readonly run: () => void;
  /** [parent, child] of a fork: a child of a superseded past is superseded too. */
  readonly fork: readonly [Subject, Subject] | undefined;
}
interface Call<T> {
  readonly subjects: readonly Subject[];
  readonly work: () => Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
  readonly promise: Promise<T>;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

export class Queue {
  #waiting: (Instant | Call<never>)[] = [];
  #busy = false;
  #scheduled = false;
  #idle: (() => void)[] = [];

  /** Nothing runs and nothing waits. */
  get quiet(): boolean {
    return !this.#busy && this.#waiting.length === 0;
  }

  /** Resolves once everything that was put in so far, and behind it until then, is done. */
  async drained(): Promise<void> {
    if (!this.quiet) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Takes effect now when the queue is quiet, else in its turn. */
  instant(run: () => void, fork?: readonly [Subject, Subject]): void {
    if (this.quiet) run();
    else this.#waiting.push({ run, fork });
  }

  /** `work` runs in its turn, in a later task than the call was made. When it rejects, or the signal fires while it waits, the
   *  calls behind it on these subjects, and on theirs, reject with "superseded" at once. */
  call<T>(subjects: readonly Subject[], signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const onAbort = () => this.#abandon(call as unknown as Call<never>, aborted(signal!));
    const call: Call<T> = { subjects, work, resolve, reject, promise, signal, onAbort };
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) queueMicrotask(onAbort);
    this.#waiting.push(call as unknown as Call<never>);
    this.#advance();
    return promise;
  }

  /** Reject every call that waits; forks, rewinds and closes stay. */
  rejectAll(error: () => unknown): void {
    const calls = this.#waiting.filter((entry) => "work" in entry);
    this.#waiting = this.#waiting.filter((entry) => !("work" in entry));
    for (const call of calls) this.#refuse(call, error());
    this.#advance();
  }

  /** Everything at the head that takes no time; then, in a later task, the next call. What the last call returned thus reaches
   *  its caller before the next one takes the thread, and signals have their chance. */
  #advance(): void {
    if (this.#busy) return;
    for (let entry = this.#waiting[0]; entry !== undefined && !("work" in entry); entry = this.#waiting[0]) {
      this.#waiting.shift();
      entry.run();
    }
    if (this.#waiting.length === 0) {
      for (const resolve of this.#idle.splice(0)) resolve();
    } else if (!this.#scheduled) {
      this.#scheduled = true;
      void nextTask().then(() => {
        this.#scheduled = false;
        // Meanwhile it may have been given up, with what then stood at the head.
        const head = this.#waiting[0];
        if (head !== undefined && "work" in head) void this.#run(head);
      });
    }
  }

  async #run(call: Call<never>): Promise<void> {
    this.#busy = true;
    this.#waiting.shift();
    call.signal?.removeEventListener("abort", call.onAbort);
    try {
      const value = await call.work();
      call.resolve(value);
    } catch (error) {
      const told = call.signal?.aborted && error === call.signal.reason ? aborted(call.signal) : error;
      call.reject(told);
      this.#supersede(call.subjects, 0, told);
    }
    this.#busy = false;
    this.#advance();
  }

  /** Reject a call that waits, and has been taken out. */
  #refuse(call: Call<never>, error: unknown): void {
    call.signal?.removeEventListener("abort", call.onAbort);
    call.reject(error);
  }

  /** A call that waits is given up. */
  #abandon(call: Call<never>, error: unknown): void {
    const at = this.#waiting.indexOf(call);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    this.#refuse(call, error);
    this.#supersede(call.subjects, at, error);
    this.#advance();
  }

  #supersede(subjects: readonly Subject[], from: number, cause: unknown): void {
    const tainted = new Set(subjects);
    const left = this.#waiting.slice(0, from);
    for (const entry of this.#waiting.slice(from)) {
      if ("work" in entry && entry.subjects.some((subject) => tainted.has(subject))) {
        for (const subject of entry.subjects) tainted.add(subject);
        entry.promise.catch(() => {}); // its caller has been told by the call before it, and may never look
        this.#refuse(entry, superseded(cause));
        continue;
      }
      if ("fork" in entry && entry.fork !== undefined && tainted.has(entry.fork[0])) tainted.add(entry.fork[1]);
      left.push(entry);
    }
    this.#waiting = left;
  }
}

function superseded(cause: unknown): DogeError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DogeError("superseded", `A call made before this one, on its sequences, was rejected (${why}).`, {
    cause,
  });
}
