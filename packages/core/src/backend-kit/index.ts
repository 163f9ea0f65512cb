// What backends would otherwise each write for themselves (docs/adding-a-backend.md): sequences over pages of keys, pauses and
// portions of work, the tables and proofs of a start. Nothing here touches a device, and nothing outside of backends needs it.

export { uniform } from "../seeded.ts";
export { writeRotaryAngles } from "./angles.ts";
export { Breath } from "./breath.ts";
export { type Group, type PendingToken, planGroups } from "./groups.ts";
export { assertDraws, assertKnownAnswer } from "./known-answer.ts";
export { type LoadPlan, planLoad } from "./load-plan.ts";
export { Pace } from "./pace.ts";
export type { PagedCache } from "./paged-cache.ts";
export type { PagedSequence } from "./paged-sequence.ts";
export { type PageShape, type PageStore, Pages, slotsFor } from "./pages.ts";
export { TensorReader } from "./reader.ts";
export { numerical, transposed } from "./results.ts";
export { assertAgreesWithItself, type SelfCheck } from "./self-check.ts";
export { Sequences, type SequencesOptions, type Task, type Verb } from "./sequences.ts";
