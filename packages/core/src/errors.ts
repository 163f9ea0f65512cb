// Every fault a caller can meet, by a stable code: the codes are part of the public interface, the sentences are not.

/** What went wrong, in words that stay. Grouped by where it is noticed. */
export type ErrorCode =
  // The backend and its device.
  | "unavailable" //           the backend cannot run here; the message says why
  | "device-lost" //           the device is gone: close the backend and open another
  | "out-of-memory" //         the weights or the state do not fit; the message has needed and available
  | "known-answer" //          the device computed a wrong result at start-up, or when first asked, and is refused
  // Calls on a model.
  | "closed" //                a call on something that was closed
  | "superseded" //            a call made behind one that was rejected, on its sequences
  | "aborted" //               the caller's signal fired; nothing was changed
  | "no-room" //               the tokens do not fit beside those of the other sequences
  | "context-overflow" //      more tokens than one sequence may hold
  | "numerical" //             logits with a NaN, or with nothing finite
  | "stale" //                 a sequence made before the weights were trained further
  | "invalid-argument" //      an option or argument of the wrong kind or out of range
  | "invalid-token" //         an id outside the vocabulary
  | "empty-prompt" //          nothing to go on from
  | "unsupported" //           valid, but not something this engine does
  // Model files.
  | "file-missing"
  | "file-changed" //          a file changed while it was being read
  | "unsafe-path" //           a model file names a file outside its folder
  | "header-too-small"
  | "header-too-large"
  | "invalid-length"
  | "header-invalid"
  | "limit-exceeded"
  | "invalid-offset"
  | "invalid-shape"
  | "unsupported-dtype"
  | "unsupported-format" //    pickle, GGUF and others: not safetensors
  | "invalid-weights" //       NaN or infinite weights, or tied copies that differ
  | "tensor-mismatch" //       missing, unknown or wrongly shaped tensors: all of them listed
  | "unsupported-layout" //    a Doge form that is recognised and refused
  | "config-invalid"
  | "unsupported-model" //     model_type is not doge
  | "json-invalid"
  // The hub and its cache.
  | "hub-not-found" //         the hub knows no such model, revision or file
  | "hub-unauthorized" //      a token is missing, wrong, or not enough: private and gated models
  | "hub-unreachable" //       no connection, a broken one, or a server that fails; also after several tries
  | "hub-busy" //              too many requests: the hub asks to wait
  | "hub-response" //          the server answers, but not as a hub does: a login page, a proxy
  | "insecure-url" //          plain http to another machine
  | "integrity" //             wrong size or hash, twice; nothing of it was kept
  | "disk-full" //             the message has needed and free
  | "cache-unwritable" //      the cache folder cannot be written to
  | "offline-missing" //       offline, and not (wholly) in the cache: what is missing is listed
  // Text.
  | "tokenizer-invalid"
  | "tokenizer-missing"
  | "invalid-messages"
  | "template-error"
  | "template-limit" //        the chat template takes too long, prints too much or nests too deep, and was stopped
  | "template-missing";

/** An error with a stable `code` and a whole sentence: what was found, what was expected, what to do. */
export class DogeError extends Error {
  override readonly name = "DogeError";
  readonly code: ErrorCode;

  /** `scope` is the part that speaks ("core", "wasm"): the message reads "[doge:scope] sentence". */
  constructor(code: ErrorCode, message: string, options?: { readonly scope?: string; readonly cause?: unknown }) {
    super(
      `[doge:${options?.scope ?? "core"}] ${message}`,
      options?.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
  }
}

/** Whether `error` is a DogeError, with this code when one is given (also across copies of this module). */
export function isDogeError(error: unknown, code?: ErrorCode): error is DogeError {
  return (
    error instanceof Error && error.name === "DogeError" && (code === undefined || (error as DogeError).code === code)
  );
}

/** The DogeError that an aborted call rejects with; `signal.reason` is its cause. */
export function aborted(signal: AbortSignal, scope = "core"): DogeError {
  return new DogeError("aborted", "The call was aborted by its signal; nothing was changed.", {
    scope,
    cause: signal.reason,
  });
}
