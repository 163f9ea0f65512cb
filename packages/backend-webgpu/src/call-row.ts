// A row of a call in its memory (call.ts): where it stands, and how it draws.
import type { Task } from "@doge-lm/core/backend-kit";
import { type CallMemory, ROW } from "./call.ts";
import { PAGE } from "./kernels/page.ts";
import type { Table } from "./tiles.ts";

/** Fill the words of a row at `row`, the call's `index`-th; its page table. */
export function writeRow(
  memory: CallMemory,
  row: number,
  { sequence, count, drawing }: Task,
  index: number,
  vocabSize: number,
): Table {
  const table = { at: memory.list(sequence.cache.pages), slots: sequence.cache.pages.length * PAGE };
  memory.set(row + ROW.pages, table.at);
  memory.set(row + ROW.reach, sequence.cache.reach);
  memory.set(row + ROW.left, count);
  memory.set(row + ROW.position, sequence.length);
  memory.set(row + ROW.index, index);
  if (drawing === undefined || count === 0) return table;
  const { sampling, allowed } = drawing;
  memory.setFloat(row + ROW.temperature, sampling.temperature);
  memory.set(row + ROW.topK, sampling.topK < vocabSize ? sampling.topK : 0);
  memory.setFloat(row + ROW.topP, sampling.topP);
  memory.setFloat(row + ROW.minP, sampling.minP);
  memory.setFloat(row + ROW.penalty, sampling.repetitionPenalty);
  memory.set(row + ROW.seed, sampling.seed);
  memory.set(row + ROW.stops, sampling.stop.length);
  memory.set(row + ROW.stopsAt, memory.list(sampling.stop));
  const bits = (vocabSize + 31) >> 5;
  if (allowed !== undefined) memory.set(row + ROW.allowed, memory.list(allowed.subarray(0, bits)));
  if (sampling.repetitionPenalty === 1) return table;
  const seen = memory.take(bits);
  memory.set(row + ROW.seen, seen);
  for (const id of sequence.timeline.ids) memory.setBit(seen, id);
  return table;
}
