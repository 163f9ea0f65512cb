// Ways to put ids through a model that checks share: one call, single steps, calls of given lengths.
import type { Floats, Model, Sequence, Tensor, Tokens } from "@doge-lm/core";
import { assert, same } from "./assert.ts";
import { tokens } from "./random.ts";

/** Logits of every position, one row after the other: [ids, vocabulary]. */
export type Table = { readonly data: Floats; readonly width: number };

export const tableRow = (table: Table, row: number): Floats =>
  table.data.slice(row * table.width, (row + 1) * table.width);

/** The logits that follow the last token of one row. */
export async function forward(model: Model, sequence: Sequence, ids: ArrayLike<number>): Promise<Floats> {
  const [logits] = await model.forward([{ sequence, tokens: tokens(ids) }]);
  assert(logits !== undefined, "forward() of one row returned no row.");
  same(logits.length, model.config.vocabSize, "Length of the logits");
  return logits;
}

export async function inspectOne(
  model: Model,
  sequence: Sequence,
  ids: Tokens,
  names: readonly string[],
): Promise<ReadonlyMap<string, Tensor>> {
  const [seen] = await model.inspect([{ sequence, tokens: ids }], names);
  assert(seen !== undefined, "inspect() of one row returned no row.");
  return seen;
}

/** Logits of every id, appended in calls of the given lengths (default: one call). Calls of one token go through forward(),
 *  so that decoding is what is tested; longer ones through inspect(), the only verb that shows every position. */
export async function logitsByCalls(
  model: Model,
  sequence: Sequence,
  ids: ArrayLike<number>,
  calls: readonly number[] = [ids.length],
): Promise<Table> {
  const width = model.config.vocabSize;
  const data = new Float32Array(ids.length * width);
  const all = tokens(ids);
  let from = 0;
  for (const length of calls) {
    const part = all.slice(from, from + length);
    if (length === 1) data.set(await forward(model, sequence, part), from * width);
    else data.set(await allLogits(model, sequence, part), from * width);
    from += length;
  }
  assert(from === ids.length, `Calls of ${calls.join(", ")} tokens do not make ${ids.length}.`);
  return { data, width };
}

async function allLogits(model: Model, sequence: Sequence, ids: Tokens): Promise<Floats> {
  const seen = await inspectOne(model, sequence, ids, ["logits"]);
  const logits = seen.get("logits");
  assert(logits !== undefined, `inspect() left out "logits", which every backend has.`);
  same(logits.shape, [ids.length, model.config.vocabSize], `Shape of "logits"`);
  return logits.data;
}

/** Logits of every id, each appended by a forward() of its own. */
export const logitsBySteps = (model: Model, sequence: Sequence, ids: ArrayLike<number>): Promise<Table> =>
  logitsByCalls(model, sequence, ids, new Array(ids.length).fill(1));
