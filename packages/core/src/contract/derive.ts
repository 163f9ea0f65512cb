// `sample` and `score` built from `forward` and `inspect`: the meaning of the fast verbs, and how a new backend begins.
//
// They are part of a backend, behind checked(): calls come one at a time, on live sequences, with arguments in order.
import type { Drawn, Floats, Model, Row, SampleRow, Sequence, Tokens } from "../backend.ts";
import { DogeError, isDogeError } from "../errors.ts";
import { draw, logSumExp, mostLikely } from "../sampling/sampling.ts";
import type { Timeline } from "./timeline.ts";

/** Where a backend keeps the ids of one of its sequences. An id appended here is pending: the next forward evaluates it. */
export type TimelineOf = (sequence: Sequence) => Timeline;

const nothing: Tokens = new Int32Array(0);
const noLogprobs: Floats = new Float32Array(0);

/** Add which row it was. */
function inRow(row: number, error: unknown): unknown {
  if (!isDogeError(error)) return error;
  return new DogeError(error.code, `row ${row}: ${error.message.replace(/^\[[^\]]*\] /, "")}`, { cause: error });
}

/** One row of a sample call on its way. */
interface Drawing {
  readonly row: SampleRow;
  readonly index: number;
  readonly ids: number[];
  readonly logprobs: number[];
  readonly topIds: number[];
  readonly topLogprobs: number[];
  done: boolean;
}

/** Draw one id from the logits that follow the sequence's last one, and append it. */
function drawInto(drawing: Drawing, logits: Floats, timeline: Timeline): void {
  const { row } = drawing;
  const id = draw(logits, timeline.ids, timeline.length, row.sampling, row.allowed);
  if (id < 0) {
    drawing.done = true;
    return;
  }
  if (row.alternatives !== undefined) {
    const normalizer = logSumExp(logits);
    drawing.logprobs.push(logits[id]! - normalizer);
    for (const top of mostLikely(logits, row.alternatives)) {
      drawing.topIds.push(top);
      drawing.topLogprobs.push(logits[top]! - normalizer);
    }
  }
  drawing.ids.push(id);
  timeline.append([id]);
  if (row.sampling.stop.includes(id)) {
    timeline.held = true;
    drawing.done = true;
  }
}

/** `sample` by its definition: forward, core's draw, append, over and over; all rows that still draw share each forward. */
export function sampleByForward(model: Pick<Model, "forward" | "context">, timelineOf: TimelineOf): Model["sample"] {
  return async (rows, signal) => {
    const before = rows.map(({ sequence }) => {
      const { length, held } = timelineOf(sequence);
      return { length, held };
    });
    try {
      const drawings = rows.map(
        (row, index): Drawing => ({ row, index, ids: [], logprobs: [], topIds: [], topLogprobs: [], done: false }),
      );
      let first = true;
      for (;;) {
        const full = (drawing: Drawing) => timelineOf(drawing.row.sequence).length >= model.context;
        const active = drawings.filter((drawing) => {
          if (first && drawing.row.tokens.length > 0) return true; // to be appended, whatever is drawn
          if (drawing.ids.length >= drawing.row.count || full(drawing)) return false;
          return !drawing.done && !timelineOf(drawing.row.sequence).held;
        });
        if (active.length === 0) break;
        const step = active.map(({ row }): Row => ({ sequence: row.sequence, tokens: first ? row.tokens : nothing }));
        const logits = await model.forward(step, signal);
        active.forEach((drawing, index) => {
          if (drawing.ids.length >= drawing.row.count || full(drawing)) return;
          try {
            drawInto(drawing, logits[index]!, timelineOf(drawing.row.sequence));
          } catch (error) {
            throw inRow(drawing.index, error);
          }
        });
        first = false;
      }
      return drawings.map(
        ({ row, ids, logprobs, topIds, topLogprobs }): Drawn => ({
          ids: Int32Array.from(ids),
          logprobs: row.alternatives === undefined ? noLogprobs : Float32Array.from(logprobs),
          topIds: row.alternatives ? Int32Array.from(topIds) : nothing,
          topLogprobs: row.alternatives ? Float32Array.from(topLogprobs) : noLogprobs,
        }),
      );
    } catch (error) {
      rollBack(rows, before, timelineOf);
      throw error;
    }
  };
}

/** Positions scored at a time where a call may be cut: bounds the logits on the host to this many rows of them. */
const piece = 64;

/** `score` by its definition: the log-softmax of the logits that precede each appended token, taken from `inspect`. Under
 *  "reference" routing the tokens of a row must be evaluated in one call, so that all their logits are held at once. */
export function scoreByForward(
  model: Pick<Model, "forward" | "inspect" | "routing">,
  timelineOf: TimelineOf,
): Model["score"] {
  const scoreRow = async ({ sequence, tokens }: Row, signal: AbortSignal | undefined): Promise<Floats> => {
    const scores = new Float32Array(tokens.length); // 0 for a sequence's first token
    if (tokens.length === 0) return scores;
    let previous: Floats | undefined; // the logits before the next token
    if (timelineOf(sequence).length > 0) previous = (await model.forward([{ sequence, tokens: nothing }], signal))[0]!;
    const step = model.routing === "per-token" ? piece : tokens.length;
    for (let from = 0; from < tokens.length; from += step) {
      const part = tokens.slice(from, from + step);
      const tensor = (await model.inspect([{ sequence, tokens: part }], ["logits"], signal))[0]!.get("logits")!;
      const vocabulary = tensor.shape[1]!;
      for (let index = 0; index < part.length; index++) {
        if (previous !== undefined) scores[from + index] = previous[part[index]!]! - logSumExp(previous);
        previous = tensor.data.subarray(index * vocabulary, (index + 1) * vocabulary);
      }
    }
    return scores;
  };
  return async (rows, signal) => {
    const before = rows.map(({ sequence }) => {
      const { length, held } = timelineOf(sequence);
      return { length, held };
    });
    const results: Floats[] = [];
    try {
      for (const [index, row] of rows.entries()) {
        try {
          results.push(await scoreRow(row, signal));
        } catch (error) {
          throw isDogeError(error, "numerical") ? inRow(index, error) : error;
        }
      }
      return results;
    } catch (error) {
      rollBack(rows, before, timelineOf);
      throw error;
    }
  };
}

/** A call happens whole or not at all. Every sequence was where a call ended, so a rewind restores it exactly. */
function rollBack(
  rows: readonly Row[],
  before: readonly { readonly length: number; readonly held: boolean }[],
  timelineOf: TimelineOf,
): void {
  rows.forEach(({ sequence }, index) => {
    const { length, held } = before[index]!;
    if (timelineOf(sequence).length > length) sequence.rewind(length);
    timelineOf(sequence).held = held;
  });
}
