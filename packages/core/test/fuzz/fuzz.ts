// What the fuzz targets share: how long they run, how good inputs are spoiled, and what a refusal must look like.
//
// A run without further ado takes the same few hundred inputs each time. With DOGE_FUZZ_SECONDS=600 every target goes on for
// that long, from a fresh seed that it prints. A failure tells its seed and the smallest input that fails.
import fc from "fast-check";
import { expect, test } from "vitest";
import { DogeError, type ErrorCode } from "../../src/index.ts";

const seconds = Number(process.env.DOGE_FUZZ_SECONDS ?? 0);

/** A test of `property` over the inputs of `arbitrary`; `good` is a good input, which must work after every bad one. */
export function fuzz<T>(
  name: string,
  runs: number,
  arbitrary: fc.Arbitrary<T>,
  property: (input: T) => unknown,
  good: () => unknown,
): void {
  const long = seconds > 0;
  const timeout = (seconds + 120) * 1000;
  test(`fuzz: ${name}`, { timeout }, async () => {
    const seed = long ? crypto.getRandomValues(new Int32Array(1))[0]! : 20261123;
    let count = 0;
    let slowest = 0;
    if (long) console.log(`${name}: fuzzing for ${seconds} s from seed ${seed}`);
    await fc.assert(
      fc.asyncProperty(arbitrary, async (input) => {
        count++;
        const start = performance.now();
        await property(input);
        slowest = Math.max(slowest, performance.now() - start);
        await good();
      }),
      long
        ? { seed, numRuns: 2 ** 31 - 1, interruptAfterTimeLimit: seconds * 1000, markInterruptAsFailure: false }
        : { seed, numRuns: runs },
    );
    if (long) console.log(`${name}: ${count} inputs, the slowest took ${Math.ceil(slowest)} ms`);
    expect(count).toBeGreaterThan(0);
  });
}

/** What `action` gives, or undefined when it refuses with one of `codes`, in a whole sentence. Anything else it throws is a fault. */
export async function worksOrRefuses<T>(
  codes: readonly ErrorCode[],
  action: () => T | Promise<T>,
): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof DogeError)) throw error;
    expect(codes, error.message).toContain(error.code);
    expect(error.message).toMatch(/^\[doge:\w+\] .+/s);
    return undefined;
  }
}

const hostile: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    false,
    "",
    "x",
    0,
    -0,
    1,
    -1,
    0.5,
    1e308,
    2 ** 31,
    2 ** 53,
    -(2 ** 53),
    "7",
    "\ud800",
    "\0",
  ),
  fc
    .constantFrom<() => unknown>(
      () => [],
      () => ({}),
      () => [[[[[[[[]]]]]]]],
      () => [null],
      () => "x".repeat(5000),
      () => JSON.parse('{"__proto__":{"type":"doge"},"constructor":1}'),
    )
    .map((make) => make()),
  fc.integer(),
  fc.double(),
  fc.string({ unit: "binary", maxLength: 8 }),
);

export type Change = { readonly path: readonly number[]; readonly action: number; readonly value: unknown };

/** One to four changes to a JSON value, each somewhere in it. */
export const jsonChanges: fc.Arbitrary<Change[]> = fc.array(
  fc.record({ path: fc.array(fc.nat(999), { maxLength: 7 }), action: fc.nat(5), value: hostile }),
  { minLength: 1, maxLength: 4 },
);

/** A copy of `json` with `changes`: entries replaced, taken out, doubled, moved, renamed or wrapped. */
export function changed(json: unknown, changes: readonly Change[]): unknown {
  // biome-ignore lint/suspicious/noExplicitAny: the changes break the value in every way
  const root: any = { whole: structuredClone(json) };
  for (const { path, action, value } of changes) {
    let at = root;
    let key = "whole";
    for (const step of path) {
      const inner = at[key];
      if (typeof inner !== "object" || inner === null || Object.keys(inner).length === 0) break;
      at = inner;
      key = Object.keys(inner)[step % Object.keys(inner).length]!;
    }
    const entry = at[key];
    const keys = Object.keys(at);
    const other = keys[(path[0] ?? 0) % keys.length]!;
    if (action === 0) at[key] = value;
    else if (action === 1 && at !== root) Array.isArray(at) ? at.splice(Number(key), 1) : delete at[key];
    else if (action === 2) Array.isArray(at) ? at.push(entry) : Object.assign(at, { [`${key}2`]: entry });
    else if (action === 3) [at[key], at[other]] = [at[other], at[key]];
    else if (action === 4 && !Array.isArray(at) && at !== root) {
      delete at[key];
      at[String(value)] = entry;
    } else at[key] = [entry];
  }
  return root.whole;
}

export type Cut = { readonly at: number; readonly length: number; readonly insert: readonly number[] };

/** One to six places, from 0 (the beginning) to 1, where bytes or characters go and others come. */
export const cuts: fc.Arbitrary<Cut[]> = fc.array(
  fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.oneof(fc.nat(3), fc.nat(200)),
    insert: fc.array(fc.nat(255), { maxLength: 4 }),
  }),
  { minLength: 1, maxLength: 6 },
);

/** `items` with `cuts`; what is inserted is made of numbers from 0 to 255. */
export function cut<T>(items: readonly T[], cuts: readonly Cut[], insert: (number: number) => readonly T[]): T[] {
  const result = [...items];
  for (const { at, length, insert: numbers } of cuts) {
    result.splice(Math.floor(at * result.length), length, ...numbers.flatMap(insert));
  }
  return result;
}
