// A small model, and the error that work rejects with: for the tests of what goes wrong.
import { sines, small } from "@doge-lm/conformance/models";
import { type Config, isDogeError } from "@doge-lm/core";
import { expect } from "vitest";

export const config: Config = {
  ...small,
  generation: "legacy",
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  maxPositions: 64,
  qkNorm: false,
  window: null,
};
export const checkpoint = sines(config);
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
