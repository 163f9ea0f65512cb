// What a run times, in the order that matters: what is left when the time is up is named and left out.
import type { DType } from "@doge-lm/core";
import type { SubjectName } from "./subjects.ts";

export interface Timing {
  readonly engine: string;
  readonly shape: string;
  readonly moe: boolean;
  readonly dtype: DType;
  readonly rows: number;
  readonly prompt: number;
  readonly decode: number;
  readonly contexts: readonly number[];
  readonly reps: number;
}

/** An engine that is here, as far as a plan asks. */
export interface Here {
  readonly name: string;
  readonly dtypes: readonly DType[];
  /** A software adapter, or slow by design: only the smallest shape is asked of it, and little of that. */
  readonly small: boolean;
}

export interface Wishes {
  readonly shapes: readonly string[];
  readonly dtypes: readonly DType[];
  readonly contexts: readonly number[];
  readonly rows: readonly number[];
  readonly moe: boolean;
  readonly prompt: number;
  readonly decode: number;
  readonly reps: number;
  /** Of forms that differ in vectors alone the wider one, and of small engines one dtype at one context. */
  readonly brief: boolean;
}

export const ordinary: Wishes = {
  ...{ shapes: ["20m", "60m"], dtypes: ["f32", "q8", "q4"], contexts: [16, 128, 512, 1024, 2048] },
  ...{ rows: [1, 2, 4, 8, 16], moe: true, prompt: 512, decode: 64, reps: 3, brief: false },
};

export const quick: Wishes = {
  ...{ shapes: ["20m"], dtypes: ["f32", "q8"], contexts: [16, 512] },
  ...{ rows: [1, 4], moe: false, prompt: 256, decode: 32, reps: 2, brief: true },
};

/** What is asked of an engine that is small: a short prompt, and contexts that it reads in seconds. */
const little = { prompt: 16, decode: 8, contexts: [16, 128], reps: 2, rows: 1, moe: false };

export const shapeSubject = ({ shape, moe }: Pick<Timing, "shape" | "moe">): SubjectName =>
  `shape:${shape}${moe ? " moe" : ""}`;

/** "60m q8, 4 rows". */
export const timingTitle = ({ shape, moe, dtype, rows }: Timing): string =>
  `${shape}${moe ? " with experts" : ""} ${dtype}${rows === 1 ? "" : `, ${rows} rows`}`;

/** Every context on every fast engine; then rows and experts on the fastest of one thread; small engines once; the rest of it. */
export function plan(engines: readonly Here[], wishes: Wishes): Timing[] {
  const { shapes, dtypes, contexts, rows, moe, prompt, decode, reps, brief } = wishes;
  const wide = brief && engines.some(({ name }) => /revectorized$/.test(name));
  const fast = engines.filter(
    ({ small, name }) => !small && (!wide || !/^wasm/.test(name) || /revectorized$/.test(name)),
  );
  const timings: Timing[] = [];
  const add = (engine: Here, over: Partial<Timing> & Pick<Timing, "shape" | "dtype">): void => {
    const one = { engine: engine.name, rows: 1, moe: false, prompt, decode, contexts, reps, ...over };
    if (engine.dtypes.includes(over.dtype)) timings.push(one);
  };
  const every = (shape: string): void => {
    if (!rows.includes(1)) return;
    for (const dtype of dtypes) for (const engine of fast) add(engine, { shape, dtype });
  };
  const [smallest, ...larger] = shapes as [string, ...string[]];
  every(smallest);
  for (const engine of engines.filter(({ small }) => small)) {
    // The reference holds rounded weights as f32: one dtype says it all.
    const one = brief || engine.name === "reference";
    const own = brief ? { ...little, contexts: [16], reps: 1 } : little;
    for (const dtype of one ? dtypes.slice(0, 1) : dtypes) add(engine, { shape: smallest, dtype, ...own });
  }
  for (const shape of larger) every(shape);
  const best = fast.filter(({ name }) => !/ x\d+/.test(name)).at(-1);
  if (best === undefined) return timings;
  for (const shape of shapes) {
    for (const dtype of dtypes) {
      const few = { prompt: Math.min(prompt, 64), contexts: [16] };
      for (const count of rows) if (count > 1) add(best, { shape, dtype, rows: count, ...few });
    }
  }
  if (moe) for (const dtype of dtypes) add(best, { shape: smallest, dtype, moe: true });
  if (!brief && !dtypes.includes("bf16")) add(best, { shape: smallest, dtype: "bf16" });
  return timings;
}
