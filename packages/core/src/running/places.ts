// Where the generations of one Doge take place: each on the sequence that already holds the most of its prompt, as many at once as
// there are rows and room for, the others in the order they were begun. Callers hand over whole prompts; what of them need not be
// evaluated again is found here.
import type { Model, Sequence, Tokens } from "../backend.ts";
import { aborted } from "../errors.ts";
import type { Place } from "./generate.ts";

/** A sequence kept after a generation, with the ids it holds. */
interface Kept {
  /** The session, or the Doge itself, whose last conversation it is. */
  readonly owner: object;
  readonly sequence: Sequence;
  readonly ids: readonly number[];
}
/** One that takes place. */
interface Running {
  readonly owner: object;
  /** Undefined until it has one. */
  sequence: Sequence | undefined;
  /** Tokens it may have in the end. */
  readonly most: number;
  readonly runOn: (() => void) | undefined;
}
/** One that waits for a row and for room. */
interface Waiting {
  readonly running: Running;
  /** Whose beginning may be there already. */
  readonly prompt: Tokens | undefined;
  readonly admit: () => void;
}

/** More would seldom be met again. */
const mostKept = 8;
/** Beyond this, more rows make a step longer and save no more reading of weights. */
const mostRows = 16;

export class Places {
  readonly #model: Model;
  readonly #rows: number;
  /** Least recently used first. */
  #kept: Kept[] = [];
  #running = new Set<Running>();
  #waiting: Waiting[] = [];
  /** Told when one leaves. */
  #leaving: (() => void)[] = [];
  /** Running ones that wait for another to leave, because a call of theirs did not fit. */
  #stalled = 0;

  /** `rows`: generations at once, at most. */
  constructor(model: Model, rows = mostRows) {
    this.#model = model;
    this.#rows = rows;
  }

