// Prompt ids to ids and text in chunks: the only loop above a backend. The first chunk is one token, later ones are as long as the
// scheduler makes its calls; the next chunk already runs while this one is read, and what nobody gets to see is taken back.
import type { Drawn, Model, Sequence, Tokens } from "../backend.ts";
import { DogeError, isDogeError } from "../errors.ts";
import { needsHost, type Processing, processingOf, validateProcessing } from "../sampling/processing.ts";
import { Processors } from "../sampling/processors.ts";
import { completeSampling, type SamplingOptions } from "../sampling/sampling.ts";
import { show } from "../show.ts";
import { StopStrings } from "../text/stop.ts";
import type { Streamer } from "../text/streamer.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type Draft, type Drawer, deviceDrawer, hostDrawer } from "./drawer.ts";
import { promptLogprobs } from "./echo.ts";
import { Generation, type GenerationResult, type Piece } from "./generation.ts";
import { PieceText } from "./piece-text.ts";
import { Scheduler } from "./scheduler.ts";

export interface LoopOptions extends SamplingOptions, Processing {
  /** Default: until a stop or the context is full. 0: only append the prompt. */
  readonly maxNewTokens?: number | undefined;
  /** Ids that end the text; they are returned. Default: the model's, from its config. */
  readonly stop?: readonly number[] | undefined;
  /** At most 16 strings that end the text; no part of one is ever in it. They need the tokenizer. */
  readonly stopStrings?: readonly string[] | string | undefined;
  /** 0: ln p of every id; k up to 20: and of the k most likely. */
  readonly logprobs?: number | undefined;
  /** The prompt comes first: its text, its ids and, with logprobs, ln p of them. */
  readonly echo?: boolean | undefined;
  /** Without it there is no text, only ids. */
  readonly tokenizer?: Tokenizer | null | undefined;
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Ends the generation with the stop reason "abort"; what came before stays. */
  readonly signal?: AbortSignal | undefined;
  /** Is given the prompt's ids when the generation begins, then those of each piece; what it throws ends the generation. */
  readonly streamer?: Streamer | undefined;
}

/** Where a generation takes place. */
export interface Place {
  readonly sequence: Sequence;
  /** What of the prompt the sequence does not hold yet; empty: go on from its last token. */
  readonly tokens: Tokens;
  /** A call did not fit: give up something else that is kept, or wait for what will be given up; false when there is nothing. */
  free?(): boolean | Promise<boolean>;
  /** Nothing runs any more. The sequence holds its ids before, `tokens` and the new `ids`, unless it failed. */
  leave(ids: Tokens, failed: boolean): void;
}

/** Continue `input`: ids, or the ids to append to a sequence first (empty: from its last token). Nothing runs before the first
 *  piece or the result is asked for. A sequence ends with exactly the ids that were given out; it is the caller's to close.
 *  Generations of one scheduler share their calls. Errors (at once): "invalid-argument"; (from the pieces and the result) those of Model.sample. */
export function generate(
  model: Model | Scheduler,
  input: Tokens | { readonly sequence: Sequence; readonly tokens: Tokens },
  options: LoopOptions = {},
): Generation {
  const own = input instanceof Int32Array;
  const tokens = (own ? input : input.tokens).slice();
  if (!own && input.sequence.length > 0 && Object.keys(processingOf(options)).length > 0) {
    throw new DogeError(
      "invalid-argument",
      `${Object.keys(processingOf(options)).join(", ")}: these options look at all ids of a text, and the sequence holds ${input.sequence.length} that are not known here; give all ids to a new sequence.`,
    );
  }
  const scheduler = model instanceof Scheduler ? model : new Scheduler(model);
  return generateAt(scheduler, tokens, options, async () => {
    const sequence = own ? scheduler.model.sequence() : input.sequence;
    return { sequence, tokens, leave: () => own && sequence.close() };
  });
}

/** As generate(), at a place that is looked for when it begins; whoever gives it may ask the generation to run on without its
 *  reader. `loadMs` is passed on in the timings; `onEnd` is told when it has left its place. */
