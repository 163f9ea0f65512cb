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
import { checkedProvider, loadDoge } from "@doge-lm/core";
import { planLoad } from "@doge-lm/core/backend-kit";
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
    const { dtype, routing, context, room } = planLoad("reference", config, options, 16);
    const weights = await loadWeights(checkpoint, dtype, options.signal);
    return new ReferenceModel(config, weights, { dtype, routing, context, room });
  }

  async close(): Promise<void> {}
}
