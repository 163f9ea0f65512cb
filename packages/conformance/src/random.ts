// Seeded ids and weights for checks: the same on every machine.
import { type Config, type Tokens, tensorShapes } from "@doge-lm/core";

/** A stream of numbers in [0, 1) from a seed (mulberry32, public domain). */
export function stream(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `length` ids below `vocabulary`; when `distinct` is given only that many different ones, so that they repeat. */
export function someIds(length: number, vocabulary: number, seed: number, distinct?: number): Tokens {
  const next = stream(seed);
  const pick = (): number => Math.floor(next() * vocabulary);
  const pool = distinct === undefined ? null : Array.from({ length: distinct }, pick);
  return Int32Array.from({ length }, () => (pool === null ? pick() : pool[Math.floor(next() * pool.length)]!));
}

/** Every tensor of a model, with a standard deviation that keeps what flows through at about 1; norms and gates are 1 give or take a
 *  fifth. */
export function randomTensors(config: Config, seed: number): Map<string, Float32Array> {
  const next = stream(seed);
  return new Map(
    Array.from(tensorShapes(config), ([name, shape]) => {
      const count = shape.reduce((product, size) => product * size, 1);
      const [middle, spread] = shape.length === 1 ? [1, 0.7] : [0, 3.5 / Math.sqrt(shape.at(-1)!)];
      return [name, Float32Array.from({ length: count }, () => middle + spread * (next() - 0.5))];
    }),
  );
}

export const tokens = (ids: ArrayLike<number>): Tokens => Int32Array.from(ids);
