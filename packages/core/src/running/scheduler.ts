// Rows that step together: several texts ask for their next tokens, and one call of the model, which reads the weights once,
// serves all that wait. What a text gets is what it would get alone (contract S3): only the calls are shared.
//
//   - A call takes about 50 ms by the clock: long enough to make crossings rare, short enough to look like a stream and to stop.
//   - Whoever asks while a call runs is in the next one. Nobody waits for a text whose reader is slow.
//   - A new text's prompt comes in slices, so that the others keep flowing. Under "reference" routing the tokens of a call are
//     routed together, so there a prompt is a call of its own, between calls of the others.
//   - An abort takes its own text out; a call that fails is made again text by text, so that only the one at fault fails.
import type { Drawn, Floats, Model, Row, SampleRow, Sequence, Tokens } from "../backend.ts";
import { aborted } from "../errors.ts";
import { defaultSampling } from "../sampling/sampling.ts";
import { nextTask } from "../task.ts";

/** Milliseconds of a call; of the prompt's slice in it where others draw; of slices where nobody draws yet. */
const callTime = 50;
const sliceTime = 25;
const promptTime = 200;
/** A rewind of more would be past what backends undo cheaply. */
const mostSteps = 64;
/** A slice of fewer tokens would read the weights too often. */
const leastSlice = 16;
/** Tokens of prompts in a call whose time is not known yet. */
const firstSlice = 64;

/** Tokens drawn, of so many asked for: fewer than that mean an end. */
export interface Portion extends Drawn {
  readonly asked: number;
}

interface Request {
  /** Those that asked before have smaller ones. */
  readonly turn: number;
  readonly kind: "sample" | "forward" | "score";
  readonly row: SampleRow;
  /** What of the row's tokens is not appended yet. */
  tokens: Tokens;
  /** Tokens of the sequence before it was touched; undefined: it was not. */
  before: number | undefined;
  readonly scores: Floats[];
  readonly signal: AbortSignal | undefined;
  resolve(value: never): void;
  reject(error: unknown): void;
  /** Told of the signal while it waits. */
  onAbort(): void;
}

/** What a request contributes to a call. */
interface Part {
  readonly request: Request;
  readonly tokens: Tokens;
  readonly count: number;
  /** Nothing of the request is left behind it. */
  readonly last: boolean;
}

export class Scheduler {
  readonly model: Model;
  /** Those not in a call, in the order they asked. */
  #waiting: Request[] = [];
  #asked = 0;
  #running = false;
  #lastKind: Request["kind"] = "score";
  /** The last call was a prompt under "reference" routing. */
  #wasPrompt = false;
  /** Whose draws were served last, and when: a text between two draws waits for nothing, but is there. */
  #lastDraw: { readonly sequence: Sequence; readonly at: number } | undefined;
  /** Milliseconds a step of `#paceRows` rows took last, and a token of a prompt. */
  #pace: number | undefined;
  #paceRows = 1;
  #promptPace: number | undefined;

  constructor(model: Model) {
    this.model = model;
  }

  /** As model.sample() of one row, with as many of the tokens it asks for as fit into a call: `asked` says how many. A row with
   *  tokens draws one. Errors: those of Model.sample. */
  sample(row: SampleRow, signal?: AbortSignal): Promise<Portion> {
    return this.#ask("sample", row, signal);
  }

  /** As model.forward() of one row. */
  async forward(row: Row, signal?: AbortSignal): Promise<Floats> {
    const all = { ...row, count: 0, sampling: defaultSampling };
    const { sequence, tokens } = row;
    if (this.model.routing === "reference" || tokens.length <= 1) return this.#ask("forward", all, signal);
    // All but the last token are appended as slices between the draws of others.
    const before = sequence.length;
    try {
      await this.sample({ ...all, tokens: tokens.slice(0, -1) }, signal);
      return await this.#ask<Floats>("forward", { ...all, tokens: tokens.slice(-1) }, signal);
    } catch (error) {
      takeBack(sequence, before);
      throw error;
    }
  }

  /** As model.score() of one row. */
  score(row: Row, signal?: AbortSignal): Promise<Floats> {
    return this.#ask("score", { ...row, count: 0, sampling: defaultSampling }, signal);
  }

