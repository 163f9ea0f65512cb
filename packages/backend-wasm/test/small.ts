// A small model, and the error that work rejects with: for the tests of what goes wrong.
import { type Config, isDogeError, memoryCheckpoint, tensorShapes } from "@doge-lm/core";
import { expect } from "vitest";

export const config: Config = {
  generation: "legacy",
  vocabSize: 40,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  headDim: 8,
  normEpsilon: 1e-6,
  maxPositions: 64,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: false,
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
/** Weights of any shape. */
export const checkpointOf = (shape: Config) =>
  memoryCheckpoint(
    shape,
    new Map(
      Array.from(tensorShapes(shape), ([name, sizes]) => {
        const count = sizes.reduce((product, size) => product * size, 1);
        return [name, Float32Array.from({ length: count }, (_, index) => Math.sin(index * 7 + name.length))];
      }),
    ),
  );
export const checkpoint = checkpointOf(config);
export const prompt = Int32Array.of(1, 2, 3);

/** The DogeError that `work` rejects with. */
export async function fault(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error = await work.then(
    () => expect.unreachable("It should have been rejected."),
    (reason: unknown) => reason,
  );
  if (!isDogeError(error)) throw error;
  return error;
}
