// The steps of the measurements: each has a time limit of its own, is told in a line as soon as it is done, and takes nothing of the others
// with it when it hangs or fails.
import { renameSync, writeFileSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";

export const { values } = parseArgs({
  options: {
    dawn: { type: "string" },
    seconds: { type: "string", default: "75" },
    json: { type: "string" },
    fixtures: { type: "string" },
    only: { type: "string" },
    /** Bytes per second that the memory of the GPU gives; default: what is known of a device of its name. */
    memory: { type: "string" },
    shapes: { type: "string", default: "60m,20m,160m,320m" },
    prompt: { type: "string", default: "512" },
    decode: { type: "string", default: "256" },
    reps: { type: "string", default: "5" },
    software: { type: "boolean", default: false },
  },
});
export const [PROMPT, DECODE, REPS] = [values.prompt, values.decode, values.reps].map(Number) as [
  number,
  number,
  number,
];
export const began = performance.now();
export const left = (): number => Number(values.seconds) * 1000 - (performance.now() - began);
export const results: { [step: string]: unknown } = {};

export const say = (line: string): void => {
  // At once, whatever becomes of the process.
  writeSync(1, `${line}\n`);
};
export const round = (value: number): number => Number(value.toPrecision(4));
export const median = (list: readonly number[]): number =>
  [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;
/** All results so far, as a whole file: whoever ends this process finds those of the steps that were done. */
export const save = (): void => {
  if (values.json === undefined) return;
  writeFileSync(`${values.json}.part`, `${JSON.stringify(results, null, 1)}\n`);
  renameSync(`${values.json}.part`, values.json);
};

/** Whether the step that runs is late: it ends before its next repetition, so that it takes no time from the next step. */
let late = { is: false };
/** The step that runs, to be asked for at its beginning. */
export const thisStep = (): { readonly is: boolean } => late;
/** Errors: when the step that asked is late. */
export function goOn(own: { readonly is: boolean }): void {
  if (own.is) throw new Error("late");
}

type Step = readonly [name: string, seconds: number, work: () => Promise<unknown>];
const wanted = (name: string): boolean =>
  values.only === undefined || values.only.split(",").some((word) => name.startsWith(word));

/** What must be known: in a total that is less than all their limits, each of these steps has its part of it. */
export async function mainSteps(steps: readonly Step[]): Promise<void> {
  const own = steps.filter(([name]) => wanted(name));
  const all = own.reduce((sum, [, seconds]) => sum + seconds, 0);
  const part = Math.min(1, left() / 1000 / all);
  for (const [name, seconds, work] of own) await step(name, seconds * part, work);
}

/** One step: its result, or why it has none. */
export async function step(...[name, seconds, work]: Step): Promise<void> {
  if (!wanted(name)) return;
  const limit = Math.min(seconds * 1000, left());
  if (limit < 1000) {
    results[name] = { skipped: "no time is left" };
    say(`skip ${name}: no time is left`);
    return;
  }
  const start = performance.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const own = { is: false };
  late = own;
  try {
    const over = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        own.is = true;
        reject(new Error(`not done in ${round(limit / 1000)} s`));
      }, limit);
    });
    const result = await Promise.race([work(), over]);
    results[name] = result;
    say(`ok   ${name} (${Math.round(performance.now() - start)} ms) ${JSON.stringify(result)}`);
  } catch (error) {
    const { message, stack } = error as Error;
    results[name] = { error: message, stack };
    say(`FAIL ${name} (${Math.round(performance.now() - start)} ms) ${message}`);
  } finally {
    clearTimeout(timer);
    save();
  }
}
