// The providers of a choice on their way through it: probed, opened, proven, measured and put in order.
import type { Backend, DType, Model, Provider, Routing } from "../backend.ts";
import { assertKnownAnswer } from "../backend-kit/known-answer.ts";
import type { Config } from "../config.ts";
import { isProven } from "../contract/proven.ts";
import { aborted, DogeError } from "../errors.ts";
import { calibrate, loadSlice } from "./calibrate.ts";
import { within } from "./limit.ts";
import { keepRate, keptRate, type RateStore, rateKey } from "./rates.ts";
import { broken, type Rate, type Tried } from "./tried.ts";

export interface Candidate {
  readonly provider: Provider;
  readonly spare: boolean;
  tried: Tried;
  rate: Rate | undefined;
  /** It has been measured in vain, now or before. */
  untimed: boolean;
  /** Others were ready, and it was not waited for. */
  late: boolean;
  /** Under way, or over. */
  opening: Promise<Backend> | undefined;
  /** Open already, and nobody's yet. */
  opened: Backend | undefined;
  /** A slice of the model that is being loaded on it; one that is loaded. */
  loading: Promise<Model> | undefined;
  slice: Model | undefined;
  /** Ends what is awaited of it when nobody wants it any more. */
  readonly stop: AbortController;
}

/** What is to run, and how it is found out. */
export interface Search {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing | undefined;
  readonly machine: string;
  readonly rates: RateStore | null;
  readonly afresh: boolean;
  /** Milliseconds for the calibration of all. */
  readonly budget: number;
  readonly signal: AbortSignal | undefined;
  now(): number;
}

/** Longer than a probe or an opening takes, those included that compile shaders for a software adapter on a busy machine (14 s were seen). */
const probeMs = 5000;
const openMs = 60_000;
/** Nobody waits longer for one while another is ready: on a first visit a GPU may compile for so long what it then has for good. */
const patienceMs = 3000;
/** An abort is noticed within about so long (contract S1): what the last one takes too long is in the budget. */
const graceMs = 50;
/** One that comes earlier in the list is preferred to one that is faster by less: no calibration is more exact. */
const clearly = 1.1;

const silent = (what: string, milliseconds: number) => () =>
  new DogeError("unavailable", `${what} gave no answer in ${milliseconds / 1000} seconds.`);

/** Ask whether it can run here, with weights of this dtype. */
export async function probe(candidate: Candidate, { dtype, signal }: Search): Promise<void> {
  const { name } = candidate.provider;
  try {
    const limit = { milliseconds: probeMs, timeout: silent("Its probe", probeMs), signal };
    const availability = await within(candidate.provider.probe(), limit);
    if (!availability.available) {
      candidate.tried = { name, availability, state: "absent", reason: availability.why };
    } else if (!availability.dtypes.includes(dtype)) {
      const why = `It has no ${dtype} weights, only ${availability.dtypes.join(", ")}.`;
      candidate.tried = {
        name,
        availability: { available: false, code: "unsupported", why },
        state: "absent",
        reason: why,
      };
    } else {
      candidate.tried = { name, availability, state: "ready", reason: "" };
    }
  } catch (error) {
    if (signal?.aborted) throw aborted(signal);
    candidate.tried = broken(name, error);
  }
}

/** A backend of this provider that has given the known answer. Errors: those of Provider.open, "known-answer", "unavailable" when it
 *  takes too long. */
export function openProven(provider: Provider, signal: AbortSignal | undefined): Promise<Backend> {
  const open = async (): Promise<Backend> => {
    const backend = await provider.open(signal);
    try {
      if (!isProven(backend)) await assertKnownAnswer(backend, "It");
      return backend;
    } catch (error) {
      void backend.close().catch(() => {});
      throw error;
    }
  };
  const late = (backend: Backend) => void backend.close().catch(() => {});
  return within(open(), { milliseconds: openMs, timeout: silent("Opening it", openMs), late, signal });
}

/** Open it, unless that has been done; whether it is open then. */
export async function open(candidate: Candidate, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    candidate.opening ??= openProven(candidate.provider, eitherOf(candidate, signal));
    candidate.opened = await candidate.opening;
    return true;
  } catch (error) {
    if (signal?.aborted) throw aborted(signal);
    if (!candidate.stop.signal.aborted) candidate.tried = broken(candidate.provider.name, error);
    return false;
  }
}

const eitherOf = ({ stop }: Candidate, signal: AbortSignal | undefined): AbortSignal =>
  signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);

/** Close it in the background, however long that takes: what compiles goes on, since the driver keeps it for the next time. */
export function release(candidate: Candidate): void {
  const { opened, loading, stop } = candidate;
  stop.abort();
  const close = () => void opened?.close().catch(() => {});
  if (loading === undefined) close();
  else loading.then(close, close);
  candidate.opened = undefined;
}

