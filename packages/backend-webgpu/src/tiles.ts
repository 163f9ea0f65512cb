// How a group's tokens are cut into tiles, whose keys are kept before any of their tokens attends.
import type { PendingToken, Task } from "@doge-lm/core/backend-kit";
import { type CallMemory, type Dispatch, TOKEN_WORDS } from "./call.ts";
import { JOURNAL } from "./kernels/page.ts";
import { MOST_GROUPS } from "./matrix.ts";

/** Tokens whose keys are kept together where none is evicted. */
const PLAIN_TILE = 1024;

/** Tokens that a dispatch works on. */
export interface Range {
  readonly dispatch: number;
  readonly count: number;
}

/** A sequence's page table in the call's memory. */
export interface Table {
  readonly at: number;
  readonly slots: number;
}

/** Tokens whose keys are kept before any of them attends. */
export interface Tile extends Range {
  readonly part: "step" | "tile";
  readonly stretches: number;
  /** Those whose results are read behind the last layer. */
  readonly read: Range;
}

/** Tokens [from, from + count) of a group but for its first `unread`; `whole` where that leaves all. */
export function readOf(
  memory: CallMemory,
  common: Partial<Dispatch>,
  whole: Range,
  from: number,
  unread: number,
): Range {
  const skipped = Math.min(whole.count, Math.max(0, unread - from));
  if (skipped === 0) return whole;
  const base = from + skipped;
  const count = whole.count - skipped;
  return { dispatch: memory.dispatch({ ...common, count, first: common.first! + base * TOKEN_WORDS, base }), count };
}

/** Tokens of different sequences. A single one's dispatch has its page table, and how many slots that has. */
export function stepOf(memory: CallMemory, tables: readonly Table[], common: Partial<Dispatch>): Tile {
  const table = tables.length === 1 ? { list: tables[0]!.at, listed: tables[0]!.slots } : {};
  const whole: Range = { dispatch: memory.dispatch({ ...common, ...table }), count: tables.length };
  return { part: "step", ...whole, stretches: 0, read: whole };
}

/** How a group's keys are kept and read: all at once by "step", or in tiles by "keep" and "attend", with a workgroup for each token's
 *  head at most. `tables`: by task. */
export function tiles(
  memory: CallMemory,
  tasks: readonly Task[],
  tables: readonly Table[],
  common: Partial<Dispatch>,
  tokens: readonly PendingToken[],
  unread: number,
  heads: number,
): readonly Tile[] {
  const rows = new Set(tokens.map(({ task }) => task));
  if (rows.size === tokens.length) {
    return [
      stepOf(
        memory,
        tokens.map(({ task }) => tables[task]!),
        common,
      ),
    ];
  }
  const plain = (task: number) => {
    const { sequence, count } = tasks[task]!;
    return sequence.cache.isPlain(sequence.length + count);
  };
  const together = tokens.every(({ task }) => plain(task)) ? PLAIN_TILE : JOURNAL;
  const most = Math.min(together, Math.floor(MOST_GROUPS / heads));
  const found: Tile[] = [];
  for (let from = 0; from < tokens.length; from += most) {
    const part = tokens.slice(from, from + most);
    const stretches: number[] = [];
    part.forEach(({ task }, index) => {
      // Keys that each stand in the slot of their position do not wait for each other.
      if (index > 0 && part[index - 1]!.task === task && !plain(task)) stretches[stretches.length - 1]!++;
      else stretches.push(index, 1);
    });
    const list = memory.list(stretches);
    const dispatch = memory.dispatch({
      ...common,
      ...{
        count: part.length,
        first: common.first! + from * TOKEN_WORDS,
        base: from,
        list,
        listed: stretches.length / 2,
      },
    });
    const whole: Range = { dispatch, count: part.length };
    const read = readOf(memory, common, whole, from, unread);
    found.push({ part: "tile", ...whole, stretches: stretches.length / 2, read });
  }
  return found;
}
