// Times a loaded model: prompts and decoding, as a caller meets them, until the clock has settled and then `reps` times.
import type { Model, Sampling, Sequence, Tokens } from "@doge-lm/core";
import { DogeError, defaultSampling } from "@doge-lm/core";
import type { Counts } from "@doge-lm/webgpu/counter";
import { hashOf } from "../output.ts";
import type { Watched } from "./gpu.ts";
import { randomIds } from "./random-checkpoint.ts";

export interface Plan {
  /** Tokens of the prompt whose reading is timed. */
  readonly prompt: number;
  /** Tokens drawn for each timing of decoding. */
  readonly decode: number;
  readonly rows: number;
  readonly reps: number;
  /** Where decoding is timed: the last `decode` tokens that end there; 16 stands for 16 + decode. */
  readonly contexts: readonly number[];
}

export interface Measured {
  /** Milliseconds of the very first call: nothing is warm, the prompt is read and a token drawn. */
  readonly firstTokenMs: number;
  /** Milliseconds of every repetition. */
  readonly prefillMs: readonly number[];
  readonly decodeMs: ReadonlyMap<number, readonly number[]>;
  /** What the counter counted while the last repetition at each context was decoded; empty without one. */
  readonly counts: ReadonlyMap<number, Counts>;
  /** Of the logits behind the prompt, then behind every text that was decoded, all rows. */
  readonly hash: string;
}

/** The most a call draws, as in generate(). */
const chunk = 64;
const greedy: Sampling = { ...defaultSampling, temperature: 0, stop: [] };
const nothing: Tokens = new Int32Array(0);

/** Tokens before the first one drawn, which is not timed, when the `decode` tokens behind it end at `context`. */
const startOf = (context: number, decode: number): number => (context === 16 ? 16 : Math.max(1, context - decode - 1));

/** Tokens that the longest text of the plan takes. */
export const longest = ({ prompt, decode, contexts }: Plan): number =>
  Math.max(prompt + 1, ...contexts.map((context) => startOf(context, decode) + 1 + decode));

/** `tell` is called with what is being done; `counter` stands around the model's GPU. Errors: "numerical" when a repetition does
 *  not repeat. */
export async function measure(
  model: Model,
  plan: Plan,
  tell: (what: string) => void,
  counter?: Watched["counter"],
): Promise<Measured> {
  const { prompt, decode, rows, reps, contexts } = plan;
  const { vocabSize } = model.config;
  const texts = Array.from({ length: rows }, (_, row) => randomIds(longest(plan), vocabSize, row + 1));
  const sequences: Sequence[] = [];
  const open = (): Sequence[] => {
    const opened = texts.map(() => model.sequence());
    sequences.push(...opened);
    return opened;
  };
  /** Milliseconds of one call: append these tokens to each row and draw `count` more. */
  const draw = async (to: readonly Sequence[], tokens: (text: Tokens) => Tokens, count: number) => {
    const start = performance.now();
    const drawn = await model.sample(
      to.map((sequence, row) => ({ sequence, tokens: tokens(texts[row]!), count, sampling: greedy })),
    );
    return { milliseconds: performance.now() - start, ids: drawn.map(({ ids }) => ids) };
  };
  const read = (to: readonly Sequence[]) => draw(to, (text) => text.slice(0, prompt), 1);
  /** Decode from `from` on, anew: what was there before is forgotten. */
  const write = async (to: readonly Sequence[], from: number, count: number) => {
    for (const sequence of to) sequence.rewind(from - 1);
    await draw(to, (text) => text.slice(from - 1, from), 1);
    counter?.reset();
    const start = performance.now();
    const ids: Tokens[][] = [];
    for (let left = count; left > 0; left -= chunk) {
      ids.push((await draw(to, () => nothing, Math.min(chunk, left))).ids);
    }
    return { milliseconds: performance.now() - start, ids };
  };
  const logits: Float32Array[] = [];
  const look = async (at: readonly Sequence[]) => {
    logits.push(...(await model.forward(at.map((sequence) => ({ sequence, tokens: nothing })))));
  };

  try {
    tell("first token");
    let at = open();
    const { milliseconds: firstTokenMs } = await read(at);
    await settle(tell, async () => {
      for (const sequence of at) sequence.rewind(0);
      await read(at);
      await write(at, Math.min(prompt, 16), Math.min(decode, 32));
    });

    const prefillMs: number[] = [];
    for (let rep = 0; rep < reps; rep++) {
      tell(`prompt of ${prompt}, ${rep + 1} of ${reps}`);
      for (const sequence of at) sequence.close();
      at = open();
      prefillMs.push((await read(at)).milliseconds);
    }
    for (const sequence of at) sequence.rewind(prompt);
    await look(at);

    const decodeMs = new Map<number, number[]>();
    const counts = new Map<number, Counts>();
    for (const context of contexts) {
      const from = startOf(context, decode);
      for (const sequence of at) sequence.close();
      at = open();
      tell(`reading ${from} tokens`);
      if (from > 1) await draw(at, (text) => text.slice(0, from - 1), 0);
      const times: number[] = [];
      let before: string | undefined;
      for (let rep = 0; rep < reps; rep++) {
        tell(`decoding to ${from + 1 + decode}, ${rep + 1} of ${reps}`);
        const { milliseconds, ids } = await write(at, from, decode);
        times.push(milliseconds);
        if (counter !== undefined) counts.set(context, { ...counter.counts });
        const drawn = hashOf(Int32Array.from(ids.flat().flatMap((part) => [...part])));
        if (before !== undefined && drawn !== before) {
          throw new DogeError(
            "numerical",
            `Decoding to ${from + 1 + decode} tokens drew other ids the second time: the same call must give the same result.`,
            { scope: "cli" },
          );
        }
        before = drawn;
      }
      await look(at);
      decodeMs.set(context, times);
    }
    const hash = hashOf(Float32Array.from(logits.flatMap((row) => [...row])));
    return { firstTokenMs, prefillMs, decodeMs, counts, hash };
  } finally {
    for (const sequence of sequences) sequence.close();
  }
}

/** Run until a round is no faster than the best before it and a second has passed: engines compile hot code as they go. */
async function settle(tell: (what: string) => void, round: () => Promise<void>): Promise<void> {
  const begin = performance.now();
  let best = Number.POSITIVE_INFINITY;
  for (let rounds = 1; ; rounds++) {
    tell(`warming up, round ${rounds}`);
    const start = performance.now();
    await round();
    const took = performance.now() - start;
    const settled = rounds >= 3 && took > 0.97 * best;
    best = Math.min(best, took);
    const spent = performance.now() - begin;
    if ((settled && spent > 1000) || spent > 8000) return;
  }
}
