// The public face of @doge-lm/core: platform-free; files and caches are in ./node and ./browser, what backends share in
// ./backend-kit. CONTRIBUTING.md says what each folder is about.
export type * from "./backend.ts";
export type { Checkpoint, TensorInfo } from "./checkpoint.ts";
export type { Choice, ChooseOptions } from "./choosing/choose.ts";
export { choose, survey } from "./choosing/lazy.ts";
export type { RateStore } from "./choosing/rates.ts";
export type { Rate, Tried, TriedState } from "./choosing/tried.ts";
export * from "./config.ts";
export * from "./contract/checked.ts";
export * from "./contract/derive.ts";
export type { LastingCheckpoint } from "./contract/recovering-model.ts";
export { type Fallback, type RecoveryOptions, recovering } from "./contract/recovery.ts";
export * from "./contract/timeline.ts";
export * from "./errors.ts";
export type { HubOptions, Progress } from "./hub/options.ts";
export { type Json, type JsonOptions, parseJson } from "./json.ts";
export * from "./load.ts";
export { type Hyperparameters, parseConfig } from "./loading/config-json.ts";
export { type ExpertsForm, probeExpertsForm, reachableRows } from "./loading/experts-form.ts";
export { type Files, fileList, filesFrom, hasFile, readJson, readText } from "./loading/files.ts";
export type { GenerationDefaults } from "./loading/generation-config.ts";
export { type CheckpointDescription, describe, weightBytes } from "./loading/inspect.ts";
export { canonicalName } from "./loading/layout.ts";
export { type FileCheckpoint, type OpenOptions, openCheckpoint } from "./loading/open.ts";
export * from "./loading/quantize.ts";
export { type HeaderOptions, readHeader, type TensorEntry } from "./loading/safetensors.ts";
export { floats, memoryCheckpoint, quantizable, readTensor, tensorShapes } from "./loading/weights.ts";
export * from "./running/doge.ts";
export { generate, type LoopOptions } from "./running/generate.ts";
export * from "./running/generation.ts";
export type { GenerateOptions } from "./running/options.ts";
export type { Overflow } from "./running/overflow.ts";
export * from "./running/scheduler.ts";
export * from "./running/session.ts";
export { type KeptSetOptions, keptSet } from "./sampling/kept-set.ts";
export * from "./sampling/noise.ts";
export { type AllowedTokens, type LogitsProcessor, type Processing, tokenMask } from "./sampling/processing.ts";
export {
  checkLogits,
  completeSampling,
  defaultSampling,
  draw,
  isAllowed,
  logProbabilities,
  logSumExp,
  mostLikely,
  type SamplingOptions,
  validateSampling,
} from "./sampling/sampling.ts";
export * from "./sentence.ts";
export * from "./task.ts";
export { byteSymbols } from "./text/byte-level.ts";
export {
  type ChatOptions,
  chatTemplate,
  type EncodeChatOptions,
  encodeChat,
  type Message,
  type RenderOptions,
  renderChat,
  type TemplateFiles,
} from "./text/chat.ts";
export { llama3Pattern, type SplitPattern } from "./text/split-patterns.ts";
export * from "./text/stop.ts";
export * from "./text/streamer.ts";
export type { TextStream } from "./text/text-stream.ts";
export {
  createTokenizer,
  type DecodeOptions,
  type EncodeOptions,
  type Tokenizer,
  type TokenizerFactory,
} from "./text/tokenizer.ts";
export type { TokenizerEngine } from "./text/tokenizer-engine.ts";
export type { AddedToken, TokenizerParts } from "./text/tokenizer-json.ts";
export * from "./trace.ts";
export type * from "./training.ts";
