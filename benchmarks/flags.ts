// What the flags of the benchmarks name, refused in a sentence before anything runs when it is nothing that there is.
import type { DType } from "@doge-lm/core";

/** What was asked for cannot be; the message is for the person who asked. */
export class UsageError extends Error {}

export const allDtypes: readonly DType[] = ["f32", "bf16", "q8", "q4"];

/** "a,b" as a list of what is known. */
export function listOf<T extends string>(flag: string, text: string, known: readonly T[]): T[] {
  return text.split(",").map((name) => {
    const found = known.find((one) => one === name);
    if (found === undefined)
      throw new UsageError(`${flag} has ${JSON.stringify(name)}, which must be one of ${known.join(", ")}.`);
    return found;
  });
}

/** "1,8" as whole numbers from 1 on. */
export const countsOf = (flag: string, text: string): number[] => text.split(",").map((one) => countOf(flag, one));

export function countOf(flag: string, text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1)
    throw new UsageError(`${flag} has ${JSON.stringify(text)}, which must be a whole number from 1 on.`);
  return count;
}

/** `work`, and a sentence and exit status 1 where it throws a UsageError. */
export async function orExplain<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
