// How the loading tests look at a refusal: its code and words, and that a good model still opens afterwards.
import { expect } from "vitest";
import { DogeError, type ErrorCode, openCheckpoint, readTensor } from "../../src/index.ts";
import { modelFiles, tinyConfig } from "./write-safetensors.ts";

/** Expects a DogeError with this code, whose message has all the words, then that the next good open works. */
export async function refuses(
  action: () => unknown,
  code: ErrorCode,
  ...words: readonly (string | RegExp)[]
): Promise<void> {
  let caught: unknown;
  try {
    await action();
  } catch (error) {
    caught = error;
  }
  expect(caught, "nothing was thrown").toBeInstanceOf(DogeError);
  const error = caught as DogeError;
  expect(error.code, error.message).toBe(code);
  expect(error.message).toMatch(/^\[doge:core\] .+\.$/s);
  for (const word of words) {
    if (typeof word === "string") expect(error.message).toContain(word);
    else expect(error.message).toMatch(word);
  }
  const good = await openCheckpoint(modelFiles(tinyConfig));
  expect((await readTensor(good, "model.norm.weight")).length).toBe(tinyConfig.hiddenSize);
}
