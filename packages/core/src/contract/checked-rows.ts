// What checked() asks of the arguments of a call: the kinds and ranges that do not depend on its turn, and the copies that make
// the caller's arrays its own again as soon as the call returns.
import type { Row, SampleRow, Tokens } from "../backend.ts";
import { DogeError } from "../errors.ts";
import { validateSampling } from "../sampling/sampling.ts";
import { show } from "../show.ts";

/** The most likely ids a draw may ask to see. */
const mostAlternatives = 20;
const largestCount = 2147483647;

const invalid = (message: string): DogeError => new DogeError("invalid-argument", message);

/** Throws unless `value` is a list of rows with a sequence each. Nothing inside the rows is looked at. */
export function checkRows(value: unknown): asserts value is readonly Row[] {
  if (!Array.isArray(value)) throw invalid(`rows is ${show(value)}; it must be a list of { sequence, tokens }.`);
  value.forEach((row: unknown, index) => {
    if (typeof row !== "object" || row === null) {
      throw invalid(`row ${index} is ${show(row)}; it must be an object with a sequence and tokens.`);
    }
  });
}

/** A copy of a row's tokens. Errors: "invalid-argument" for another kind of array, "invalid-token" for an id outside. */
export function copyTokens(tokens: unknown, where: string, vocabulary: number): Tokens {
  if (!(tokens instanceof Int32Array)) throw invalid(`${where}: tokens is ${show(tokens)}; it must be an Int32Array.`);
  const copy = new Int32Array(tokens);
  copy.forEach((id, index) => {
    if (id < 0 || id >= vocabulary) {
      throw new DogeError(
        "invalid-token",
        `${where}, token ${index}: id ${id} is outside the vocabulary of ${vocabulary}.`,
      );
    }
  });
  return copy;
}

/** What a sample row says beside its sequence and tokens, checked and copied. */
export function copyDrawing(row: SampleRow, index: number, vocabulary: number): Omit<SampleRow, "sequence" | "tokens"> {
  const { count, sampling, allowed, alternatives } = row;
  if (!Number.isInteger(count) || count < 0 || count > largestCount) {
    throw invalid(`row ${index}: count is ${show(count)}; it must be a whole number from 0 to ${largestCount}.`);
  }
  validateSampling(sampling, `row ${index}: `);
  const most = Math.min(mostAlternatives, vocabulary);
  if (alternatives !== undefined && !(Number.isInteger(alternatives) && alternatives >= 0 && alternatives <= most)) {
    throw invalid(`row ${index}: alternatives is ${show(alternatives)}; it must be a whole number from 0 to ${most}.`);
  }
  const { temperature, topK, topP, minP, repetitionPenalty, seed, stop } = sampling;
  return {
    count,
    sampling: { temperature, topK, topP, minP, repetitionPenalty, seed, stop: [...stop] },
    allowed: allowed === undefined ? undefined : copyAllowed(allowed, index, vocabulary),
    alternatives,
  };
}

/** Exactly one bit per id of the vocabulary; bits behind its end are cleared. */
function copyAllowed(allowed: unknown, index: number, vocabulary: number): Uint32Array<ArrayBuffer> {
  const words = Math.ceil(vocabulary / 32);
  if (!(allowed instanceof Uint32Array) || allowed.length < words) {
    throw invalid(
      `row ${index}: allowed is ${show(allowed)}; it must be a Uint32Array of ${words} words, one bit for each of ${vocabulary} ids.`,
    );
  }
  const copy = new Uint32Array(allowed.subarray(0, words));
  const used = vocabulary % 32;
  if (used > 0) copy[words - 1]! &= 2 ** used - 1;
  return copy;
}
