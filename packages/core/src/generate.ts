// Prompt ids to ids and text in chunks: the only loop above a backend. The first chunk is one token, later ones take about 50
// ms by the clock; the next chunk already runs while this one is read, and tokens that nobody gets to see are taken back.
import type { Drawn, Model, Sequence, Tokens } from "./backend.ts";
import { show } from "./checked-rows.ts";
import { DogeError, isDogeError } from "./errors.ts";
import { Generation, type GenerationResult, type Piece } from "./generation.ts";
import { completeSampling, type SamplingOptions } from "./sampling.ts";
import { StopStrings } from "./stop.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface LoopOptions extends SamplingOptions {
  /** Default: until a stop or the context is full. 0: only append the prompt. */
  readonly maxNewTokens?: number | undefined;
  /** Ids that end the text; they are returned. Default: the model's, from its config. */
  readonly stop?: readonly number[] | undefined;
  /** At most 16 strings that end the text; no part of one is ever in it. They need the tokenizer. */
  readonly stopStrings?: readonly string[] | string | undefined;
  /** 0: ln p of every id; k up to 20: and of the k most likely. */
  readonly logprobs?: number | undefined;
  /** Without it there is no text, only ids. */
  readonly tokenizer?: Tokenizer | null | undefined;
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Ends the generation with the stop reason "abort"; what came before stays. */
  readonly signal?: AbortSignal | undefined;
}

/** Milliseconds a chunk should take: short enough to look like a stream and to stop, long enough to make crossings rare. */
const chunkTime = 50;
/** A rewind of more would be past what backends undo cheaply. */
const largestChunk = 64;

/** Where a generation takes place. */
export interface Place {
  readonly sequence: Sequence;
  /** What of the prompt the sequence does not hold yet; empty: go on from its last token. */
  readonly tokens: Tokens;
  /** A call did not fit: give up something else that is kept, if there is anything. */
  free?(): boolean;
  /** Nothing runs any more. The sequence holds its ids before, `tokens` and `ids`, unless it failed. */
  leave(ids: Tokens, failed: boolean): void;
}

/** Continue `input`: ids, or the ids to append to a sequence first (empty: from its last token). Nothing runs before the first
 *  piece or the result is asked for. A sequence ends with exactly the ids that were given out; it is the caller's to close.
 *  Errors (at once): "invalid-argument"; (from the pieces and the result) those of Model.sample. */
export function generate(
  model: Model,
  input: Tokens | { readonly sequence: Sequence; readonly tokens: Tokens },
  options: LoopOptions = {},
): Generation {
  const own = input instanceof Int32Array;
  const tokens = (own ? input : input.tokens).slice();
  return generateAt(model, tokens, options, async () => {
    const sequence = own ? model.sequence() : input.sequence;
    return { sequence, tokens, leave: () => own && sequence.close() };
  });
}

/** As generate(), at a place that is looked for when it begins. `loadMs` is passed on in the timings. */
export function generateAt(
  model: Model,
  promptIds: Tokens,
  options: LoopOptions,
  enter: () => Promise<Place>,
  more: Partial<Pick<GenerationResult, "truncated">> & { readonly loadMs?: number } = {},
): Generation {
  const settings = prepare(model, options);
  const { loadMs, ...rest } = more;
  const result: Mutable<GenerationResult> = {
    text: settings.tokenizer === null ? null : "",
    ids: new Int32Array(0),
    promptIds,
    stopReason: "abort",
    seed: settings.sampling.seed,
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
      place = await enter();
    } catch (error) {
      if (isDogeError(error, "aborted") && options.signal?.aborted) return;
      throw error;
    }
    result.timings = { ...result.timings, prefillTokens: place.tokens.length };
    let failed = false;
    try {
      yield* loop(model, place, settings, result);
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      place.leave(result.ids, failed);
    }
  }
  return new Generation(run(), () => result);
}

type Mutable<T> = { -readonly [name in keyof T]: T[name] };
type Settings = ReturnType<typeof prepare>;

function prepare(model: Model, options: LoopOptions) {
  const { maxNewTokens = Number.POSITIVE_INFINITY, logprobs, tokenizer = null, skipSpecialTokens = true } = options;
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
  return { maxNewTokens, logprobs, tokenizer, skipSpecialTokens, sampling, stopStrings, signal: options.signal };
}

/** A chunk on its way. */
interface Flight {
  readonly count: number;
  readonly drawn: Promise<Drawn>;
  /** How long it took, once it is there. */
  readonly milliseconds: () => number;
}

