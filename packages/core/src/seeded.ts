// Numbers that are the same in every engine, for models that nobody trained.

/** A source of numbers in -1 ... 1: a linear congruential generator (Numerical Recipes). */
export function uniform(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2147483648 - 1;
  };
}
