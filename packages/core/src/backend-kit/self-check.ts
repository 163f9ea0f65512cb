// A backend checked against itself, before it is offered: engines have kernels of their own for prompts and for the step of a single text,
// by instructions that only some devices have, and the known answer, a text of six tokens under a window, meets few of them. So a longer
// text without a window must come out the same in every way that there is to its logits.

import type { Floats } from "../arrays.ts";
import type { Backend, DType } from "../backend.ts";
import type { Config } from "../config.ts";
import { DogeError } from "../errors.ts";
import { elements, memoryCheckpoint, tensorShapes } from "../loading/weights.ts";
import { defaultSampling } from "../sampling/sampling.ts";
import { uniform } from "../seeded.ts";
import { tiny } from "./known-answer.ts";

const config: Config = {
  ...tiny,
  ...{ vocabSize: 96, hiddenSize: 64, intermediateSize: 96, headDim: 16, maxPositions: 1024, window: null },
};
/** Weights that keep what flows through at about 1. */
function weights(): Map<string, Float32Array> {
  const next = uniform();
  return new Map(
    Array.from(tensorShapes(config), ([name, shape]) => {
      const [middle, spread] = shape.length === 1 ? [1, 0.3] : [0, 1.7 / Math.sqrt(shape.at(-1)!)];
      return [name, Float32Array.from({ length: elements(shape) }, () => middle + spread * next())];
    }),
  );
}

/** What an engine is to agree about. */
export interface SelfCheck {
  /** What computes, as the beginning of a sentence. */
  readonly engine: string;
  /** Those that it treats in ways of their own, judged side by side. */
  readonly dtypes: readonly DType[];
  /** Of the text. Default 80: more than a tile of 64 queries, or a chunk of 64 keys. */
  readonly tokens?: number;
  /** Tokens at a time that bring the plain kernels to the last token. */
  readonly few?: number;
  /** How far logits may be apart, of their standard deviation; a wrong operand moves them by all of it. */
  readonly apart: number;
  /** Ids that one text draws, where steps that draw have kernels of their own: they meet neither `forward` nor a text beside it. */
  readonly draws?: number;
  /** What may help, a whole sentence. */
  readonly advice?: string;
}

/** Errors: "known-answer" when a prompt in one call or the step of a single text gives other logits than a step of two texts, or a single
 *  text draws what is not the likeliest there or keeps something else of it; what loading and running the model throw. */
export async function assertAgreesWithItself(backend: Backend, check: SelfCheck): Promise<void> {
  const results = await Promise.allSettled(check.dtypes.map((dtype) => assertAgrees(backend, check, dtype)));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

async function assertAgrees(backend: Backend, check: SelfCheck, dtype: DType): Promise<void> {
  const { tokens: count = 80, few = count, draws = 0 } = check;
  const model = await backend.load(memoryCheckpoint(config, weights()), {
    dtype,
    context: count + 48,
    room: 4 * count,
  });
  try {
    const tokens = Int32Array.from({ length: count }, (_, index) => (index * index * 7 + 3) % config.vocabSize);
    const sequence = model.sequence();
    for (let from = 0; from < count - 1; from += few) {
      await model.forward([{ sequence, tokens: tokens.subarray(from, Math.min(from + few, count - 1)) }]);
    }
    const last = tokens.subarray(-1);
    const [beside, alone] = [sequence.fork(), sequence.fork()];
    // Two rows are none of a single step's kernel.
    const [plain] = await model.forward([
      { sequence, tokens: last },
      { sequence: beside, tokens: last },
    ]);
    const [prompt] = await model.forward([{ sequence: model.sequence(), tokens }]);
    const [step] = await model.forward([{ sequence: alone, tokens: last }]);
    assertNear(backend, check, `a prompt of ${count} tokens (${dtype}`, prompt!, plain!);
    assertNear(backend, check, `the step of a single text (${dtype}`, step!, plain!);
    if (draws === 0) return;
    const sampling = { ...defaultSampling, temperature: 0 };
    const [drawn] = await model.sample([{ sequence: alone, tokens: new Int32Array(0), count: draws, sampling }]);
    let logits = plain!;
    for (let index = 0; index < draws; index++) {
      assertLikeliest(backend, check, `draw ${index + 1} of a single text (${dtype})`, drawn!.ids[index], logits);
      const next = drawn!.ids.subarray(index, index + 1);
      [logits] = (await model.forward([
        { sequence, tokens: next },
        { sequence: beside, tokens: next },
      ])) as [Floats, Floats];
    }
    const [behind] = await model.forward([{ sequence: alone, tokens: new Int32Array(0) }]);
    assertNear(backend, check, `the step behind ${draws} draws of a single text (${dtype}`, behind!, logits);
  } finally {
    model.close();
  }
}

const deviationOf = (logits: Floats): number => {
  const mean = logits.reduce((sum, logit) => sum + logit, 0) / logits.length;
  return Math.sqrt(logits.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / logits.length);
};

function refused(backend: Backend, { engine, advice }: SelfCheck, what: string): DogeError {
  const sentence = `${engine} ${what} (${backend.can.device}): it is not used.${advice === undefined ? "" : ` ${advice}`}`;
  return new DogeError("known-answer", sentence, { scope: backend.name });
}

// Both are written so that what is no number is refused.
function assertNear(backend: Backend, check: SelfCheck, what: string, found: Floats, plain: Floats): void {
  const deviation = deviationOf(plain);
  for (const [id, logit] of found.entries()) {
    if (Math.abs(logit - plain[id]!) / deviation <= check.apart) continue;
    throw refused(
      backend,
      check,
      `computes the logit ${logit} for ${what}, id ${id}) where a step of two texts computes ${plain[id]}`,
    );
  }
}

/** That `id` is the likeliest by these logits, or nearly: of two that are as near as that either may be drawn. */
function assertLikeliest(
  backend: Backend,
  check: SelfCheck,
  what: string,
  id: number | undefined,
  logits: Floats,
): void {
  const best = logits.reduce((most, logit) => Math.max(most, logit));
  const its = id === undefined ? undefined : logits[id];
  if (its !== undefined && (best - its) / deviationOf(logits) <= check.apart) return;
  throw refused(
    backend,
    check,
    `draws ${id ?? "nothing"} as ${what}, whose logit is ${its} in a step of two texts where the greatest is ${best}`,
  );
}
