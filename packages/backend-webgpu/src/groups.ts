// How the tokens of a call are cut: into groups that go through the layers together, and within a group into tiles whose keys are
// kept before any of their tokens attends.
import type { Config, Routing, SampleRow } from "@doge-lm/core";
import type { PagedSequence as GpuSequence } from "@doge-lm/core/backend-kit";
import { type CallMemory, type Dispatch, TOKEN_WORDS } from "./call.ts";
import { JOURNAL } from "./kernels/attention.ts";

/** One row of a call. */
export interface Task {
  readonly sequence: GpuSequence;
  /** Ids of the sequence before the call: those from here on are the row's own. */
  readonly before: number;
  /** Tokens to draw, and how. */
  readonly count: number;
  readonly drawing?: Omit<SampleRow, "sequence" | "tokens"> | undefined;
}

/** Tokens whose keys are kept together where none is evicted: more would be too many workgroups for one dispatch. */
const PLAIN_TILE = 1024;

export interface Token {
  readonly id: number;
  readonly position: number;
  readonly task: number;
}
/** Tokens that go through the layers together. */
export interface Group {
  readonly from: number;
  readonly count: number;
  /** Routed together, under "reference" routing. */
  readonly span: boolean;
}
/** Tokens whose keys are kept before any of them attends. */
export interface Tile {
  readonly part: "step" | "tile";
  readonly dispatch: number;
  readonly count: number;
  readonly stretches: number;
}

/** The tokens to evaluate, rows one after the other, and how they are cut: groups of any rows, but spans that are routed
 *  together on their own. */
export function plan(
  config: Config,
  most: number,
  routing: Routing,
  tasks: readonly Task[],
): { tokens: readonly Token[]; groups: readonly Group[] } {
  const tokens: Token[] = [];
  const groups: { -readonly [key in keyof Group]: Group[key] }[] = [];
  tasks.forEach(({ sequence: { timeline } }, task) => {
    for (const { from, to } of timeline.pending()) {
      const span = config.experts !== null && routing === "reference" && to - from > 1;
      for (let position = from; position < to; position++) {
        const index = tokens.push({ id: timeline.ids[position]!, position, task }) - 1;
        const group = groups.at(-1);
        const fits = group !== undefined && (span ? position > from : !group.span && group.count < most);
        if (fits) group.count++;
        else groups.push({ from: index, count: 1, span });
      }
    }
  });
  return { tokens, groups };
}

/** How a group's keys are kept and read: all at once by "step", or in tiles by "keep" and "attend". */
export function tiles(
  memory: CallMemory,
  tasks: readonly Task[],
  common: Partial<Dispatch>,
  tokens: readonly Token[],
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