export function generateAt(
  scheduler: Scheduler,
  promptIds: Tokens,
  options: LoopOptions,
  enter: (runOn: () => void) => Promise<Place>,
  more: Partial<Pick<GenerationResult, "truncated">> & {
    readonly loadMs?: number;
    readonly onEnd?: (result: GenerationResult) => void;
  } = {},
): Generation {
  const settings = prepare(scheduler.model, promptIds, options);
  const { loadMs, onEnd, ...rest } = more;
  const result: Mutable<GenerationResult> = {
    text: settings.tokenizer === null ? null : "",
    ids: new Int32Array(0),
    promptIds,
    stopReason: "abort",
    seed: settings.sampling.seed,
    drawnOn: settings.host ? "host" : "device",
    timings: {
      prefillTokens: 0,
      prefillMs: 0,
      decodeTokens: 0,
      decodeMs: 0,
      ...(loadMs === undefined ? {} : { loadMs }),
    },
    ...rest,
  };
  if (options.logprobs !== undefined) result.logprobs = [];
  async function* run(): AsyncGenerator<Piece, void, undefined> {
    let place: Place;
    try {
      place = await enter(() => generation.runOn());
    } catch (error) {
      if (isDogeError(error, "aborted") && options.signal?.aborted) return;
      throw error;
    }
    result.timings = { ...result.timings, prefillTokens: place.tokens.length };
    let failed = false;
    const made: number[] = [];
    try {
      options.streamer?.put(promptIds);
      for await (const piece of loop(scheduler, place, settings, result, made)) {
        if (piece.ids !== promptIds) options.streamer?.put(piece.ids); // with echo, the first piece is the prompt
        yield piece;
      }
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      place.leave(Int32Array.from(made), failed);
      onEnd?.(result);
      if (!failed) options.streamer?.end();
    }
  }
  const generation = new Generation(run(), () => result);
  return generation;
}

type Mutable<T> = { -readonly [name in keyof T]: T[name] };
type Settings = ReturnType<typeof prepare>;

function prepare(model: Model, promptIds: Tokens, options: LoopOptions) {
  const { maxNewTokens = Number.POSITIVE_INFINITY, logprobs, tokenizer = null, skipSpecialTokens = true } = options;
  const { echo = false, signal } = options;
  if (!(maxNewTokens === Number.POSITIVE_INFINITY || Number.isInteger(maxNewTokens)) || maxNewTokens < 0) {
    throw new DogeError(
      "invalid-argument",
      `maxNewTokens is ${show(maxNewTokens)}; it must be a whole number, 0 or more, or Infinity.`,
    );
  }
  if (logprobs !== undefined && !(Number.isInteger(logprobs) && logprobs >= 0 && logprobs <= 20)) {
    throw new DogeError("invalid-argument", `logprobs is ${show(logprobs)}; it must be a whole number from 0 to 20.`);
  }
  const { temperature, topK, topP, minP, repetitionPenalty, seed } = options;
  const stop = options.stop ?? model.config.eosIds;
  const sampling = completeSampling({ temperature, topK, topP, minP, repetitionPenalty, seed, stop });
  const stopStrings = new StopStrings(options.stopStrings);
  if (!stopStrings.none && tokenizer === null) {
    throw new DogeError("tokenizer-missing", "Stop strings need a tokenizer, and this model has none; use stop ids.");
  }
  const processing = processingOf(options);
  const vocabulary = model.config.vocabSize;
  validateProcessing(processing, vocabulary);
  const host = needsHost(processing, sampling.temperature === 0);
  const promptLength = promptIds.length;
  const maxLength = Math.min(promptLength + maxNewTokens, model.context);
  /** A new one for a run: it grows with the text. */
  const processors = (): Processors => {
    const made = new Processors(processing, { vocabulary, promptLength, eos: stop, maxLength });
    made.push(promptIds);
    return made;
  };
  const plain = Object.keys(processing).length === 0;
  return {
    ...{ maxNewTokens, logprobs, tokenizer, skipSpecialTokens, sampling, stopStrings, echo, signal, promptIds },
    ...{ host, processors: plain ? undefined : processors },
  };
}

/** A chunk on its way. */
interface Flight extends Draft {
  /** How long it took, once it is there. */
  readonly milliseconds: () => number;
}