  /** A place for `prompt` and up to `count` new tokens, in turn. `runOn` is called when somebody waits for this to end, so that one
   *  that is not read cannot hold up the others. Errors: "aborted", those of Model.sequence. */
  async enter(
    owner: object,
    prompt: Tokens,
    count: number,
    signal: AbortSignal | undefined,
    runOn: () => void,
  ): Promise<Place> {
    const most = Math.min(prompt.length + count, this.#model.context);
    const running: Running = { owner, most, sequence: undefined, runOn };
    await this.#admitted(running, prompt, signal);
    try {
      const { sequence, length } = this.#sequenceFor(owner, prompt);
      running.sequence = sequence;
      return {
        sequence,
        tokens: prompt.slice(length),
        free: () => this.#free(),
        leave: (ids, failed) => {
          // Under "reference" routing it could not be used again.
          const spent = failed || this.#model.routing === "reference";
          if (spent || sequence.length !== prompt.length + ids.length) sequence.close();
          else this.#kept.push({ owner, sequence, ids: [...prompt, ...ids] });
          if (this.#kept.length > mostKept) this.#drop();
          this.#leave(running);
        },
      };
    } catch (error) {
      this.#leave(running);
      throw error;
    }
  }

  /** A new sequence for `length` tokens, in turn, and what gives it back. Errors as for enter(). */
  async scratch(length: number, signal?: AbortSignal): Promise<Pick<Place, "sequence" | "free"> & { leave(): void }> {
    const running: Running = { owner: {}, most: length, sequence: undefined, runOn: undefined };
    await this.#admitted(running, undefined, signal);
    try {
      const sequence = this.#model.sequence();
      running.sequence = sequence;
      const leave = () => {
        sequence.close();
        this.#leave(running);
      };
      return { sequence, free: () => this.#free(), leave };
    } catch (error) {
      this.#leave(running);
      throw error;
    }
  }

  /** Forget what was kept for `owner`, once nothing of it runs; what runs needs no reader to end. */
  async forget(owner: object): Promise<void> {
    const own = ({ owner: other }: Running): boolean => other === owner;
    for (;;) {
      const running = [...this.#running].filter(own);
      if (running.length === 0 && !this.#waiting.some((waiting) => own(waiting.running))) break;
      for (const { runOn } of running) runOn?.();
      await this.#next();
    }
    for (const { sequence } of this.#take(owner)) sequence.close();
  }

  /** Wait until it is this one's turn. */
  async #admitted(running: Running, prompt: Tokens | undefined, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = () => {
      const at = this.#waiting.indexOf(waiting);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      reject(aborted(signal!));
      this.#tell();
      this.#advance();
    };
    const waiting: Waiting = { running, prompt, admit: resolve };
    this.#waiting.push(waiting);
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
    this.#advance();
    await promise.finally(() => signal?.removeEventListener("abort", onAbort));
  }

  /** Admit those whose turn has come. While others wait, those that run need no reader to go on. */
  #advance(): void {
    for (let head = this.#waiting[0]; head !== undefined && this.#fits(head); head = this.#waiting[0]) {
      this.#waiting.shift();
      this.#running.add(head.running);
      head.admit();
    }
    if (this.#waiting.length > 0) for (const { runOn } of this.#running) runOn?.();
  }

  /** A row is free, and what all may still append has room; kept sequences make way. Alone, it is tried in any case. */
  #fits({ running, prompt }: Waiting): boolean {
    if (this.#running.size >= this.#rows) return false;
    let needed = running.most;
    for (const { most, sequence } of this.#running) needed += most - (sequence?.length ?? 0);
    // While a call runs, what is closed gives its room back behind it: until then it is counted here.
    for (let given = 0; this.#model.room + given + this.#taken(running.owner, prompt) < needed; ) {
      const before = this.#model.room;
      const length = this.#drop();
      if (length === undefined) return this.#running.size === 0;
      if (this.#model.room === before) given += length;
    }
    return true;
  }

  #leave(running: Running): void {
    this.#running.delete(running);
    this.#tell();
    this.#advance();
  }

  #tell(): void {
    for (const told of this.#leaving.splice(0)) told();
  }

  #next(): Promise<void> {
    return new Promise((resolve) => this.#leaving.push(resolve));
  }

  /** A call did not fit: give up what is kept, or wait until another one leaves; false when all wait so. */
  #free(): boolean | Promise<boolean> {
    if (this.#drop() !== undefined) return true;
    if (this.#stalled + 1 >= this.#running.size) return false;
    this.#stalled++;
    for (const { runOn } of this.#running) runOn?.();
    return this.#next().then(() => {
      this.#stalled--;
      return true;
    });
  }

  /** Tokens that `prompt` finds room for in what is kept: those it shares, and what its owner kept, which it takes over. */
  #taken(owner: object, prompt: Tokens | undefined): number {
    const best = prompt === undefined ? undefined : this.#best(owner, prompt);
    const own = this.#kept.reduce((sum, kept) => sum + (kept.owner === owner ? kept.sequence.length : 0), 0);
    return own + (best === undefined || best.owner === owner ? 0 : this.#shared(best, prompt!));
  }

  /** What holds the most of `prompt`; of several, the owner's last. */
  #best(owner: object, prompt: Tokens): Kept | undefined {
    const length = (kept: Kept): number => this.#shared(kept, prompt);
    return this.#kept.reduce<Kept | undefined>(
      (a, b) => (a === undefined || length(b) > length(a) || (length(b) === length(a) && b.owner === owner) ? b : a),
      undefined,
    );
  }

  /** How much of `prompt` a kept sequence holds. */
  #shared(kept: Kept, prompt: Tokens): number {
    return this.#model.routing === "reference" ? 0 : common(kept.ids, prompt);
  }

  /** A sequence that holds the first `length` ids of the prompt, and no more. */
  #sequenceFor(owner: object, prompt: Tokens): { sequence: Sequence; length: number } {
    // Under "reference" routing the tokens of a call are routed together: a prompt in two calls would be another one.
    if (this.#model.routing === "reference") return { sequence: this.#model.sequence(), length: 0 };
    const length = (kept: Kept): number => this.#shared(kept, prompt);
    const best = this.#best(owner, prompt);
    const own = this.#take(owner);
    for (const kept of own) if (kept !== best) kept.sequence.close();
    if (best === undefined || length(best) === 0) {
      if (best !== undefined && own.includes(best)) best.sequence.close();
      return { sequence: this.#model.sequence(), length: 0 };
    }
    // Another one's conversation stays as it is: only its beginning is shared.
    const sequence = best.owner === owner ? best.sequence : best.sequence.fork();
    sequence.rewind(length(best));
    return { sequence, length: length(best) };
  }

  #take(owner: object): Kept[] {
    const own = this.#kept.filter((kept) => kept.owner === owner);
    this.#kept = this.#kept.filter((kept) => kept.owner !== owner);
    return own;
  }

  /** Forget what was used longest ago; its length, or undefined when nothing is kept. */
  #drop(): number | undefined {
    const oldest = this.#kept.shift();
    const length = oldest?.sequence.length;
    oldest?.sequence.close();
    return length;
  }
}

/** Ids that both begin with; one less than the prompt at most, so that there is one to go on with. */
function common(ids: readonly number[], prompt: Tokens): number {
  const most = Math.min(ids.length, prompt.length - 1);
  let length = 0;
  while (length < most && ids[length] === prompt[length]) length++;
  return length;
}