/** Open it and load a slice of one layer on it; whether that is done then. */
async function prepare(candidate: Candidate, search: Search): Promise<boolean> {
  const { signal } = search;
  if (!(await open(candidate, signal))) return false;
  try {
    candidate.loading = loadSlice(candidate.opened!, 1, search);
    const slice = await within(candidate.loading, {
      milliseconds: openMs,
      timeout: silent("Loading a layer of the model on it", openMs),
      late: (model) => model.close(),
      signal: eitherOf(candidate, signal),
    });
    candidate.loading = undefined;
    if (candidate.late) slice.close();
    else candidate.slice = slice;
    return true;
  } catch (error) {
    if (signal?.aborted) throw aborted(signal);
    if (!candidate.stop.signal.aborted) candidate.tried = broken(candidate.provider.name, error);
    release(candidate);
    return false;
  }
}

/** Make them ready to be timed, side by side. One that takes long is late when another is ready, or is known to be of use. */
async function prepareAll(candidates: readonly Candidate[], search: Search, another: boolean): Promise<void> {
  const preparing = candidates.map((candidate) => prepare(candidate, search));
  const all = Promise.all(preparing);
  const ready = preparing.map(async (one) => {
    if (!(await one)) throw new Error("It is broken.");
  });
  const first = Promise.any(ready).catch(() => all);
  const { promise: patience, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, patienceMs);
  try {
    await Promise.race([all, patience.then(() => (another ? undefined : first))]);
  } finally {
    clearTimeout(timer);
  }
  for (const one of candidates) one.late = one.tried.state === "ready" && one.slice === undefined;
}

/** Find their rates: kept ones, and calibrations of the others, one after the other, so that none disturbs another. `least`: how many
 *  must be left to compare. */
export async function measure(candidates: readonly Candidate[], search: Search, least: number): Promise<void> {
  const { rates, afresh } = search;
  if (rates !== null && !afresh) await Promise.all(candidates.map((candidate) => recall(candidate, search, rates)));
  const unknown = candidates.filter(({ rate, untimed }) => rate === undefined && !untimed);
  const another = candidates.some(({ rate }) => rate !== undefined);
  await prepareAll(unknown, search, another);
  if (candidates.filter(({ tried }) => tried.state === "ready").length >= least) await calibrateAll(unknown, search);
  for (const { slice } of unknown) slice?.close();
  // Where none could be timed, the machine was too busy to remember anything of it.
  if (rates === null || candidates.every(({ rate }) => rate === undefined)) return;
  for (const candidate of unknown) {
    const { rate, untimed } = candidate;
    const kept = { tokensPerSecond: rate?.tokensPerSecond ?? null, real: false };
    if (rate !== undefined || untimed) await keepRate(rates, keyOf(candidate, search), kept);
  }
}

async function calibrateAll(candidates: readonly Candidate[], search: Search): Promise<void> {
  const { signal, budget, now } = search;
  const start = now();
  for (const one of candidates) one.untimed = one.late;
  // The last of the list first: what is left of its part, and the engine that has warmed up by then, are for the preferred ones.
  const calibrated = candidates.filter(({ late, slice }) => !late && slice !== undefined).reverse();
  for (const [index, candidate] of calibrated.entries()) {
    const milliseconds = Math.max(0, (budget - graceMs - (now() - start)) / (calibrated.length - index));
    try {
      const tokensPerSecond = await calibrate(candidate.opened!, candidate.slice!, { ...search, milliseconds });
      candidate.untimed = tokensPerSecond === undefined;
      if (tokensPerSecond !== undefined) candidate.rate = { tokensPerSecond, kept: false, real: false };
    } catch (error) {
      if (signal?.aborted) throw aborted(signal);
      candidate.tried = broken(candidate.provider.name, error);
      release(candidate);
    }
  }
}

/** Take what is kept of it. */
async function recall(candidate: Candidate, search: Search, rates: RateStore): Promise<void> {
  const { tokensPerSecond, real = false } = (await keptRate(rates, keyOf(candidate, search))) ?? {};
  candidate.untimed = tokensPerSecond === null;
  if (typeof tokensPerSecond === "number") candidate.rate = { tokensPerSecond, real, kept: true };
}

function keyOf({ provider: { name }, tried: { availability } }: Candidate, search: Search): string {
  if (!availability.available) throw new Error(`${name} cannot run and has no rate.`);
  return rateKey({ ...search, name, can: availability });
}

/** Keep what was seen in use in place of an estimate, and of several such rates the best: other work makes them lower, nothing higher. */
export async function observe(candidate: Candidate, search: Search, tokensPerSecond: number): Promise<void> {
  const { rate } = candidate;
  if (!(tokensPerSecond > 0) || (rate?.real && rate.tokensPerSecond >= tokensPerSecond)) return;
  candidate.rate = { tokensPerSecond, kept: false, real: true };
  if (search.rates !== null) await keepRate(search.rates, keyOf(candidate, search), { tokensPerSecond, real: true });
}

/** The fastest first; those without a rate behind the others, in the order given, and those behind that were late. */
export function ranked(candidates: readonly Candidate[]): Candidate[] {
  const late = candidates.filter((candidate) => candidate.late);
  const rest = candidates.filter((candidate) => !candidate.late);
  const rateOf = ({ rate }: Candidate): number => rate?.tokensPerSecond ?? 0;
  const order: Candidate[] = [];
  while (rest.length > 0) {
    const best = Math.max(...rest.map(rateOf));
    const next = rest.findIndex((candidate) => rateOf(candidate) * clearly >= best);
    order.push(...rest.splice(next, 1));
  }
  return [...order, ...late];
}
