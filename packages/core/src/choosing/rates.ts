// What calibrations found, kept from one run to the next: under which key a rate is remembered, and what counts as a remembered one.
import type { Capabilities, DType, Routing } from "../backend.ts";
import type { Config } from "../config.ts";
import { version } from "../version.ts";
import { within } from "./limit.ts";

/** Where rates are kept. What it rejects with is taken for "nothing kept" and "not kept": no choice fails for it. */
export interface RateStore {
  get(key: string): Promise<string | undefined>;
  set(key: string, value: string): Promise<void>;
}

/** What a rate is of. */
export interface RateSubject {
  /** The backend's name. */
  readonly name: string;
  readonly can: Capabilities;
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing | undefined;
  /** The machine and its engine, as the platform tells them. */
  readonly machine: string;
}

/** A key with everything that a rate depends on: package version, machine and engine, backend, device and what it says of its driver
 *  and build, threads, dtype, routing, and the shape of the model. */
export function rateKey({ name, can, config, dtype, routing, machine }: RateSubject): string {
  const { bosId: _bos, eosIds: _eos, padId: _pad, ...shape } = config;
  const { device, threads = 1, details = {} } = can;
  return JSON.stringify({ version, machine, name, device, details, threads, dtype, routing: routing ?? null, shape });
}

/** A store that does not answer is none. */
const patience = { milliseconds: 250, timeout: () => new Error("The store of rates does not answer.") };

/** A rate as it is kept. */
export interface KeptRate {
  /** null: it was not ready in time, or the calibration was over before anything could be timed. */
  readonly tokensPerSecond: number | null;
  /** Seen in use, not estimated by a calibration. */
  readonly real: boolean;
}

const day = 24 * 3600_000;
/** After a month a machine may have become another. What could not be timed most often can the next time: a driver has its kernels
 *  compiled by then, or a machine is less busy. */
const mostAge = { rate: 30 * day, none: 10 * 60_000 };

/** The rate kept under `key`; undefined where there is none, an old one, or something else. */
export async function keptRate(store: RateStore, key: string, now = Date.now()): Promise<KeptRate | undefined> {
  try {
    const value = await within(store.get(key), patience);
    const { tokensPerSecond, real, at } = JSON.parse(value ?? "{}") as Partial<Record<string, unknown>>;
    const most = tokensPerSecond === null ? mostAge.none : mostAge.rate;
    if (typeof at !== "number" || !(Math.abs(now - at) < most)) return undefined;
    if (tokensPerSecond === null) return { tokensPerSecond, real: false };
    const isRate = typeof tokensPerSecond === "number" && Number.isFinite(tokensPerSecond) && tokensPerSecond > 0;
    return isRate ? { tokensPerSecond, real: real === true } : undefined;
  } catch {
    return undefined;
  }
}

/** Keep a rate; where that fails it is measured again next time. */
export async function keepRate(store: RateStore, key: string, rate: KeptRate, now = Date.now()): Promise<void> {
  const { tokensPerSecond, real } = rate;
  await within(store.set(key, JSON.stringify({ tokensPerSecond, real, at: now })), patience).catch(() => {});
}
