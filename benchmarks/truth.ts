// What backends are held to: the texts that the truth draws, with the logits of every step and how clear each choice was.
import type { DType, Model, Sequence, Tokens } from "@doge-lm/core";
import { argmax, largestDifference } from "../packages/conformance/src/compare.ts";
import { tolerances } from "../packages/conformance/src/tolerances.ts";
import type { Extent } from "./tasks.ts";

/** What a backend that is taken for the truth gives. */
export interface Expected {
  readonly engine: string;
  readonly dtype: DType;
  readonly extent: Extent;
  readonly vocabulary: number;
  /** The ids drawn greedily behind each prompt, end of text ignored. */
  readonly ids: readonly Tokens[];
  /** By how much each of them led, in logits and in standard deviations of its step's logits. */
  readonly margins: readonly Float32Array[];
  readonly deviations: readonly Float32Array[];
  /** Of the first `extent.looked` texts: the logits (lookedSteps, vocabulary) that each id was drawn from. */
  readonly logits: readonly Float32Array[];
}

export const few = (value: number): string => value.toExponential(1);

/** Ids at the beginning that are the same. */
export function common(left: Tokens, right: Tokens): number {
  const most = Math.min(left.length, right.length);
  let count = 0;
  while (count < most && left[count] === right[count]) count++;
  return count;
}

export function spread(logits: ArrayLike<number>): number {
  let [sum, squares] = [0, 0];
  for (let id = 0; id < logits.length; id++) {
    sum += logits[id]!;
    squares += logits[id]! ** 2;
  }
  const mean = sum / logits.length;
  return Math.sqrt(Math.max(0, squares / logits.length - mean * mean));
}

export function lead(logits: Float32Array, best: number): number {
  let second = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) if (id !== best && logits[id]! > second) second = logits[id]!;
  return logits[best]! - second;
}

export async function step(model: Model, sequence: Sequence, tokens: Tokens): Promise<Float32Array> {
  const [logits] = await model.forward([{ sequence, tokens }]);
  return logits!;
}

/** What `model` draws behind each prompt, a token at a time, with the logits and how clear each choice was. */
export async function expect(
  engine: string,
  model: Model,
  prompts: readonly Tokens[],
  extent: Extent,
  tell: (what: string) => void,
): Promise<Expected> {
  const vocabulary = model.config.vocabSize;
  const ids: Tokens[] = [];
  const margins: Float32Array[] = [];
  const deviations: Float32Array[] = [];
  const kept: Float32Array[] = [];
  for (const [number, prompt] of prompts.entries()) {
    if (number % 20 === 0) tell(`${engine}, ${model.dtype}: text ${number + 1} of ${prompts.length}`);
    const looked = number < extent.looked;
    const logits = new Float32Array(looked ? extent.lookedSteps * vocabulary : 0);
    const [own, by, of] = [
      new Int32Array(extent.steps),
      new Float32Array(extent.steps),
      new Float32Array(extent.steps),
    ];
    const sequence = model.sequence();
    let tokens = prompt;
    for (let at = 0; at < extent.steps; at++) {
      const row = await step(model, sequence, tokens);
      const best = argmax(row);
      own[at] = best;
      by[at] = lead(row, best);
      of[at] = by[at]! / spread(row);
      if (looked && at < extent.lookedSteps) logits.set(row, at * vocabulary);
      tokens = Int32Array.of(best);
    }
    sequence.close();
    ids.push(own);
    margins.push(by);
    deviations.push(of);
    if (looked) kept.push(logits);
  }
  return { engine, dtype: model.dtype, extent, vocabulary, ids, margins, deviations, logits: kept };
}

/** Parts of one truth, made by several processes, in the order of their texts. */
export function joined(parts: readonly Expected[]): Expected {
  const [first] = parts as [Expected];
  const extents = parts.map(({ extent }) => extent);
  return {
    ...first,
    extent: {
      ...first.extent,
      texts: extents.reduce((sum, { texts }) => sum + texts, 0),
      looked: extents.reduce((sum, { looked }) => sum + looked, 0),
    },
    ids: parts.flatMap(({ ids }) => ids),
    margins: parts.flatMap(({ margins }) => margins),
    deviations: parts.flatMap(({ deviations }) => deviations),
    logits: parts.flatMap(({ logits }) => logits),
  };
}

/** The truth on fewer texts and steps. */
export function within(expected: Expected, extent: Extent): Expected {
  const { vocabulary } = expected;
  return {
    ...expected,
    extent,
    ids: expected.ids.slice(0, extent.texts).map((ids) => ids.slice(0, extent.steps)),
    margins: expected.margins.slice(0, extent.texts).map((margins) => margins.slice(0, extent.steps)),
    deviations: expected.deviations.slice(0, extent.texts).map((all) => all.slice(0, extent.steps)),
    logits: expected.logits.slice(0, extent.looked).map((all) => all.slice(0, extent.lookedSteps * vocabulary)),
  };
}

/** Whether `drawn` is what `exact` draws, as far as that goes; and what others are then held to: the texts of `drawn` with the logits
 *  of `exact`. */
export function agreeing(
  exact: Expected,
  drawn: Expected,
): {
  readonly found: { readonly sameTokens: number; readonly ties: number; readonly maxDifference: number };
  readonly why: string | null;
  readonly joined: Expected;
} {
  const { texts, steps } = exact.extent;
  let [sameTokens, ties, maxDifference] = [0, 0, 0];
  const faults: string[] = [];
  const same = new Set<number>();
  for (let text = 0; text < texts; text++) {
    const [left, right] = [exact.ids[text]!, drawn.ids[text]!.slice(0, steps)];
    const at = common(left, right);
    sameTokens += at;
    if (at === steps) same.add(text);
    else if (exact.margins[text]![at]! <= tolerances.textMargin) ties++;
    else
      faults.push(
        `text ${text} has the id ${right[at]} at step ${at}, not ${left[at]}, which leads by ${few(exact.margins[text]![at]!)}`,
      );
    const rows = Math.min(at + 1, exact.extent.lookedSteps, drawn.extent.lookedSteps) * exact.vocabulary;
    const [own, other] = [exact.logits[text], drawn.logits[text]];
    if (own === undefined || other === undefined) continue;
    const { difference } = largestDifference(other.subarray(0, rows), own.subarray(0, rows));
    maxDifference = Math.max(maxDifference, difference / spread(own));
  }
  if (maxDifference > tolerances.logits) faults.push(`logits are ${few(maxDifference)} σ apart`);
  // Of a text that parts at a tie no logits are looked at: they would be those of another text.
  const joined: Expected = {
    ...drawn,
    extent: { ...drawn.extent, looked: texts, lookedSteps: exact.extent.lookedSteps },
    logits: exact.logits.map((logits, text) => (same.has(text) ? logits : new Float32Array(0))),
  };
  return {
    found: { sameTokens, ties, maxDifference },
    why: faults.length === 0 ? null : `${faults.join("; ")}.`,
    joined,
  };
}
