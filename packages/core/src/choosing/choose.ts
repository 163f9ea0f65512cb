// Chooses the backend that decodes this model fastest here: by probe, by what the caller or DOGE_BACKEND names, and by a calibration
// whose results are kept. Of every backend it is said what became of it and why.
import type { Backend, DType, Provider, Routing } from "../backend.ts";
import type { Config } from "../config.ts";
import { type Fallback, outliving } from "../contract/recovery.ts";
import { aborted, DogeError } from "../errors.ts";
import {
  type Candidate,
  measure,
  observe,
  open,
  openProven,
  probe,
  ranked,
  release,
  type Search,
} from "./candidates.ts";
import type { RateStore } from "./rates.ts";
import { broken, nothingOpened, type Tried } from "./tried.ts";

export interface ChooseOptions {
  /** The model that is to run. Default: the shape of Doge-60M. */
  readonly config?: Config | undefined;
  /** Default "f32". Backends that do not have it are left out. */
  readonly dtype?: DType | undefined;
  readonly routing?: Routing | undefined;
  /** The name of the one to take, whatever others could do: it is not measured, and no other follows when it fails. "auto": none.
   *  Default: what DOGE_BACKEND names, where there is an environment. */
  readonly wanted?: string | undefined;
  /** Taken in this order when none of the others can run, and not measured. */
  readonly spares?: readonly Provider[] | undefined;
  /** Where rates are kept; null: nowhere. Default: a file in the user's cache folder, or IndexedDB in a browser. */
  readonly rates?: RateStore | null | undefined;
  /** Do not look at what was kept. */
  readonly afresh?: boolean | undefined;
  /** Measure all that can run, also where nothing hangs on it. */
  readonly measureAll?: boolean | undefined;
  /** Milliseconds for the calibration of all backends together. Before it they are opened and load a layer side by side, which is not
   *  counted: one of them has to do that anyway. Nobody waits longer than 3 seconds for one while another is ready. Default 300. */
  readonly budget?: number | undefined;
  /** Told when the backend failed and was opened again, or another took over. Default: a warning on the console. */
  readonly onFallback?: ((fallback: Fallback) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds; default performance.now. */
  readonly now?: (() => number) | undefined;
}

export interface Choice {
  /** It outlives the loss of its device, and once it hands over to the next backend: its models and their sequences go on there. */
  readonly backend: Backend;
  /** Every provider in the order given, spares last, as things stand now. */
  readonly tried: readonly Tried[];
  /** Tell how fast it decoded a text of this model that had it alone: that is kept in place of the estimate, and the next choice goes
   *  by it. A calibration is optimistic, since the weights of a slice lie in caches; so whoever is preferred wrongly is found out by
   *  being used, and the choice settles on the one that is the fastest in use. */
  observe(tokensPerSecond: number): Promise<void>;
}

/** The shape that is measured when none is given: Doge-60M. */
const usual: Config = {
  generation: "legacy",
  vocabSize: 32768,
  hiddenSize: 512,
  intermediateSize: 1024,
  layers: 16,
  heads: 4,
  kvHeads: 2,
  headDim: 128,
  normEpsilon: 1e-6,
  maxPositions: 2048,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: false,
  biasHeads: 4,
  window: null,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: null,
  eosIds: [],
  padId: null,
};

/** Errors: "unavailable", with the reasons of all, when none opens; "invalid-argument" for a name that is not in the list; "aborted". */
export async function choose(providers: readonly Provider[], options: ChooseOptions = {}): Promise<Choice> {
  const decision = await decide(providers, options);
  const { chosen, candidates, wanted } = decision;
  if (chosen === undefined) throw nothingOpened(saidOf(candidates), wanted);
  return lasting(decision, chosen, options);
}

/** What choose() would say of the providers, all that can run measured. Nothing stays open, and that none can run is no error.
 *  Errors: "invalid-argument", "aborted". */
export async function survey(
  providers: readonly Provider[],
  options: Omit<ChooseOptions, "measureAll" | "onFallback"> = {},
): Promise<readonly Tried[]> {
  const { candidates } = await decide(providers, { ...options, measureAll: true });
  for (const one of candidates) release(one);
  return saidOf(candidates);
}

interface Decision {
  readonly search: Search;
  readonly candidates: readonly Candidate[];
  /** The one that was named. */
  readonly wanted: string | undefined;
  /** Open; none: nothing opens. */
  readonly chosen: Candidate | undefined;
  /** Those that could run and may, the preferred first. */
  readonly order: readonly Candidate[];
}

async function decide(providers: readonly Provider[], options: ChooseOptions): Promise<Decision> {
  const { config = usual, dtype = "f32", routing, spares = [], measureAll = false, signal } = options;
  const { choosingPlatform } = await import("@doge-lm/core/platform");
  const platform = choosingPlatform();
  const search: Search = {
    ...{ config, dtype, routing, signal, machine: platform.machine },
    rates: options.rates === undefined ? platform.rates : options.rates,
    afresh: options.afresh ?? false,
    budget: options.budget ?? 300,
    now: options.now ?? (() => performance.now()),
  };
  if (signal?.aborted) throw aborted(signal);
  const wanted = wantedName(options.wanted ?? platform.wanted, [...providers, ...spares]);
  const candidates = [
    ...providers.map((provider) => candidate(provider, false, wanted)),
    ...spares.map((provider) => candidate(provider, true, wanted)),
  ];
  const isMeant = ({ provider, spare }: Candidate) => (wanted === undefined ? !spare : provider.name === wanted);
  const ready = (test: (candidate: Candidate) => boolean) =>
    candidates.filter((candidate) => candidate.tried.state === "ready" && test(candidate));
  try {
    const asked = measureAll || wanted === undefined ? candidates : candidates.filter(isMeant);
    await Promise.all(asked.map((one) => probe(one, search)));
    if (measureAll)
      await measure(
        ready(() => true),
        search,
        1,
      );
    else if (ready(isMeant).length > 1) await measure(ready(isMeant), search, 2);
    const order = ranked(ready(isMeant));
    if (wanted === undefined) order.push(...ready(({ spare }) => spare));
    const chosen = await firstToOpen(order, signal);
    explain(candidates, chosen, wanted);
    return { search, candidates, wanted, chosen, order };
  } catch (error) {
    for (const one of candidates) release(one);
    throw signal?.aborted ? aborted(signal) : error;
  }
}

const saidOf = (candidates: readonly Candidate[]): readonly Tried[] =>
  candidates.map(({ tried, rate }) => (rate === undefined ? tried : { ...tried, rate }));

/** Errors: "invalid-argument" for a name that no provider has. */
function wantedName(name: string | undefined, providers: readonly Provider[]): string | undefined {
  if (name === undefined || name === "auto") return undefined;
  if (providers.some((provider) => provider.name === name)) return name;
  const known = ["auto", ...providers.map((provider) => provider.name)].join(", ");
  throw new DogeError(
    "invalid-argument",
    `There is no backend ${JSON.stringify(name)} to choose from: it must be one of ${known} (DOGE_BACKEND counts where no other is named).`,
  );
}

function candidate(provider: Provider, spare: boolean, wanted: string | undefined): Candidate {
  const { name } = provider;
  const why = `${wanted} was asked for by name.`;
  const tried: Tried = {
    name,
    availability: { available: false, code: "not-asked", why },
    state: "not asked",
    reason: why,
  };
  const nothing = { rate: undefined, opening: undefined, opened: undefined, loading: undefined, slice: undefined };
  return { provider, spare, tried, ...nothing, untimed: false, late: false, stop: new AbortController() };
}

async function firstToOpen(
  order: readonly Candidate[],
  signal: AbortSignal | undefined,
): Promise<Candidate | undefined> {
  for (const one of order) if (await open(one, signal)) return one;
  return undefined;
}

/** Say of all that can run why they do or do not. */
function explain(candidates: readonly Candidate[], chosen: Candidate | undefined, wanted: string | undefined): void {
  const rivals = candidates.filter(({ tried, spare }) => tried.state === "ready" && !spare);
  const name = chosen?.provider.name;
  const speed = chosen?.rate?.tokensPerSecond;
  const become = (one: Candidate, state: Tried["state"], reason: string) => {
    one.tried = { ...one.tried, state, reason };
  };
  for (const one of candidates) {
    if (one.tried.state !== "ready") continue;
    const own = one.rate?.tokensPerSecond;
    if (one === chosen) become(one, "chosen", whyChosen(one, rivals, wanted));
    else if (wanted !== undefined) become(one, "ready", `${wanted} was asked for by name.`);
    else if (one.spare) become(one, "spare", "It is kept for the case that no other can run.");
    else if (own === undefined)
      become(one, "ready", "The calibration was over before it was ready, or before anything of it could be timed.");
    else if (speed === undefined || own < speed)
      become(one, "ready", `It decodes ${rounded(own)} tokens/s, and ${name} ${rounded(speed)}.`);
    else
      become(
        one,
        "ready",
        `Its ${rounded(own)} tokens/s are not clearly more than the ${rounded(speed)} of ${name}, which comes first in the list.`,
      );
  }
}

function whyChosen(chosen: Candidate, rivals: readonly Candidate[], wanted: string | undefined): string {
  if (wanted !== undefined) return "It was asked for by name.";
  if (chosen.spare) return "None of those before it can run here.";
  if (rivals.length === 1) return "It is the only one that can run here.";
  if (chosen.rate === undefined) return "It comes first in the list, and none could be timed.";
  return `It decodes ${rounded(chosen.rate.tokensPerSecond)} tokens/s, and no other is clearly faster.`;
}

const rounded = (rate: number | undefined): string =>
  rate === undefined ? "an unknown number of" : `${Number(rate.toPrecision(3))}`;

/** The chosen backend with those that may take over, and what there is to say of all, kept up to date. */
function lasting(
  { search, candidates, order }: Decision,
  chosen: Candidate,
  { onFallback = ({ message }) => console.warn(`[doge:core] ${message}`), now }: ChooseOptions,
): Choice {
  for (const one of candidates) if (one !== chosen) release(one);
  const proven = ({ provider }: Candidate): Provider => ({
    name: provider.name,
    probe: () => provider.probe(),
    open: (signal) => openProven(provider, signal),
  });
  const behind = order.slice(order.indexOf(chosen) + 1).filter(({ tried }) => tried.state !== "broken");
  const successors = behind.map((one) => ({ provider: proven(one), spare: one.spare }));
  const note = (fallback: Fallback) => {
    if (fallback.kind === "replaced") {
      for (const one of candidates) {
        const { name } = one.provider;
        if (name === fallback.from) one.tried = broken(name, fallback.error);
        if (name === fallback.to)
          one.tried = { ...one.tried, state: "chosen", reason: `It took over when ${fallback.from} failed.` };
      }
    }
    onFallback(fallback);
  };
  return {
    backend: outliving(chosen.opened!, proven(chosen), successors, { onFallback: note, now }),
    get tried() {
      return saidOf(candidates);
    },
    async observe(tokensPerSecond) {
      const running = candidates.find(({ tried }) => tried.state === "chosen");
      if (running !== undefined) await observe(running, search, tokensPerSecond);
    },
  };
}