async function* loop(
  model: Model,
  place: Place,
  settings: Settings,
  result: Mutable<GenerationResult>,
): AsyncGenerator<Piece, void, undefined> {
  const { sequence, tokens } = place;
  const { sampling, maxNewTokens, logprobs, signal } = settings;
  const leaving = new AbortController();
  const either = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
  const ids: number[] = [];
  const text = new PieceText(settings);
  let kept: number | undefined; // how long the sequence is to be in the end, once the prompt is in it
  let flight: Flight | undefined; // the chunk that nobody has taken yet

  const sample = async (row: Tokens, count: number): Promise<Drawn> => {
    for (;;) {
      try {
        const [only] = await model.sample([{ sequence, tokens: row, count, sampling, alternatives: logprobs }], either);
        return only!;
      } catch (error) {
        if (!isDogeError(error, "no-room") || !place.free?.()) throw error;
      }
    }
  };
  const submit = (row: Tokens, count: number): Flight => {
    const start = performance.now();
    let took = 0;
    const drawn = sample(row, count).finally(() => {
      took = performance.now() - start;
    });
    drawn.catch(() => {}); // it may reject while nobody waits for it yet; whoever takes it sees the error
    return { count, drawn, milliseconds: () => took };
  };
  try {
    flight = submit(tokens, Math.min(1, maxNewTokens));
    while (flight !== undefined) {
      const landed: Flight = flight;
      const drawn = await landed.drawn;
      flight = undefined;
      kept ??= sequence.length - drawn.ids.length;
      const wanted = maxNewTokens - ids.length - drawn.ids.length;
      const last = drawn.ids.at(-1);
      const stopped = last !== undefined && sampling.stop.includes(last);
      const ended = stopped || drawn.ids.length < landed.count || wanted === 0;
      measure(result, ids.length === 0, drawn.ids.length, landed.milliseconds());
      if (!ended && !signal?.aborted) {
        // The first chunk tells nothing of the pace: a prompt was read in it.
        const pace = landed.milliseconds() / drawn.ids.length;
        const fitting = ids.length === 0 ? 1 : Math.round(chunkTime / Math.max(pace, 1e-3));
        flight = submit(new Int32Array(0), Math.min(Math.max(fitting, 1), largestChunk, wanted));
      }
      const piece = text.push(drawn.ids);
      ids.push(...piece.ids);
      kept += piece.ids.length;
      addLogprobs(result, drawn, piece.ids.length);
      result.ids = Int32Array.from(ids);
      const done = ended || text.stopped;
      if (done) result.stopReason = text.stopped ? "stop" : stopped ? "eos" : "length";
      const shown = done ? piece.text + text.end() : piece.text;
      if (result.text !== null) result.text += shown;
      if (piece.ids.length > 0) yield { text: shown, ids: piece.ids };
      if (done) break;
    }
  } catch (error) {
    kept = undefined; // the call that failed took back what it did
    if (!(isDogeError(error, "aborted") && signal?.aborted)) throw error;
  } finally {
    // Left early, by an abort or a stop string: what is still on its way is given up, what nobody saw is taken back.
    if (flight !== undefined) {
      leaving.abort();
      await flight.drawn.catch(() => {});
    }
    if (kept !== undefined && sequence.length > kept) takeBack(sequence, kept);
    if (result.stopReason === "abort" && result.text !== null) result.text += text.end();
  }
}

function takeBack(sequence: Sequence, length: number): void {
  try {
    sequence.rewind(length);
  } catch (error) {
    // Closed meanwhile: there is nothing left to take back.
    if (!isDogeError(error, "closed") && !isDogeError(error, "device-lost")) throw error;
  }
}

function measure(result: Mutable<GenerationResult>, first: boolean, count: number, milliseconds: number): void {
  const { timings } = result;
  result.timings = first
    ? { ...timings, prefillMs: milliseconds }
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

/** Ids of a chunk to the text that may be shown of them. */
class PieceText {
  readonly #stream;
  readonly #size: number;
  readonly #stops: StopStrings;

  constructor({ tokenizer, skipSpecialTokens, stopStrings }: Settings) {
    this.#stream = tokenizer?.stream({ skipSpecial: skipSpecialTokens });
    this.#size = tokenizer?.size ?? 0;
    this.#stops = stopStrings;
  }

  get stopped(): boolean {
    return this.#stops.met;
  }

  /** The chunk up to the id that completes a stop string, if one does. */
  push(ids: Tokens): Piece {
    if (this.#stops.none) return { text: this.#decode(ids), ids };
    let text = "";
    for (let index = 0; index < ids.length; index++) {
      text += this.#stops.push(this.#decode(ids.subarray(index, index + 1)));
      if (this.#stops.met) return { text, ids: ids.slice(0, index + 1) };
    }
    return { text, ids };
  }

  /** What was held back: an unfinished character, the beginning of a stop string. */
  end(): string {
    if (this.#stops.met) return "";
    const rest = this.#stops.push(this.#stream?.end() ?? "");
    return rest + this.#stops.end();
  }

  /** A model's vocabulary may be padded beyond the tokenizer's: such ids have no text. */
  #decode(ids: Tokens): string {
    return this.#stream?.push(ids.filter((id) => id < this.#size)) ?? "";
  }
}
