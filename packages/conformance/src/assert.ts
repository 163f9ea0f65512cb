// How a check fails: a thrown CheckFailure with the values in the sentence. No test runner, so that checks run anywhere.
import { type ErrorCode, isDogeError } from "@doge-lm/core";

/** A backend did not do what the contract says. */
export class CheckFailure extends Error {
  override readonly name = "CheckFailure";
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new CheckFailure(message);
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(ArrayBuffer.isView(value) ? Array.from(value as Int32Array) : value) ?? String(value);
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
};

/** Equal as plain data: numbers, strings, arrays and typed arrays of them. */
export function same(actual: unknown, expected: unknown, what: string): void {
  // JSON has neither NaN nor infinities.
  const named = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
  const plain = (value: unknown): string =>
    JSON.stringify(ArrayBuffer.isView(value) ? Array.from(value as Int32Array) : value, named) ?? "undefined";
  if (plain(actual) === plain(expected)) return;
  throw new CheckFailure(`${what}: got ${shown(actual)}, expected ${shown(expected)}.`);
}

/** The promise rejects with a DogeError of this code, which is returned. */
export async function rejects(promise: Promise<unknown>, code: ErrorCode, what: string): Promise<Error> {
  let result: unknown;
  try {
    result = await promise;
  } catch (error) {
    return coded(error, code, what);
  }
  throw new CheckFailure(`${what}: resolved with ${shown(result)}, expected a rejection with "${code}".`);
}

/** The function throws a DogeError of this code. */
export function throws(action: () => unknown, code: ErrorCode, what: string): Error {
  try {
    action();
  } catch (error) {
    return coded(error, code, what);
  }
  throw new CheckFailure(`${what}: returned, expected a throw with "${code}".`);
}

function coded(error: unknown, code: ErrorCode, what: string): Error {
  if (isDogeError(error, code)) return error;
  const found = isDogeError(error) ? `code "${error.code}"` : "an error without a code of ours";
  throw new CheckFailure(`${what}: failed with ${found} (${String(error)}), expected "${code}".`, { cause: error });
}

/** Settle every promise; only then throw the first failure. Keeps a failing check from leaving rejections behind. */
export async function settled<T>(promises: readonly Promise<T>[]): Promise<PromiseSettledResult<T>[]> {
  return Promise.allSettled(promises);
}
