// Training, the interface only. Objectives, schedules and normalisation live in core, as weights and a rate.
import type { Floats, Tokens } from "./arrays.ts";

export interface Example {
  readonly tokens: Tokens;
  readonly weights: Floats; // one per token, of any sign; the first is not read
  readonly starts?: Tokens | undefined; // where packed documents begin, to keep them apart; none: one document
}
export interface TrainOptions {
  readonly precision: "f32" | "bf16"; // of the arithmetic; masters and moments are f32
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly decay: number;
  readonly clip: number; // global norm; 0: none
  readonly frozen: readonly string[]; // tensor names
  readonly undecayed: readonly string[];
}
