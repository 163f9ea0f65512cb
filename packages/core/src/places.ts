// Where the generations of one Doge take place: one after the other, each on the sequence that already holds the most of its
// prompt. Callers hand over whole prompts; what of them need not be evaluated again is found here.
import type { Model, Sequence, Tokens } from "./backend.ts";
import { aborted } from "./errors.ts";
import type { Place } from "./generate.ts";

/** A sequence kept after a generation, with the ids it holds. */
interface Kept {
  /** The session, or the Doge itself, whose last conversation it is. */
  readonly owner: object;
  readonly sequence: Sequence;
  readonly ids: readonly number[];
}

/** More would seldom be met again. */
const mostKept = 8;

export class Places {
  readonly #model: Model;
  /** Least recently used first. */
  #kept: Kept[] = [];
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  /** Of the one whose turn it is: go on without a reader. */
  #runOn: (() => void) | undefined;

  constructor(model: Model) {
    this.#model = model;
  }

  /** Wait until everything asked for before has ended; the function returned ends this. `runOn` is called when somebody waits
   *  for this to end, so that one that is not read cannot hold up the others. Errors: "aborted". */
  async turn(signal?: AbortSignal, runOn?: () => void): Promise<() => void> {
    this.#waiting++;
    this.#runOn?.();
    const end = await this.#turn(signal).finally(() => {
      this.#waiting--;
    });
    this.#runOn = runOn;
    if (this.#waiting > 0) runOn?.();
    return () => {
      this.#runOn = undefined;
      end();
    };
  }

  async #turn(signal: AbortSignal | undefined): Promise<() => void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = before.then(() => promise);
    if (signal === undefined) await before;
    else {
      const { promise: fired, resolve: fire } = Promise.withResolvers<void>();
      const onAbort = () => fire();
      signal.addEventListener("abort", onAbort, { once: true });
      if (!signal.aborted) await Promise.race([before, fired]);
      signal.removeEventListener("abort", onAbort);
      if (signal.aborted) {
        resolve();
        throw aborted(signal);
      }
    }
    return resolve;
  }

  /** A place for `prompt` and up to `count` new tokens, in turn. `runOn` as for turn(). Errors: "aborted", those of Model.sequence. */
  async enter(
    owner: object,
    prompt: Tokens,
    count: number,
    signal: AbortSignal | undefined,
    runOn: () => void,
  ): Promise<Place> {
    const done = await this.turn(signal, runOn);
    try {
      const { sequence, length } = this.#sequenceFor(owner, prompt);
      this.#makeRoom(prompt.length - length + Math.min(count, this.#model.context - prompt.length));
      return {
        sequence,
        tokens: prompt.slice(length),
        free: () => this.#drop(),
        leave: (ids, failed) => {
          // Under "reference" routing it could not be used again.
          const spent = failed || this.#model.routing === "reference";
          if (spent || sequence.length !== prompt.length + ids.length) sequence.close();
          else this.#kept.push({ owner, sequence, ids: [...prompt, ...ids] });
          if (this.#kept.length > mostKept) this.#drop();
          done();
        },
      };
    } catch (error) {
      done();
      throw error;
    }
  }

  /** Forget what was kept for `owner`, when its turn comes. */
  async forget(owner: object): Promise<void> {
    const done = await this.turn();
    for (const { sequence } of this.#take(owner)) sequence.close();
    done();
  }

  /** A sequence that holds the first `length` ids of the prompt, and no more. */
  #sequenceFor(owner: object, prompt: Tokens): { sequence: Sequence; length: number } {
    // Under "reference" routing the tokens of a call are routed together: a prompt in two calls would be another one.
    if (this.#model.routing === "reference") return { sequence: this.#model.sequence(), length: 0 };
    const length = (kept: Kept): number => common(kept.ids, prompt);
    const best = this.#kept.reduce<Kept | undefined>(
      (a, b) => (a === undefined || length(b) > length(a) || (length(b) === length(a) && b.owner === owner) ? b : a),
      undefined,
    );
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

  #makeRoom(tokens: number): void {
    while (this.#model.room < tokens && this.#drop());
  }

  /** Forget what was used longest ago; false when nothing is kept. */
  #drop(): boolean {
    const oldest = this.#kept.shift();
    oldest?.sequence.close();
    return oldest !== undefined;
  }
}

/** Ids that both begin with; one less than the prompt at most, so that there is one to go on with. */
function common(ids: readonly number[], prompt: Tokens): number {
  const most = Math.min(ids.length, prompt.length - 1);
  let length = 0;
  while (length < most && ids[length] === prompt[length]) length++;
  return length;
}
