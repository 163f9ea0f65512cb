// What a check is: a named async function that throws when a backend breaks a rule. No test runner needed.
import type { Note, Notes, Subject } from "./notes.ts";
import type { Scope } from "./scope.ts";

/** From the inside out; each is useful while the next still fails, so the order guides a new backend. */
export const rings = ["kernels", "contract", "numerics", "sampling", "text", "crossings"] as const;
export type Ring = (typeof rings)[number];

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
