// A device checked against itself, before it is offered: prompts and single steps go through kernels of their own, by instructions that
// only some devices have, and the known answer, a text of six tokens under a window, meets none of them. So a longer text must come out as
// it does by the plain kernels for few rows.
import type { Backend, Config, Floats } from "@doge-lm/core";
import { DogeError, memoryCheckpoint, tensorShapes } from "@doge-lm/core";
import { uniform } from "@doge-lm/core/backend-kit";

const config: Config = {
  generation: "native",
  vocabSize: 96,
  hiddenSize: 64,
  intermediateSize: 96,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  normEpsilon: 1e-6,
  maxPositions: 128,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: true,
  biasHeads: 2,
  window: null,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: null,
  eosIds: [],
  padId: null,
};
/** More than a tile of 64 queries. */
const TOKENS = 80;
/** Tokens that the plain kernels take at once. */
const FEW = 8;
/** Of the logits' standard deviation: 11 bits of each activation move logits by 0.005, a wrong operand by their own size. */
const APART = 0.05;

/** Weights that keep what flows through at about 1. */
function weights(): Map<string, Float32Array> {
  const next = uniform();
  return new Map(
    Array.from(tensorShapes(config), ([name, shape]) => {
      const [middle, spread] = shape.length === 1 ? [1, 0.3] : [0, 1.7 / Math.sqrt(shape.at(-1)!)];
      const count = shape.reduce((product, size) => product * size, 1);
      return [name, Float32Array.from({ length: count }, () => middle + spread * next())];
    }),
  );
}

/** Errors: "known-answer" when a way to the logits gives others than the plain kernels; what loading and running the model throw. */
export async function assertAgreesWithItself(backend: Backend): Promise<void> {
  const model = await backend.load(memoryCheckpoint(config, weights()), { dtype: "bf16", room: 4 * TOKENS });
  try {
    const tokens = Int32Array.from({ length: TOKENS }, (_, index) => (index * index * 7 + 3) % config.vocabSize);
    const sequence = model.sequence();
    for (let from = 0; from < TOKENS - 1; from += FEW) {
      await model.forward([{ sequence, tokens: tokens.subarray(from, Math.min(from + FEW, TOKENS - 1)) }]);
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
    assertNear(backend, `a prompt of ${TOKENS} tokens`, prompt!, plain!);
    assertNear(backend, "a single step", step!, plain!);
  } finally {
    model.close();
  }
}

function assertNear(backend: Backend, what: string, found: Floats, plain: Floats): void {
  const mean = plain.reduce((sum, logit) => sum + logit, 0) / plain.length;
  const deviation = Math.sqrt(plain.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / plain.length);
  for (const [id, logit] of found.entries()) {
    const apart = Math.abs(logit - plain[id]!) / deviation;
    // Written so that what is no number is refused.
    if (apart <= APART) continue;
    throw new DogeError(
      "known-answer",
      `This GPU computes the logit ${logit} for ${what} where its plain kernels compute ${plain[id]} (bf16, id ${id}, ${backend.can.device}): ` +
        "it is not used. DOGE_HALVES=0 in the environment leaves half precision out.",
      { scope: "cuda" },
    );
  }
}
