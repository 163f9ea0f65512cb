// @doge-lm/tokenizer-fast: core's Tokenizer by Rust in WebAssembly, and the training of new vocabularies.
import { createTokenizer, type EncodeOptions, type Tokenizer } from "@doge-lm/core";
import { type Asset, compile, fault } from "./binary.ts";
import { type Batch, type FastEngine, wasmEngine } from "./engine.ts";

export { DogeError, isDogeError } from "@doge-lm/core";
export type { Asset } from "./binary.ts";
export type { Batch } from "./engine.ts";
export { type TrainOptions, trainTokenizer } from "./train.ts";

export interface FastOptions {
  /** The binary, when it is not beside this package. */
  readonly wasm?: Asset | undefined;
}

/** Core's tokenizer, and many texts at once. */
export interface FastTokenizer extends Tokenizer {
  /** What `encode` gives for each text, in few crossings into WebAssembly. */
  encodeBatch(texts: readonly string[], options?: EncodeOptions): Batch;
}

/**
 * A tokenizer from the parsed tokenizer.json and tokenizer_config.json: the checks, ids, texts and errors of core's
 * `createTokenizer`, and a factory for `load(…, { tokenizer: createFastTokenizer })`. Errors: "tokenizer-invalid" naming the
 * entry, "unavailable" without the binary. Calls throw "out-of-memory" for a text too large, and work again afterwards.
 */
export async function createFastTokenizer(
  tokenizerJson: unknown,
  tokenizerConfig?: unknown,
  options: FastOptions = {},
): Promise<FastTokenizer> {
  const module = await compile(options.wasm);
  let engine: FastEngine | undefined;
  const tokenizer = createTokenizer(tokenizerJson, tokenizerConfig, (parts) => (engine = wasmEngine(module, parts)));
  return {
    ...tokenizer,
    encodeBatch(texts, { addSpecial = true, parseSpecial = true } = {}) {
      texts.forEach((text, index) => {
        if (typeof text !== "string") {
          throw fault("invalid-argument", `Text ${index} of the batch is ${typeof text}, not a string.`);
        }
      });
      return engine!.encodeBatch(texts, addSpecial, parseSpecial);
    },
  };
}
