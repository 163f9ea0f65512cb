// What a check is: a named async function that throws when a backend breaks a rule. No test runner needed.
import type { Capabilities, Provider } from "@doge-lm/core";
import type { OpenFixture } from "./fixtures.ts";
import type { CrossingNotes } from "./rings/crossings.ts";
import type { Kernels } from "./rings/kernels.ts";
import type { Scope } from "./scope.ts";

/** From the inside out; each is useful while the next still fails, so the order guides a new backend. */
export const rings = ["kernels", "contract", "numerics", "sampling", "text", "crossings"] as const;
export type Ring = (typeof rings)[number];

/** A check by its name, or a whole ring, and why. */
export interface Note {
  readonly test: string;
  readonly reason: string;
}
/** What a backend's author says of it. Lists cannot rot: an entry that names no check fails, and so does a `failing` one that passes. */
export interface Notes {
  /** Never will work: skipped. */
  readonly unsupported?: readonly Note[] | undefined;
  /** Does not work yet: run, and expected to fail. */
  readonly failing?: readonly Note[] | undefined;
  /** How to count crossings between host and device. */
  readonly crossings?: CrossingNotes | undefined;
  /** Kernels as functions over plain arrays, compared with their definitions. */
  readonly kernels?: Kernels | undefined;
  /** Where fixtures come from; default: this package's folder on disk. */
  readonly fixtures?: OpenFixture | undefined;
}

/** What is under test, as far as it is known before anything is opened. */
export interface Subject {
  readonly provider: Provider;
  readonly can: Capabilities;
  readonly notes: Notes;
}

export interface Check {
  readonly ring: Ring;
  readonly name: string;
  /** Why this check does not apply to the subject; undefined: it does. */
  skip?(subject: Subject): string | undefined;
  run(scope: Scope): Promise<void>;
}

/** Collects the checks of one ring: `const check = inRing("contract", checks)`. */
export function inRing(ring: Ring, checks: Check[]) {
  return (name: string, run: Check["run"], skip?: Check["skip"]): void => {
    checks.push(skip === undefined ? { ring, name, run } : { ring, name, run, skip });
  };
}

export const matches = (note: Note, check: Check): boolean => note.test === check.name || note.test === check.ring;

/** The entries of a list that name no check. */
export function unknownNotes(notes: Notes, checks: readonly Check[]): Note[] {
  return [...(notes.unsupported ?? []), ...(notes.failing ?? [])].filter(
    (note) => !checks.some((check) => matches(note, check)) && !(rings as readonly string[]).includes(note.test),
  );
}
