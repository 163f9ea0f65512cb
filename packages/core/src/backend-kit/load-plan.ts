// The options of a load, complete and possible.
import type { DType, LoadOptions, Routing } from "../backend.ts";
import type { Config } from "../config.ts";
import { aborted, DogeError } from "../errors.ts";

export interface LoadPlan {
  readonly dtype: DType;
  readonly routing: Routing;
  /** Tokens that one sequence holds at most. */
  readonly context: number;
  /** Tokens that all sequences hold at most, shared pasts counted once. */
  readonly room: number;
}

/** Fills in what was left out. `scope`: the backend's name. Errors: "unsupported-layout" for a window that no backend can keep,
 *  "invalid-argument" for a room that no text of `context` tokens fits, "aborted". */
export function planLoad(scope: string, config: Config, options: LoadOptions, rooms = 1): LoadPlan {
  const { dtype = "f32", context = config.maxPositions, room = rooms * context, signal } = options;
  if (signal?.aborted) throw aborted(signal, scope);
  // One window is kept per key/value head, by the one bias its keys have there.
  if (config.window !== null && config.biasHeads !== config.kvHeads) {
    throw new DogeError(
      "unsupported-layout",
      `A keep window of ${config.window} needs one bias per key/value head: the checkpoint has ${config.biasHeads} biases for ${config.kvHeads} heads.`,
      { scope },
    );
  }
  if (room < context) {
    throw new DogeError(
      "invalid-argument",
      `room is ${room} tokens, less than one context of ${context}: leave it out or ask for more.`,
      { scope },
    );
  }
  const routing = config.experts === null ? "per-token" : (options.routing ?? "reference");
  return { dtype, routing, context, room };
}
