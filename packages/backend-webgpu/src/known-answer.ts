// A tiny model whose logits are known, run whenever a backend is opened: a driver that computes wrongly is refused before it
// tells anybody nonsense.
import {
  type Backend,
  type Checkpoint,
  type Config,
  DogeError,
  defaultSampling,
  memoryCheckpoint,
  tensorShapes,
} from "@doge-lm/core";
import type { Variant } from "./variant.ts";

const config: Config = {
  generation: "native",
  vocabSize: 19,
  hiddenSize: 20,
  intermediateSize: 13,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 6,
  normEpsilon: 1e-6,
  maxPositions: 16,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: true,
  biasHeads: 2,
  window: 3,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: null,
  eosIds: [],
  padId: null,
};
const ids = [3, 1, 4, 1, 5, 9];
/** Logits after `ids`, by @doge-lm/reference. */
const expected: { readonly [dtype in "f32" | "q8"]: readonly number[] } = {
  f32: [
    -1.4726799, -0.09245725, 0.36471748, 1.7575248, -0.60916078, -0.3806389, 4.0300078, 1.1548917, 1.6491551,
    0.55151528, -0.45617229, 1.1532586, 0.6768896, -3.8993154, 1.3955445, 1.334221, -2.4093616, -0.15681694, 2.6434433,
  ],
  q8: [
    -1.4603541, -0.083040372, 0.35115343, 1.7539103, -0.62299818, -0.38371658, 4.0323815, 1.156615, 1.6395431,
    0.54157698, -0.44590408, 1.1614583, 0.68204343, -3.9046216, 1.3937596, 1.3325493, -2.4176445, -0.16615435, 2.6426997,
  ],
};
/** Three orders above what f32 sums in another order differ by, two below what a wrong formula would. */
const tolerance = 1e-3;
/** Activations rounded to 8 bits move these logits by up to 0.035; a wrong byte or scale by their own size. */
const roundedTolerance = 0.3;

/** Weights in -1 ... 1 from a linear congruential generator (Numerical Recipes): the same in every engine. */
function weights(): Map<string, Float32Array> {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2147483648 - 1;
  };
  return new Map(
    Array.from(tensorShapes(config), ([name, shape]) => [
      name,
      Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, next),
    ]),
  );
}

/** The tiny model in f32; and in q8, where a form treats that in a way of its own. Errors: "known-answer" when the backend
 *  computes something else, what loading and running it throw. */
export async function assertKnownAnswer(backend: Backend, variant: Variant): Promise<void> {
  const checkpoint = memoryCheckpoint(config, weights());
  const rounds = variant.packed || variant.f16;
  // At once, so that their kernels are compiled side by side.
  const results = await Promise.allSettled([
    assertAnswer(backend, checkpoint, "f32", tolerance),
    ...(rounds ? [assertAnswer(backend, checkpoint, "q8", roundedTolerance)] : []),
  ]);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

async function assertAnswer(
  backend: Backend,
  checkpoint: Checkpoint,
  dtype: "f32" | "q8",
  within: number,
): Promise<void> {
  const refused = (what: string) =>
    new DogeError("known-answer", `This GPU ${what} (${dtype}, ${backend.can.device}): it is not used like this.`, {
      scope: "webgpu",
    });
  const right = expected[dtype];
  const best = right.indexOf(Math.max(...right));
  const model = await backend.load(checkpoint, { dtype });
  try {
    const tokens = Int32Array.from(ids);
    // A prompt and a step.
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: tokens.slice(0, -1) }]);
    const [logits] = await model.forward([{ sequence, tokens: tokens.slice(-1) }]);
    const sampling = { ...defaultSampling, temperature: 0 };
    const [drawn] = await model.sample([{ sequence: model.sequence(), tokens, count: 1, sampling }]);
    if (drawn!.ids[0] !== best) throw refused(`draws the id ${drawn!.ids[0]} where ${best} is right`);
    right.forEach((value, id) => {
      // Written so that a NaN is refused.
      if (Math.abs(logits![id]! - value) <= within) return;
      throw refused(`computes the logit ${logits![id]} where ${value} is right for the id ${id}`);
    });
  } finally {
    model.close();
  }
}
