// What is done to pages of keys at the beginning of a call: copies for those who are about to write where others read, and keys
// that are forgotten.
import type { CallMemory } from "./call.ts";
import { DISPATCH_COST } from "./costs.ts";
import type { Unit } from "./encoder.ts";
import type { Machine } from "./machine.ts";
import type { PageWork } from "./pages.ts";

/** Pages that are copied, and keys that are forgotten, before anything is written. */
export function pageUnit(work: PageWork, machine: Machine, memory: CallMemory): Unit | null {
  if (work.copies.length === 0 && work.resets.length === 0) return null;
  const { keys, values, meta } = machine.page;
  const threads = Math.max(keys / 16, values / 4, meta / 4);
  const copies = waves(work.copies).map((wave) => ({
    dispatch: memory.dispatch({ list: memory.list(wave.flat()) }),
    pages: wave.length,
  }));
  const resets = memory.dispatch({ list: memory.list(work.resets.flat()) });
  return {
    cost: DISPATCH_COST,
    encode: ({ pass }) => {
      const { program, groups } = machine;
      for (const { copy, reset } of program.layers) {
        for (const { dispatch, pages } of copies) pass.run(copy, groups.read, dispatch, Math.ceil(threads / 64), pages);
        if (reset !== null) pass.run(reset, groups.read, resets, work.resets.length);
      }
    },
  };
}

/** Copies in the order they were asked for, cut where one writes a page that an earlier one reads or writes. */
function waves(copies: readonly (readonly [number, number])[]): (readonly [number, number])[][] {
  const all: (readonly [number, number])[][] = [];
  let touched = new Set<number>();
  for (const [from, to] of copies) {
    if (all.length === 0 || touched.has(to) || all.at(-1)!.some(([, earlier]) => earlier === from)) {
      all.push([]);
      touched = new Set();
    }
    all.at(-1)!.push([from, to]);
    touched.add(from).add(to);
  }
  return all;
}
