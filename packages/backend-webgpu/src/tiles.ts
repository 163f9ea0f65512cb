// How a group's tokens are cut into tiles, whose keys are kept before any of their tokens attends.
import type { PendingToken, Task } from "@doge-lm/core/backend-kit";
import { type CallMemory, type Dispatch, TOKEN_WORDS } from "./call.ts";
import { JOURNAL } from "./kernels/attention.ts";

/** Tokens whose keys are kept together where none is evicted: more would be too many workgroups for one dispatch. */
const PLAIN_TILE = 1024;

/** Tokens whose keys are kept before any of them attends. */
export interface Tile {
  readonly part: "step" | "tile";
  readonly dispatch: number;
  readonly count: number;
  readonly stretches: number;
}

/** How a group's keys are kept and read: all at once by "step", or in tiles by "keep" and "attend". */
export function tiles(
  memory: CallMemory,
  tasks: readonly Task[],
  common: Partial<Dispatch>,
  tokens: readonly PendingToken[],
): readonly Tile[] {
  const rows = new Set(tokens.map(({ task }) => task));
  if (rows.size === tokens.length)
    return [{ part: "step", dispatch: memory.dispatch(common), count: tokens.length, stretches: 0 }];
  const plain = (task: number) => {
    const { sequence, count } = tasks[task]!;
    return sequence.cache.isPlain(sequence.length + count);
  };
  const most = tokens.every(({ task }) => plain(task)) ? PLAIN_TILE : JOURNAL;
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
    found.push({ part: "tile", dispatch, count: part.length, stretches: stretches.length / 2 });
  }
  return found;
}
