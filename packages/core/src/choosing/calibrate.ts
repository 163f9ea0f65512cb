// How fast a backend decodes a model of some shape, found out in a moment and without the model.
//
// A token takes T = F + L * u: u for each of the L layers with its share of the LM head, F once (embedding, last norm, draw, the way
// to the device). A slice of one layer takes t1 = F + u, one of two layers t2 = F + 2u, so
//
//     T = t1 + (L - 1) * u    with u = t2 - t1, kept within t1 / 10 ... t1;    with one slice alone, T = L * t1, which counts F L times.
//
// Decoding reads every weight once for each token, layer after layer (the accounting of zeux/calm and karpathy/llama2.c), so it is linear
// in the layers. Left out is what grows with the context, and that the weights of a slice may lie in a cache where those of the whole
// do not: this says who is faster, not what a benchmark would say.
import type { Backend, DType, Model, Routing, Sampling, Tokens } from "../backend.ts";
import type { Config } from "../config.ts";
import { DogeError, isDogeError } from "../errors.ts";
import { defaultSampling } from "../sampling/sampling.ts";
import { within } from "./limit.ts";
import { sliceCheckpoint, sliceOf, weightsRead } from "./slice.ts";

export interface CalibrateOptions {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing?: Routing | undefined;
  /** What it may take, the loading of the second slice included. */
  readonly milliseconds: number;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds; default performance.now. */
  readonly now?: (() => number) | undefined;
}
type Settled = CalibrateOptions & { readonly signal: AbortSignal; now(): number };

const context = 256;
const prompt: Tokens = Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const sampling: Sampling = { ...defaultSampling, temperature: 0, stop: [] };
/** Tokens of a call. */
const steps = 16;
/** What takes less is not the backend's time but the clock's. */
const leastMs = 5;
/** The best of so many timings counts: whatever else a machine does makes them longer, never shorter. */
const mostTimings = 4;
/** Bytes of weights per second that no memory delivers to one text: the fastest of 2026 have 8 TB/s. */
const mostBytes = 2e13;
/** Calls for one timing, however fast they are. */
const mostCalls = 2000;
const bytesPerWeight: { readonly [Type in DType]: number } = { f32: 4, bf16: 2, q8: 1, q4: 0.5 };

/** A slice of so many layers, loaded. A GPU compiles kernels for it, all that a model of `config` needs, which at first may take seconds.
 *  Errors: those of Backend.load. */
export function loadSlice(
  backend: Backend,
  layers: number,
  { config, dtype, routing, signal }: Omit<CalibrateOptions, "milliseconds">,
): Promise<Model> {
  const checkpoint = sliceCheckpoint(sliceOf(config, layers, context));
  return backend.load(checkpoint, { dtype, routing, context, room: context, signal });
}

/** Tokens per second that `backend` decodes of a model of `config`, by its slice of one layer, which is closed then; undefined when the time
 *  was over before anything could be timed. Errors: "aborted" by the signal; "known-answer" for draws that cannot be and for more speed
 *  than any memory has; those of Backend.load and Model.sample. */
export async function calibrate(
  backend: Backend,
  slice: Model,
  options: CalibrateOptions,
): Promise<number | undefined> {
  const { config, milliseconds, signal, now = () => performance.now() } = options;
  const over = new AbortController();
  const settled = {
    ...options,
    now,
    signal: signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]),
  };
  const start = now();
  let found: number | undefined;
  const measure = async (): Promise<void> => {
    // Half of the time for the first slice; the second, twice as large, where it fits into what is left.
    const one = await timeOf(slice, settled, start + milliseconds / 2);
    found = 1000 / (config.layers * one);
    if (config.layers === 1 || 3 * (now() - start) > milliseconds) return;
    const two = await timeOf(await loadSlice(backend, 2, settled), settled, start + milliseconds);
    found = 1000 / (one + (config.layers - 1) * Math.min(Math.max(two - one, one / 10), one));
  };
  const timeout = () => new DogeError("aborted", `The calibration took longer than ${milliseconds.toFixed(0)} ms.`);
  try {
    await within(measure(), { milliseconds, timeout, signal });
  } catch (error) {
    if (signal?.aborted || !isDogeError(error, "aborted")) throw error;
  } finally {
    over.abort();
  }
  return found;
}

/** Milliseconds of a token in a slice, which is closed then: the best of the timings for which there is time, of one at least. */
async function timeOf(model: Model, options: Settled, until: number): Promise<number> {
  try {
    let best = await timing(model, options);
    for (let count = 1; count < mostTimings && options.now() < until; count++)
      best = Math.min(best, await timing(model, options));
    return best;
  } finally {
    model.close();
  }
}

/** Milliseconds of a token, over as many calls as the clock needs: some tell no more than tens of milliseconds. */
async function timing(model: Model, { signal, now, dtype }: Settled): Promise<number> {
  let sequence = model.sequence();
  const sample = async (tokens: Tokens, count: number): Promise<void> => {
    const [drawn] = await model.sample([{ sequence, tokens, count, sampling }], signal);
    const ids = [...(drawn?.ids ?? [])];
    if (ids.length === count && ids.every((id) => id >= 0 && id < model.config.vocabSize)) return;
    throw refusal(`draws ${ids.length === 0 ? "nothing" : ids.join(" ")} where ${count} ids are asked for`);
  };
  try {
    let calls = 0;
    let taken = 0;
    for (; taken < leastMs && calls < mostCalls; calls++) {
      if (sequence.length + steps > context) {
        sequence.close();
        sequence = model.sequence();
      }
      if (sequence.length === 0) await sample(prompt, 1);
      const start = now();
      await sample(new Int32Array(0), steps);
      taken += now() - start;
    }
    const bytes = calls * steps * weightsRead(model.config) * bytesPerWeight[dtype];
    if (!(taken >= leastMs && bytes < mostBytes * (taken / 1000))) {
      throw refusal(`decodes ${calls * steps} tokens in ${taken} ms, which no memory is fast enough for`);
    }
    return taken / (calls * steps);
  } finally {
    sequence.close();
  }
}

const refusal = (what: string): DogeError => new DogeError("known-answer", `It ${what}: it is not used.`);
