// @doge-lm/reference: the plain executable definition of Doge's forward pass. Slow, exact, and there to be read:
// docs/model.md says in formulas what these files do in the same order.
import type {
  Backend,
  Capabilities,
  Checkpoint,
  Doge,
  LoadDogeOptions,
  LoadOptions,
  Model,
  Provider,
  Source,
} from "@doge-lm/core";
import { checkedProvider, DogeError, loadDoge } from "@doge-lm/core";
import { ReferenceModel } from "./model.ts";
import { loadWeights } from "./weights.ts";

export type * from "@doge-lm/core";
export { DogeError, isDogeError, TextStreamer, tokenMask } from "@doge-lm/core";

const can: Capabilities = Object.freeze({
  device: "javascript",
  dtypes: Object.freeze(["f32", "bf16", "q8", "q4"] as const),
  trains: false,
});

/** The backend that is available wherever JavaScript runs. */
export function reference(): Provider {
  return checkedProvider({
    name: "reference",
    probe: async () => ({ available: true, ...can }),
    open: async () => new ReferenceBackend(),
  });
}

/** Where and how to load a Doge; `backend` only to try others before or instead of this one. */
export type ReferenceLoadOptions = Omit<LoadDogeOptions, "backend"> & Partial<Pick<LoadDogeOptions, "backend">>;

/** Load the Doge in `source` (a folder, a browser's files, or files by name) on this backend. Errors: loadDoge's. */
export function load(source: Source, options: ReferenceLoadOptions = {}): Promise<Doge> {
  return loadDoge(source, { backend: reference(), ...options });
}

class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly can = can;

  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    const { config } = checkpoint;
    const { dtype = "f32", context = config.maxPositions, room = 16 * context, signal } = options;
    // One window is kept per key/value head, by the one bias its keys have there.
    if (config.window !== null && config.biasHeads !== config.kvHeads) {
      throw new DogeError(
        "unsupported-layout",
        `A keep window of ${config.window} needs one bias per key/value head: the checkpoint has ${config.biasHeads} biases for ${config.kvHeads} heads.`,
        { scope: "reference" },
      );
    }
    const routing = config.experts === null ? "per-token" : (options.routing ?? "reference");
    const weights = await loadWeights(checkpoint, dtype, signal);
    return new ReferenceModel(config, weights, { dtype, routing, context, room });
  }

  async close(): Promise<void> {}
}
