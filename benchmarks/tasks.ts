// What a child process can be asked for, and what each task gives.
import type { DType } from "@doge-lm/core";
import type { BenchResult } from "../apps/cli/src/bench/run.ts";
import type { Agreement } from "./compare.ts";
import type { GpuKernelResult } from "./gpu-kernels.ts";
import type { KernelResult, Origin } from "./results.ts";
import type { SubjectName } from "./subjects.ts";
import type { Expected } from "./truth.ts";

/** What an engine says of itself. */
export type Present =
  | {
      readonly available: true;
      readonly device: string;
      readonly dtypes: readonly DType[];
      readonly threads: number;
      readonly software: boolean;
    }
  | { readonly available: false; readonly why: string };

/** How many texts, and how far: drawn by the device, and of how many of them logits are looked at. */
export interface Extent {
  readonly texts: number;
  readonly steps: number;
  readonly looked: number;
  readonly lookedSteps: number;
}

interface ProbeTask {
  readonly kind: "probe";
  readonly engine: string;
}
interface ExpectTask {
  readonly kind: "expect";
  readonly engine: string;
  readonly subject: SubjectName;
  readonly dtype: DType;
  readonly extent: Extent;
  /** Of the subject's texts, those from here. */
  readonly first: number;
}
interface AgreeTask {
  readonly kind: "agree";
  readonly engine: string;
  readonly subject: SubjectName;
  readonly dtype: DType;
  /** Of the truth in f32. */
  readonly expected: Expected;
  /** Of the truth with weights held alike. */
  readonly alike?: Expected | undefined;
}
interface TimeTask {
  readonly kind: "time";
  readonly engine: string;
  readonly shape: string;
  readonly moe: boolean;
  readonly dtype: DType;
  readonly prompt: number;
  readonly decode: number;
  readonly rows: number;
  readonly reps: number;
  readonly contexts: readonly number[];
}
interface GpuKernelsTask {
  readonly kind: "gpu-kernels";
  readonly engine: string;
  readonly shape: string;
  readonly dtype: DType;
}
interface KernelsTask {
  readonly kind: "kernels";
  readonly engine: string;
}
export type Task = ProbeTask | ExpectTask | AgreeTask | TimeTask | GpuKernelsTask | KernelsTask;

export type Answer<T extends Task> = T["kind"] extends "probe"
  ? Present
  : T["kind"] extends "expect"
    ? Expected
    : T["kind"] extends "agree"
      ? Agreement
      : T["kind"] extends "time"
        ? BenchResult
        : T["kind"] extends "kernels"
          ? Omit<KernelResult, keyof Origin>[]
          : readonly GpuKernelResult[];