  /** Hand to the model what waits, each alone: it is about to be closed. */
  flush(): void {
    for (const request of this.#waiting.splice(0)) void this.#alone(request);
  }

  #ask<T>(kind: Request["kind"], row: SampleRow, signal: AbortSignal | undefined): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const request: Request = {
      ...{ turn: this.#asked++, kind, row, tokens: row.tokens, before: undefined, scores: [], signal, resolve, reject },
      onAbort: () => {
        const at = this.#waiting.indexOf(request);
        if (at < 0) return;
        this.#waiting.splice(at, 1);
        fail(request, aborted(signal!));
      },
    };
    this.#wait(request);
    if (!this.#running) {
      this.#running = true;
      void this.#run();
    }
    return promise;
  }

  #wait(...requests: Request[]): void {
    for (const request of requests) {
      this.#waiting.push(request);
      request.signal?.addEventListener("abort", request.onAbort, { once: true });
      if (request.signal?.aborted) queueMicrotask(request.onAbort);
    }
    this.#waiting.sort((a, b) => a.turn - b.turn);
  }

  #take(requests: readonly Request[]): void {
    for (const request of requests) request.signal?.removeEventListener("abort", request.onAbort);
    this.#waiting = this.#waiting.filter((request) => !requests.includes(request));
  }

  /** Calls, as long as somebody waits. Each begins in a later task than the one before ended, so that all who were in that one
   *  have asked again. */
  async #run(): Promise<void> {
    for (;;) {
      await nextTask();
      const parts = this.#plan();
      if (parts.length === 0) break;
      this.#take(parts.map(({ request }) => request));
      if (parts.length === 1 && parts[0]!.last) await this.#alone(parts[0]!.request);
      else await this.#together(parts);
    }
    this.#running = false;
  }

  /** Who is in the next call, and with what. */
  #plan(): Part[] {
    const [only] = this.#waiting;
    if (this.#waiting.length === 1 && !this.#othersDraw(only!)) return [whole(only!, this.#steps(1))];
    const kinds = ["sample", "forward", "score"] as const;
    const turn = kinds.indexOf(this.#lastKind);
    // Kinds take turns: a call is of one.
    const kind = [1, 2, 3].map((step) => kinds[(turn + step) % 3]!).find((kind) => this.#waiting.some(of(kind)));
    if (kind === undefined) return [];
    this.#lastKind = kind;
    const all = this.#waiting.filter(of(kind));
    const prompts = all.filter(({ tokens }) => tokens.length > 0);
    const drawing = all.filter(({ tokens }) => tokens.length === 0);
    if (this.model.routing === "reference") {
      const prompt = prompts[0];
      this.#wasPrompt = prompt !== undefined && !(this.#wasPrompt && drawing.length > 0);
      return this.#wasPrompt
        ? [whole(prompt!, 1)]
        : drawing.map((request) => whole(request, this.#steps(drawing.length)));
    }
    const steps = this.#steps(drawing.length);
    const shared = prompts.length > 0 ? Math.max(1, Math.floor(steps / 2)) : steps;
    const others = drawing.length > 0 || this.#othersDraw(prompts[0] ?? all[0]!);
    return [...drawing.map((request) => whole(request, shared)), ...this.#slices(prompts, others)];
  }

  /** Another text drew a moment ago, and will soon ask for more. */
  #othersDraw({ row }: Request): boolean {
    if (this.#lastDraw === undefined || this.#lastDraw.sequence === row.sequence) return false;
    return performance.now() - this.#lastDraw.at < 4 * callTime;
  }

  /** As much of the prompts as fits: half for the first to ask, the rest for the shortest, so that neither waits for the other. */
  #slices(prompts: readonly Request[], shared: boolean): Part[] {
    const [oldest, ...others] = prompts;
    if (oldest === undefined) return [];
    const time = shared ? sliceTime : promptTime;
    let left = this.#promptPace === undefined ? firstSlice : Math.max(leastSlice, Math.floor(time / this.#promptPace));
    const slice = (request: Request, most: number): Part => {
      const { tokens } = request;
      left -= Math.min(tokens.length, most);
      return tokens.length <= most
        ? whole(request, 1)
        : { request, tokens: tokens.slice(0, most), count: 0, last: false };
    };
    const kept = others.length === 0 ? left : Math.min(oldest.tokens.length, Math.ceil(left / 2));
    const parts: Part[] = [];
    for (const request of others.sort((a, b) => a.tokens.length - b.tokens.length)) {
      if (left > kept) parts.push(slice(request, left - kept));
    }
    return [slice(oldest, left), ...parts];
  }

  /** Steps of `rows` rows that take about as long as a call should. */
  #steps(rows: number): number {
    if (this.#pace === undefined) return 1;
    const pace = this.#pace * Math.max(1, rows / this.#paceRows);
    return Math.min(Math.max(Math.round(callTime / Math.max(pace, 1e-3)), 1), mostSteps);
  }

  async #together(parts: readonly Part[]): Promise<void> {
    const giveUp = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    // The call may be about to end: its other rows would lose what they have in it.
    const onAbort = () => {
      timer ??= setTimeout(() => giveUp.abort(), callTime);
    };
    for (const { request } of parts) {
      request.before ??= request.row.sequence.length;
      request.signal?.addEventListener("abort", onAbort, { once: true });
      if (request.signal?.aborted) onAbort();
    }
    let results: readonly (Drawn | Floats)[] | undefined;
    try {
      results = await this.#call(parts, giveUp.signal);
    } catch {
      // Told below, or by the calls that are made in its place.
    }
    clearTimeout(timer);
    const again: Request[] = [];
    const more: Request[] = [];
    for (const [index, part] of parts.entries()) {
      const { request } = part;
      request.signal?.removeEventListener("abort", onAbort);
      if (request.signal?.aborted) fail(request, aborted(request.signal));
      else if (results === undefined) again.push(request);
      else if (!this.#done(part, results[index]!)) more.push(request);
    }
    this.#wait(...more);
    if (giveUp.signal.aborted) this.#wait(...again);
    else for (const request of again) await this.#alone(request);
  }

  /** One request, in a call of its own that its signal ends. */
  async #alone(request: Request): Promise<void> {
    const part = whole(request, this.#steps(1));
    try {
      const [result] = await this.#call([part], request.signal);
      this.#done(part, result!);
    } catch (error) {
      fail(request, error);
    }
  }

  async #call(parts: readonly Part[], signal: AbortSignal | undefined): Promise<readonly (Drawn | Floats)[]> {
    const { kind } = parts[0]!.request;
    const rows = parts.map(({ request, tokens, count }) => ({ ...request.row, tokens, count }));
    const start = performance.now();
    const results = await this.model[kind](rows, signal);
    const draws = parts.findLast(({ request, count }) => count > 0 && request.tokens.length === 0);
    if (draws !== undefined) this.#lastDraw = { sequence: draws.request.row.sequence, at: performance.now() };
    if (kind === "sample") this.#measure(parts, performance.now() - start);
    return results;
  }

  #measure(parts: readonly Part[], milliseconds: number): void {
    const steps = Math.max(...parts.map(({ count }) => count));
    const tokens = parts.reduce((sum, part) => sum + part.tokens.length, 0);
    if (tokens === 0 && steps > 0) {
      this.#pace = milliseconds / steps;
      this.#paceRows = parts.length;
    } else if (tokens > 0) {
      const drawing = (this.#pace ?? 0) * Math.max(0, steps - 1);
      this.#promptPace = Math.max(milliseconds - drawing, milliseconds / 8) / tokens;
    }
  }

  /** A part of the request is done. The whole: it is answered. Else false. */
  #done({ request, tokens, count, last }: Part, result: Drawn | Floats): boolean {
    if (request.kind === "score") request.scores.push(result as Floats);
    if (!last) request.tokens = request.tokens.slice(tokens.length);
    else if (request.kind === "sample") request.resolve({ ...(result as Drawn), asked: count } as never);
    else request.resolve((request.kind === "score" ? joined(request.scores) : result) as never);
    return last;
  }
}

const of =
  (kind: Request["kind"]) =>
  (request: Request): boolean =>
    request.kind === kind;

/** All that is left of a request: its tokens and a draw, or, where there are none, as many draws as it may have. */
function whole(request: Request, steps: number): Part {
  const { tokens, row } = request;
  return { request, tokens, count: Math.min(row.count, tokens.length > 0 ? 1 : steps), last: true };
}

/** A request ends without an answer: what was appended of it is taken back. */
function fail({ row, before, reject }: Request, error: unknown): void {
  if (before !== undefined) takeBack(row.sequence, before);
  reject(error);
}

/** A call that failed may have left nothing to take back, or nothing to take it back from. */
function takeBack(sequence: Sequence, length: number): void {
  try {
    if (sequence.length > length) sequence.rewind(length);
  } catch {
    // Closed, or its device is lost.
  }
}

function joined(parts: readonly Floats[]): Floats {
  if (parts.length === 1) return parts[0]!;
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
