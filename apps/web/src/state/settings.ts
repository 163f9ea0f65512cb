// What a person has set, kept in the browser: appearance, parameters of answers, how models are loaded. What is read back is checked, since
// anything may lie there.
import type { DType } from "@doge-lm/core";
import type { AnswerOptions, BackendChoice } from "../engine/protocol.ts";

export type Theme = "system" | "light" | "dark";

export interface Parameters {
  readonly maxNewTokens: number;
  /** 0: always the most likely token. */
  readonly temperature: number;
  /** 0: all. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  /** Null: another one each time. */
  readonly seed: number | null;
}

export interface Settings {
  readonly theme: Theme;
  readonly backend: BackendChoice;
  /** Null: what suits the machine. */
  readonly threads: number | null;
  readonly dtype: DType;
  readonly parameters: Parameters;
  /** Of new conversations. */
  readonly system: string;
}

export interface Range {
  readonly least: number;
  readonly most: number;
  readonly step: number;
}
export const RANGES: Readonly<Record<Exclude<keyof Parameters, "seed">, Range>> = {
  maxNewTokens: { least: 1, most: 2048, step: 1 },
  temperature: { least: 0, most: 2, step: 0.05 },
  topK: { least: 0, most: 200, step: 1 },
  topP: { least: 0.05, most: 1, step: 0.05 },
  minP: { least: 0, most: 1, step: 0.01 },
  repetitionPenalty: { least: 0.5, most: 2, step: 0.05 },
};
const MOST_SEED = 2 ** 32 - 1;

export const DEFAULT_PARAMETERS: Parameters = {
  maxNewTokens: 256,
  temperature: 0,
  topK: 50,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  seed: null,
};

export const DEFAULT_SETTINGS: Settings = {
  theme: "system",
  backend: "auto",
  threads: null,
  dtype: "q8",
  parameters: DEFAULT_PARAMETERS,
  system: "",
};

/** The options of generate that the parameters mean. Without drawing the filters have nothing to do, and are left out. */
export function answerOptions(parameters: Parameters): AnswerOptions {
  const { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, seed } = parameters;
  if (temperature === 0) return { maxNewTokens, temperature, repetitionPenalty };
  return { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, seed: seed ?? undefined };
}

/** A number inside the range of its parameter, or the default for what is none. */
export function fitted(name: keyof typeof RANGES, value: unknown): number {
  const { least, most, step } = RANGES[name];
  if (typeof value !== "number" || !Number.isFinite(value)) return DEFAULT_PARAMETERS[name];
  const inside = Math.min(most, Math.max(least, value));
  return step === 1 ? Math.round(inside) : inside;
}

/** A seed from what was typed: nothing, or an unsigned 32-bit number. */
export function seedOf(text: string): number | null {
  const value = Number(text.trim());
  return text.trim() !== "" && Number.isInteger(value) && value >= 0 && value <= MOST_SEED ? value : null;
}

const oneOf = <T>(value: unknown, all: readonly T[], otherwise: T): T =>
  all.includes(value as T) ? (value as T) : otherwise;

/** The settings in what was read: every part that is right, the rest as by default. */
export function readSettings(value: unknown): Settings {
  const read = (typeof value === "object" && value !== null ? value : {}) as Partial<Record<keyof Settings, unknown>>;
  const { threads, system } = read;
  const given = (typeof read.parameters === "object" && read.parameters !== null ? read.parameters : {}) as Partial<
    Record<keyof Parameters, unknown>
  >;
  const parameters = { ...DEFAULT_PARAMETERS, seed: typeof given.seed === "number" ? seedOf(`${given.seed}`) : null };
  for (const name of Object.keys(RANGES) as (keyof typeof RANGES)[]) parameters[name] = fitted(name, given[name]);
  return {
    theme: oneOf(read.theme, ["system", "light", "dark"], DEFAULT_SETTINGS.theme),
    backend: oneOf(read.backend, ["auto", "webgpu", "wasm"], DEFAULT_SETTINGS.backend),
    threads: typeof threads === "number" && Number.isInteger(threads) && threads >= 1 && threads <= 64 ? threads : null,
    dtype: oneOf(read.dtype, ["f32", "bf16", "q8", "q4"], DEFAULT_SETTINGS.dtype),
    parameters,
    system: typeof system === "string" ? system : "",
  };
}

const KEY = "doge-settings";

/** Reads and writes; a browser that keeps nothing is no reason to stop. */
export const keptSettings = {
  load(): Settings {
    try {
      return readSettings(JSON.parse(localStorage.getItem(KEY) ?? "null"));
    } catch {
      return DEFAULT_SETTINGS;
    }
  },
  save(settings: Settings): void {
    try {
      localStorage.setItem(KEY, JSON.stringify(settings));
    } catch {
      // They hold until the page is closed.
    }
  },
};
