// The tokens that a call evaluates, and how they are cut into groups that go through the layers together.
import type { Routing } from "../backend.ts";
import type { Config } from "../config.ts";
import type { Task } from "./sequences.ts";

/** A token to be evaluated. */
export interface PendingToken {
  readonly id: number;
  readonly position: number;
  /** Whose it is: an index into the tasks. */
  readonly task: number;
}

/** Tokens `from` to from + count - 1. */
export interface Group {
  readonly from: number;
  readonly count: number;
  /** Routed together, under "reference" routing. */
  readonly span: boolean;
}

/** What is pending of the tasks, one task behind the other, in groups of `most` tokens of any tasks; but a span that a mixture of
 *  experts routes together is a group of its own, however long. */
export function planGroups(
  config: Pick<Config, "experts">,
  routing: Routing,
  most: number,
  tasks: readonly Task[],
): { readonly tokens: readonly PendingToken[]; readonly groups: readonly Group[] } {
  const tokens: PendingToken[] = [];
  const groups: { from: number; count: number; span: boolean }[] = [];
  tasks.forEach(({ sequence: { timeline } }, task) => {
    const { ids } = timeline;
    for (const { from, to } of timeline.pending()) {
      const span = config.experts !== null && routing === "reference" && to - from > 1;
      for (let position = from; position < to; position++) {
        const index = tokens.push({ id: ids[position]!, position, task }) - 1;
        const group = groups.at(-1);
        const fits = group !== undefined && (span ? position > from : !group.span && group.count < most);
        if (fits) group.count++;
        else groups.push({ from: index, count: 1, span });
      }
    }
  });
  return { tokens, groups };
}
