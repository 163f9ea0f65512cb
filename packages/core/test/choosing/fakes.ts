// Providers for the tests of choosing: backends of a few lines that are as fast as a clock of their own says, and that misbehave.
import { vi } from "vitest";
import { noteProven } from "../../src/contract/proven.ts";
import type { Availability, Backend, ChooseOptions, Model, Provider, RateStore, SampleRow } from "../../src/index.ts";
import { config, MockBackend } from "../running/mock.ts";

/** The time that backends take, which no machine disturbs. */
export class Clock {
  time = 0;
  readonly now = (): number => this.time;
}

export interface Fake extends Provider {
  /** Every backend that was opened. */
  readonly opened: MockBackend[];
  probes: number;
}

export interface FakeOptions {
  readonly clock?: Clock;
  /** Milliseconds of a layer with its share of the head, and of a token besides. */
  readonly layerMs?: number;
  readonly tokenMs?: number;
  readonly device?: string;
  /** What opening gives is made ready by this. */
  readonly ready?: (backend: MockBackend) => void;
  /** Computes something else than it should. */
  readonly lies?: boolean;
}

/** A provider that works, at the speed it is told. */
export function fake(name: string, options: FakeOptions = {}): Fake {
  const { clock = new Clock(), layerMs = 1, tokenMs = 0, ready, lies = false } = options;
  const opened: MockBackend[] = [];
  const can = { device: options.device ?? `a fake ${name}`, dtypes: ["f32", "q8"] as const, trains: false };
  return {
    name,
    opened,
    probes: 0,
    async probe(): Promise<Availability> {
      this.probes++;
      return { available: true, ...can };
    },
    async open(): Promise<Backend> {
      const backend = Object.assign(new MockBackend(name), { can });
      backend.onCall = (_, rows, config) => {
        for (const { tokens, count = 0 } of rows as readonly SampleRow[]) {
          clock.time += (tokens.length + count) * (tokenMs + layerMs * config.layers);
        }
      };
      if (!lies) noteProven(backend);
      ready?.(backend);
      opened.push(backend);
      return backend;
    },
  };
}

export const absent: Provider = {
  name: "absent",
  probe: async () => ({ available: false, code: "unavailable", why: "There is no such device." }),
  open: () => Promise.reject(new Error("open was called")),
};

/** Never settles. */
export const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** What a choice gives, and how many milliseconds passed by timers that go on whenever nothing else is left to do, or so: a calibration
 *  of these backends takes less than a hundred turns. Real timers are to be put back. */
export async function passing<Result>(
  choose: () => Promise<Result>,
): Promise<{ choice: Result; milliseconds: number }> {
  // A module takes as many turns to load as it likes.
  await Promise.all([import("../../src/choosing/choose.ts"), import("@doge-lm/core/platform")]);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  let over = false;
  const choosing = choose().finally(() => {
    over = true;
  });
  choosing.catch(() => {});
  for (let milliseconds = 0; ; milliseconds += 100) {
    for (let turn = 0; turn < 300 && !over; turn++) await new Promise((resolve) => setImmediate(resolve));
    if (over) return { choice: await choosing, milliseconds };
    await vi.advanceTimersByTimeAsync(100);
  }
}

export const after = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A provider whose backends take so long to open, and to load a model for the first time. */
export function slow(provider: Provider, { openMs = 0, loadMs = 0 }): Provider {
  return {
    ...provider,
    async open(signal) {
      await after(openMs);
      const backend = await provider.open(signal);
      const load = backend.load.bind(backend);
      let waiting: Promise<void> | undefined;
      backend.load = async (checkpoint, options) => {
        await (waiting ??= after(loadMs));
        return load(checkpoint, options);
      };
      return backend;
    },
  };
}

/** A provider whose models are changed by `change`. */
export function withModels(provider: Provider, change: (model: Model, layers: number) => Model): Provider {
  return {
    ...provider,
    async open(signal) {
      const backend = await provider.open(signal);
      const load = backend.load.bind(backend);
      backend.load = async (checkpoint, options) => change(await load(checkpoint, options), checkpoint.config.layers);
      return backend;
    },
  };
}

export function memoryRates(): RateStore & { readonly map: Map<string, string> } {
  const map = new Map<string, string>();
  return { map, get: async (key) => map.get(key), set: async (key, value) => void map.set(key, value) };
}

/** Shape, clock and store of a test; the budget is real time, of which a busy machine may need much. */
export const settings = (clock: Clock, more: ChooseOptions = {}): ChooseOptions => ({
  ...{ config: { ...config, layers: 6 }, rates: memoryRates(), wanted: "auto", budget: 60_000, now: clock.now },
  ...more,
});