async function* loop(
  scheduler: Scheduler,
  place: Place,
  settings: Settings,
  result: Mutable<GenerationResult>,
  ids: number[],
): AsyncGenerator<Piece, void, undefined> {
  const { model } = scheduler;
  const { sequence } = place;
  const { sampling, maxNewTokens, logprobs, signal } = settings;
  const leaving = new AbortController();
  const either = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
  const call = <T>(run: () => Promise<T>): Promise<T> => fitting(place, run);
  const processors = settings.processors?.();
  const parts = { scheduler, sequence, sampling, alternatives: logprobs, signal: either, call };
  const drawer =
    settings.host && processors !== undefined
      ? hostDrawer({ ...parts, processors })
      : deviceDrawer({ ...parts, processors });
  const text = new PieceText(settings);
  let kept: number | undefined; // how long the sequence is to be in the end, once the prompt is in it
  let flight: Flight | undefined; // the chunk that nobody has taken yet
  let failed = false;

  const submit = (row: Tokens, count: number): Flight => {
    const start = performance.now();
    let took = 0;
    const draft = drawer.draw(row, count);
    const drawn = draft.drawn.finally(() => {
      took = performance.now() - start;
    });
    drawn.catch(() => {}); // it may reject while nobody waits for it yet; whoever takes it sees the error
    return { ...draft, drawn, milliseconds: () => took };
  };
  try {
    let tokens = place.tokens;
    if (settings.echo) {
      tokens = await echo(model, place, settings, result, either);
      const shown = text.prompt(settings.promptIds);
      if (result.text !== null) result.text = shown;
      result.ids = settings.promptIds;
      yield { text: shown, ids: settings.promptIds };
    }
    flight = submit(tokens, Math.min(1, maxNewTokens));
    while (flight !== undefined) {
      const landed: Flight = flight;
      const drawn = await landed.drawn;
      flight = undefined;
      kept ??= drawer.length - drawn.ids.length;
      const wanted = maxNewTokens - ids.length - drawn.ids.length;
      const last = drawn.ids.at(-1);
      const stopped = last !== undefined && sampling.stop.includes(last);
      const missing = drawn.ids.length < drawn.asked;
      const ended = stopped || missing || wanted === 0;
      measure(result, ids.length === 0, drawn.ids.length, landed.milliseconds());
      processors?.push(drawn.ids);
      if (!ended && !signal?.aborted) flight = submit(new Int32Array(0), wanted);
      const piece = text.push(drawn.ids);
      ids.push(...piece.ids);
      kept += piece.ids.length;
      addLogprobs(result, drawn, piece.ids.length);
      result.ids = Int32Array.from(settings.echo ? [...settings.promptIds, ...ids] : ids);
      const done = ended || text.stopped;
      const nothing = missing && landed.masked && drawer.length < model.context;
      if (done) result.stopReason = text.stopped ? "stop" : stopped ? "eos" : nothing ? "exhausted" : "length";
      const shown = done ? piece.text + text.end() : piece.text;
      if (result.text !== null) result.text += shown;
      if (piece.ids.length > 0) yield { text: shown, ids: piece.ids };
      if (done) break;
    }
  } catch (error) {
    failed = true; // the call that failed took back what it did
    if (!(isDogeError(error, "aborted") && signal?.aborted)) throw error;
  } finally {
    // Left early, by an abort or a stop string: what is still on its way is given up, what nobody saw is taken back.
    if (flight !== undefined) {
      leaving.abort();
      await flight.drawn.catch(() => {});
    }
    if (kept !== undefined) await settle(drawer, kept, failed);
    if (result.stopReason === "abort" && result.text !== null) result.text += text.end();
  }
}

/** Make a call; again, where it did not fit and the place could make room. */
export async function fitting<T>(place: Pick<Place, "free">, call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!isDogeError(error, "no-room") || !(await place.free?.())) throw error;
    }
  }
}

/** Errors: where nothing has failed yet, those of a call. */
async function settle(drawer: Drawer, length: number, failed: boolean): Promise<void> {
  try {
    await drawer.settle(length);
  } catch (error) {
    if (!failed) throw error;
  }
}

/** ln p of the prompt's tokens where they are asked for, for which all of them are evaluated. What is left to append. */
async function echo(
  model: Model,
  { sequence, tokens }: Place,
  { promptIds, logprobs }: Settings,
  result: Mutable<GenerationResult>,
  signal: AbortSignal,
): Promise<Tokens> {
  if (logprobs === undefined) return tokens;
  const start = performance.now();
  if (promptIds.length > tokens.length) sequence.rewind(0);
  result.logprobs = await promptLogprobs(model, sequence, promptIds, logprobs, signal);
  const milliseconds = performance.now() - start;
  result.timings = { ...result.timings, prefillTokens: promptIds.length, prefillMs: milliseconds };
  return new Int32Array(0);
}

function measure(result: Mutable<GenerationResult>, first: boolean, count: number, milliseconds: number): void {
  const { timings } = result;
  result.timings = first
    ? { ...timings, prefillMs: timings.prefillMs + milliseconds }
    : { ...timings, decodeTokens: timings.decodeTokens + count, decodeMs: timings.decodeMs + milliseconds };
}

function addLogprobs(result: Mutable<GenerationResult>, drawn: Drawn, count: number): void {
  if (result.logprobs === undefined) return;
  const width = drawn.topIds.length / Math.max(1, drawn.ids.length);
  const added = Array.from(drawn.ids.subarray(0, count), (id, index) => ({
    id,
    logprob: drawn.logprobs[index]!,
    top: Array.from(
      drawn.topIds.subarray(index * width, (index + 1) * width),
      (other, place): readonly [number, number] => [other, drawn.topLogprobs[index * width + place]!],
    ),
  }));
  result.logprobs = [...result.logprobs, ...added];
}
