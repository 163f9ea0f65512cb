// Errors of the native side as the contract's: it gives a code and a sentence.
import { aborted, DogeError, type ErrorCode } from "@doge-lm/core";

/** What to throw for what the binding threw. */
export function fault(error: unknown, signal?: AbortSignal): unknown {
  if (!(error instanceof Error) || error.name === "DogeError") return error;
  const code = (error as { code?: unknown }).code;
  if (code === "aborted" && signal !== undefined) return aborted(signal, "cuda");
  if (typeof code !== "string") return error;
  return new DogeError(code as ErrorCode, error.message, { scope: "cuda", cause: error });
}
