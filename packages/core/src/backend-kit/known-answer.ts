// A tiny model whose logits are known, run whenever a backend is opened: an engine or a driver that computes wrongly is refused
// before it tells anybody nonsense.
import type { Backend, Sampling } from "../backend.ts";
import type { Checkpoint } from "../checkpoint.ts";
import type { Config } from "../config.ts";
import { noteProven } from "../contract/proven.ts";
import { DogeError } from "../errors.ts";
import { elements, memoryCheckpoint, tensorShapes } from "../loading/weights.ts";
import { defaultSampling, draw } from "../sampling/sampling.ts";
import { uniform } from "../seeded.ts";

/** The least that has every part of a dense Doge. */
export const tiny: Config = {
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
/** Logits after `ids`, by @doge-lm/reference, and how far from them an engine may be. */
const answers: {
  readonly [dtype in "f32" | "q8"]: { readonly logits: readonly number[]; readonly tolerance: number };
} = {
  f32: {
    logits: [
      -1.4726799, -0.09245725, 0.36471748, 1.7575248, -0.60916078, -0.3806389, 4.0300078, 1.1548917, 1.6491551,
      0.55151528, -0.45617229, 1.1532586, 0.6768896, -3.8993154, 1.3955445, 1.334221, -2.4093616, -0.15681694,
      2.6434433,
    ],
    // Three orders above what f32 sums in another order differ by, two below what a wrong formula would.
    tolerance: 1e-3,
  },
  q8: {
    logits: [
      -1.4603541, -0.083040372, 0.35115343, 1.7539103, -0.62299818, -0.38371658, 4.0323815, 1.156615, 1.6395431,
      0.54157698, -0.44590408, 1.1614583, 0.68204343, -3.9046216, 1.3937596, 1.3325493, -2.4176445, -0.16615435,
      2.6426997,
    ],
    // Activations rounded to 8 bits and keys in f16 move these logits by 0.035; a wrong byte or scale by their own size.
    tolerance: 0.3,
  },
};

/** Weights in -1 ... 1. */
function weights(): Map<string, Float32Array> {
  const next = uniform();
  return new Map(
    Array.from(tensorShapes(tiny), ([name, shape]) => [name, Float32Array.from({ length: elements(shape) }, next)]),
  );
}

/** `engine`: what computes, as the beginning of a sentence; `dtypes`: those that it treats in ways of their own, judged side by
 *  side. Errors: "known-answer" when it computes something else, what loading and running the model throw. */
export async function assertKnownAnswer(
  backend: Backend,
  engine: string,
  dtypes: readonly ("f32" | "q8")[] = ["f32"],
): Promise<void> {
  const checkpoint = memoryCheckpoint(tiny, weights());
  const results = await Promise.allSettled(dtypes.map((dtype) => assertAnswer(backend, engine, checkpoint, dtype)));
  for (const result of results) if (result.status === "rejected") throw result.reason;
  noteProven(backend);
}

async function assertAnswer(
  backend: Backend,
  engine: string,
  checkpoint: Checkpoint,
  dtype: "f32" | "q8",
): Promise<void> {
  const refuse = (what: string) => {
    throw new DogeError("known-answer", `${engine} ${what}, ${backend.can.device}): it is not used.`, {
      scope: backend.name,
    });
  };
  const { logits: expected, tolerance } = answers[dtype];
  const model = await backend.load(checkpoint, { dtype });
  try {
    const tokens = Int32Array.from(ids);
    const [logits] = await model.forward([{ sequence: model.sequence(), tokens }]);
    const sampling = { ...defaultSampling, temperature: 0 };
    // A step behind a prompt.
    const sequence = model.sequence();
    await model.forward([{ sequence, tokens: tokens.slice(0, -1) }]);
    const [drawn] = await model.sample([{ sequence, tokens: tokens.slice(-1), count: 1, sampling }]);
    expected.forEach((value, id) => {
      // Written so that what is no number is refused.
      if (Math.abs(logits![id]! - value) <= tolerance) return;
      refuse(`computes the logit ${logits![id]} where ${value} is right (${dtype}, id ${id}`);
    });
    const best = expected.indexOf(Math.max(...expected));
    if (drawn!.ids[0] !== best) refuse(`draws the id ${drawn!.ids[0]} where ${best} is right (${dtype}, greedy`);
  } finally {
    model.close();
  }
}

/** Draws behind `ids`, none of the likeliest: logits that are 0.03 away give the same. Without filters half of them are other ones. */
const filtered: readonly Sampling[] = [
  { topK: 3, seed: 1 },
  { topK: 3, seed: 9 },
  { topK: 8, temperature: 2, seed: 4 },
  { topP: 0.7, seed: 10 },
  { topP: 0.9, temperature: 2, seed: 9 },
  { topK: 6, topP: 0.8, seed: 13 },
].map((options) => ({ ...defaultSampling, ...options }));

/** That draws under topK and topP are core's on the backend's own logits: kernels that the known answer does not meet. Errors:
 *  "known-answer", what loading and running the model throw. */
export async function assertDraws(backend: Backend, engine: string): Promise<void> {
  const model = await backend.load(memoryCheckpoint(tiny, weights()), { dtype: "f32", room: 128 }); // pages hold up to 64 tokens
  try {
    const tokens = Int32Array.from(ids);
    const first = model.sequence();
    const [logits] = await model.forward([{ sequence: first, tokens }]);
    first.close();
    for (const sampling of filtered) {
      const sequence = model.sequence();
      const [drawn] = await model.sample([{ sequence, tokens, count: 1, sampling }]);
      sequence.close();
      const right = draw(logits!, ids, ids.length, sampling);
      if (drawn!.ids[0] === right) continue;
      const { topK, topP, seed } = sampling;
      const filters = `topK ${topK}, topP ${topP}, seed ${seed}`;
      throw new DogeError(
        "known-answer",
        `${engine} draws the id ${drawn!.ids[0]} where ${right} is right (${filters}, ${backend.can.device}): it is not used.`,
        { scope: backend.name },
      );
    }
  } finally {
    model.close();
  }
}
