// What a choice says of every backend: what became of it, and why.
import type { Availability } from "../backend.ts";
import { DogeError } from "../errors.ts";
import { sentenceOf } from "../sentence.ts";

/** "chosen": it runs. "ready": it could, and another was preferred. "spare": it runs when no other can. "absent": it cannot run here,
 *  or not this model. "broken": it should have worked and failed. "not asked": another was named. */
export type TriedState = "chosen" | "ready" | "spare" | "absent" | "broken" | "not asked";

export interface Tried {
  readonly name: string;
  readonly availability: Availability;
  readonly state: TriedState;
  /** Why, as a whole sentence or several. */
  readonly reason: string;
  /** How fast it decodes a model of this shape, as far as that is known. */
  readonly rate?: Rate | undefined;
  /** What a provider threw that should have worked: not an absence but a fault, to be shown even when another one opened. */
  readonly error?: unknown;
}

export interface Rate {
  readonly tokensPerSecond: number;
  /** From an earlier run, under the same versions, device, model shape and dtype. */
  readonly kept: boolean;
  /** Seen in use, where the others are estimates. */
  readonly real: boolean;
}

/** A provider that failed where it should have worked. */
export function broken(name: string, error: unknown): Tried {
  const why = `It should have worked and failed: ${sentenceOf(error)}`;
  return { name, availability: { available: false, code: "broken", why }, state: "broken", reason: why, error };
}

/** The error for a list of which nothing runs, or not the one that `wanted` names. */
export function nothingOpened(all: readonly Tried[], wanted?: string): DogeError {
  const tried = all.filter(({ state }) => state !== "not asked");
  const reasons = tried.map(({ name, reason }) => `${name}: ${reason}`).join(" ");
  const cause = tried.find(({ error }) => error !== undefined)?.error;
  const others = all.flatMap(({ name }) => (name === wanted ? [] : [name]));
  const message =
    wanted === undefined
      ? `No backend opened. ${reasons}`
      : `The backend ${wanted} was asked for by name and did not open. ${reasons}${others.length === 0 ? "" : ` Instead of it ${others.join(", ")} can be named, or auto, which takes the fastest that runs here.`}`;
  return new DogeError(
    "unavailable",
    all.length === 0 ? "No backend was given to choose from." : message,
    cause === undefined ? {} : { cause },
  );
}

/** Sentences about backends that failed and were passed over. */
export const faultsOf = (tried: readonly Tried[]): string[] =>
  tried.flatMap(({ name, state, reason }) =>
    state === "broken" ? [`The backend ${name} was passed over. ${reason}`] : [],
  );
