// A backend checked against itself, before it is offered: engines have kernels of their own for prompts and for the step of a single text,
// by instructions that only some devices have, and the known answer, a text of six tokens under a window, meets few of them. So a longer
// text without a window must come out the same in every way that there is to its logits.

import type { Floats } from "../arrays.ts";
import type { Backend, DType } from "../backend.ts";
import type { Config } from "../config.ts";
import { DogeError } from "../errors.ts";
import { elements, memoryCheckpoint, tensorShapes } from "../loading/weights.ts";
import { uniform } from "../seeded.ts";
import { tiny } from "./known-answer.ts";

const config: Config = {
  ...tiny,
  ...{ vocabSize: 96, hiddenSize: 64, intermediateSize: 96, headDim: 16, maxPositions: 128, window: null },
};
/** More than a tile of 64 queries, or a chunk of 64 keys. */
const TOKENS = 80;

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
  /** Tokens at a time that bring the plain kernels to the last token. */
  readonly few?: number;
  /** How far logits may be apart, of their standard deviation; a wrong operand moves them by all of it. */
  readonly apart: number;
  /** What may help, a whole sentence. */
  readonly advice?: string;
}

/** Errors: "known-answer" when a prompt in one call or the step of a single text gives other logits than a step of two texts; what
 *  loading and running the model throw. */
export async function assertAgreesWithItself(backend: Backend, check: SelfCheck): Promise<void> {
  const results = await Promise.allSettled(check.dtypes.map((dtype) => assertAgrees(backend, check, dtype)));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

async function assertAgrees(backend: Backend, check: SelfCheck, dtype: DType): Promise<void> {
  const { few = TOKENS } = check;
  const model = await backend.load(memoryCheckpoint(config, weights()), { dtype, room: 4 * TOKENS });
  try {
    const tokens = Int32Array.from({ length: TOKENS }, (_, index) => (index * index * 7 + 3) % config.vocabSize);
    const sequence = model.sequence();
    for (let from = 0; from < TOKENS - 1; from += few) {
      await model.forward([{ sequence, tokens: tokens.subarray(from, Math.min(from + few, TOKENS - 1)) }]);
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
    assertNear(backend, check, `a prompt of ${TOKENS} tokens (${dtype}`, prompt!, plain!);
    assertNear(backend, check, `the step of a single text (${dtype}`, step!, plain!);
  } finally {
    model.close();
  }
}

function assertNear(backend: Backend, check: SelfCheck, what: string, found: Floats, plain: Floats): void {
  const { engine, apart, advice } = check;
  const mean = plain.reduce((sum, logit) => sum + logit, 0) / plain.length;
  const deviation = Math.sqrt(plain.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / plain.length);
  for (const [id, logit] of found.entries()) {
    // Written so that what is no number is refused.
    if (Math.abs(logit - plain[id]!) / deviation <= apart) continue;
    throw new DogeError(
      "known-answer",
      `${engine} computes the logit ${logit} for ${what}, id ${id}) where a step of two texts computes ${plain[id]} (${backend.can.device}): it is not used.` +
        (advice === undefined ? "" : ` ${advice}`),
      { scope: backend.name },
    );
  }
}
